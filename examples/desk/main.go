// Desk sorts the mail of a support desk by its subject: what names a ticket goes to
// that ticket, what is about an invoice to the books, and the rest is new.
package main

import (
	"context"
	"fmt"
	"log"
	"regexp"
	"sync"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var taken sync.WaitGroup
	ticket := regexp.MustCompile(`\[#(\d+)\]`)
	table, err := route.New([]route.Route{
		{Name: "tickets", When: []route.Condition{route.Header("Subject", ticket)}, To: to("desk", &taken, func(m *mailparse.Mail) {
			fmt.Printf("ticket %s: %q\n", ticket.FindStringSubmatch(m.Subject)[1], m.Reply())
		})},
		{Name: "invoices", When: []route.Condition{route.Header("Subject", regexp.MustCompile(`(?i)\binvoice\b`))}, To: to("books", &taken, func(m *mailparse.Mail) {
			fmt.Printf("for the books: %s\n", m.Subject)
		})},
		{Name: "rest", To: to("new", &taken, func(m *mailparse.Mail) {
			fmt.Printf("new from %s: %s\n", m.From[0].Address, m.Subject)
		})},
	})
	if err != nil {
		log.Fatal(err)
	}
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Adapter:   table,
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer stop()
		// The second is an encoded word, as mail programs write it.
		subjects := []string{"Re: [#4711] The printer", "=?UTF-8?Q?Invoice_f=C3=BCr_M=C3=A4rz?=", "Help!"}
		taken.Add(len(subjects))
		for _, subject := range subjects {
			if err := letter.Send(srv, "alice@example.net", []string{"desk@example.org"}, subject); err != nil {
				log.Fatal(err)
			}
		}
		taken.Wait() // several are in hand at once, in any order
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// to is a place that is given what a message says.
func to(name string, taken *sync.WaitGroup, take func(*mailparse.Mail)) []route.Destination {
	return []route.Destination{{Name: name, Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
		mail, err := mailparse.Read(m)
		if err != nil {
			return err
		}
		take(mail)
		taken.Done()
		return nil
	})}}
}
