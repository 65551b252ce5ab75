// Refuse says no to the sender, who then knows: in a policy, before the message
// is accepted. An Adapter's Reject comes too late for that, save where
// the sender waits for it: see the example sync.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
)

// ticketExists looks at the recipient: nothing but its address is needed.
func ticketExists(ctx context.Context, to incoming.Address) error {
	if to.Local != "ticket-1" {
		return &incoming.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such ticket"}
	}
	return nil
}

// noSpam looks at the whole message, when all of it is in and nothing is kept.
func noSpam(ctx context.Context, t *policy.Transaction) error {
	text, err := t.Open()
	if err != nil {
		return err // ours, not the sender's: 451
	}
	defer text.Close()
	all, err := io.ReadAll(io.LimitReader(text, 1<<20))
	if err != nil {
		return err
	}
	if strings.Contains(string(all), "PRIZE") {
		return policy.Reject("We want no prizes")
	}
	return nil
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Domains:   []string{"example.org"},
		Recipient: ticketExists,
		Policies:  []incoming.Policy{policy.OnMessage(noSpam)},
		Queue:     memqueue.New(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer stop()
		for _, m := range []struct{ to, subject string }{
			{"ticket-1@example.com", "Help"},
			{"ticket-2@example.org", "Help"},
			{"ticket-1@example.org", "You have won a PRIZE"},
			{"ticket-1@example.org", "Help"},
		} {
			fmt.Printf("%s, %q: %v\n", m.to, m.subject, letter.Send(srv, "alice@example.net", []string{m.to}, m.subject))
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
