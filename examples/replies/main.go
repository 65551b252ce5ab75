// Replies takes answers by mail: the address to answer to is minted for a ticket,
// so that what comes back says by itself to which it belongs, and nobody can write
// to another's.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/policy/minted"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

const answer = "From: alice@example.net\r\nSubject: Re: Your ticket\r\n\r\n" +
	"It works now, thank you.\r\n\r\nOn Mon, 2 Mar 2026 at 10:00, Support <desk@example.org> wrote:\r\n> Have you tried turning it off?\r\n"

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	m, err := minted.New([]byte("from a file that nobody else can read"))
	if err != nil {
		log.Fatal(err)
	}
	verify, err := m.Policy("tickets")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Policies:  []incoming.Policy{verify},
		Adapter: incoming.AdapterFunc(func(_ context.Context, msg *incoming.Message) error {
			defer stop()
			mail, err := mailparse.Read(msg)
			if err != nil {
				return err
			}
			for _, rcpt := range msg.Envelope.Addresses() {
				says, found, err := minted.Of(msg.Facts, rcpt)
				if err != nil {
					return err
				}
				if found {
					fmt.Printf("ticket %s: %q\n", says.Data, mail.Reply())
				}
			}
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	// The Reply-To of the mail that asks.
	address, err := m.Mint(minted.Address{Route: "tickets", Domain: "example.org", Data: "4711", Expires: time.Now().Add(minted.DefaultTTL)})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		forged := "tickets+4712@example.org"
		fmt.Println(letter.SendText(srv, "mallory@example.net", []string{forged}, answer))
		if err := letter.SendText(srv, "alice@example.net", []string{address}, answer); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
