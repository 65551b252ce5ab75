// Users refuses at RCPT whom the application has no account for: it asks a func of
// one's own, once for each address, and remembers the answer for a while.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/policy/recipients"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// hasAccount stands for a query of the application's database.
func hasAccount(ctx context.Context, address string) (bool, error) {
	fmt.Printf("is there an account %s?\n", address)
	return address == "bob@example.org", ctx.Err()
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	always, err := recipients.NewList("abuse@example.org", "@tickets.example.org")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Policies:  []incoming.Policy{recipients.New([]recipients.Source{always, recipients.Func(hasAccount)}, nil)},
		Queue:     memqueue.New(nil),
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			fmt.Printf("for %v\n", m.Envelope.Addresses())
			stop()
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for range 2 {
			err := letter.Send(srv, "mallory@example.net", []string{"guess@example.org"}, "Prize")
			fmt.Printf("guess: %v\n", err)
		}
		to := []string{"Bob+shop@example.org", "bob@example.org", "7@tickets.example.org"}
		if err := letter.Send(srv, "alice@example.net", to, "Hello"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
