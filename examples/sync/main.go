// Sync lets the sender wait for the application: its verdict is the reply, in its own
// words where it has some.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
)

var (
	errBusy    = errors.New("the desk's database is being moved")
	errClosed  = incoming.Reject(errors.New("ticket 2 is closed"))
	errInvoice = incoming.Reject(&smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "Send invoices to billing"})
)

// desk files mail under its ticket.
func desk(ctx context.Context, m *incoming.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	switch subject := h.Get("Subject"); {
	case strings.Contains(subject, "invoice"):
		return errInvoice
	case strings.Contains(subject, "ticket 2"):
		return errClosed
	case strings.Contains(subject, "ticket 3"):
		return errBusy
	}
	return nil
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Adapter:   incoming.AdapterFunc(desk),
		Delivery:  incoming.Delivery{Accept: incoming.Acceptance{Mode: delivery.Sync}},
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer stop()
		for _, subject := range []string{"On ticket 1", "On ticket 2", "On ticket 3", "Your invoice"} {
			fmt.Printf("%q: %v\n", subject, letter.Send(srv, "alice@example.net", []string{"desk@example.org"}, subject))
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
