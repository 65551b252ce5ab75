// Recipients gives each recipient of a message its own verdict: delivered, never
// again, or later, and nobody gets it twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	deliver := func(ctx context.Context, m *incoming.Message) error {
		fmt.Printf("attempt %d: %v\n", m.Attempt, m.Envelope.Addresses())
		results := make(map[string]error)
		for _, rcpt := range m.Envelope.Addresses() {
			switch {
			case rcpt == "gone@example.org":
				results[rcpt] = incoming.Reject(errors.New("left the company"))
			case rcpt == "busy@example.org" && m.Attempt == 1:
				results[rcpt] = incoming.RetryAfter(time.Millisecond, errors.New("mailbox locked"))
			default:
				results[rcpt] = nil // delivered
			}
		}
		return incoming.PerRecipient(results)
	}
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Adapter:   incoming.AdapterFunc(deliver),
		OnDead: func(ctx context.Context, m *incoming.Message, reason error) {
			for _, o := range m.Settled {
				if o.Rejected != "" {
					fmt.Printf("dead for %s: %s\n", o.Recipient, o.Rejected)
				}
			}
			stop()
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		to := []string{"bob@example.org", "gone@example.org", "busy@example.org"}
		if err := letter.Send(srv, "alice@example.net", to, "Hello, all"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
