// Minimal receives mail: the README's program, which here sends itself a message
// and ends when it has come.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue/diskqueue"
)

func main() {
	dir, err := os.MkdirTemp("", "incoming-example-") // a real one stays: it holds what was accepted
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	spool, err := diskqueue.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer spool.Close()

	ctx, stop := context.WithCancel(context.Background()) // a real one ends by a signal
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Domains:   []string{"example.org"},
		Queue:     spool,
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			h, err := m.Header()
			fmt.Printf("from %s: %s\n", m.Envelope.MailFrom, h.Get("Subject"))
			stop()
			return err // nil: done; incoming.Reject(err): never again; anything else: later
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.Send(srv, "alice@example.net", []string{"bob@example.org"}, "Lunch?"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
