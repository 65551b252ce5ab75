// Policy says who may send what: a policy of one's own, beside built-in ones,
// which also leaves a fact for the application.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
)

// customers lets only those send whom we know, and tells the application their
// number.
func customers(known map[string]int) incoming.Policy {
	return policy.Named("customers", policy.OnMail(
		func(ctx context.Context, from smtp.Path, t *policy.Transaction) error {
			number, ok := known[from.String()]
			if !ok {
				return policy.Reject("We do not know you")
			}
			return t.SetFact("customers.number", number)
		}))
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Policies: []incoming.Policy{
			policy.RateLimit(&policy.RateLimitOptions{Count: 100}), // a minute, of one address
			customers(map[string]int{"alice@example.net": 42}),
		},
		Queue: memqueue.New(nil),
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			fmt.Printf("from customer %s\n", m.Facts["customers.number"])
			stop()
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		err := letter.Send(srv, "mallory@example.net", []string{"bob@example.org"}, "Prize")
		fmt.Printf("mallory: %v\n", err)
		if err := letter.Send(srv, "alice@example.net", []string{"bob@example.org"}, "Order"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
