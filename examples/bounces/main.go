// Bounces takes the reports of mail that could not be delivered, and says which
// address is to be written to no more. Only what came with the null sender is
// believed to be one.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

const report = "From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered\r\n" +
	"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" +
	"--b\r\n\r\nIt could not be delivered.\r\n" +
	"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n" +
	"Final-Recipient: rfc822; gone@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 No such user\r\n\r\n" +
	"Final-Recipient: rfc822; full@example.net\r\nAction: delayed\r\nStatus: 4.2.2\r\n" +
	"--b--\r\n"

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil),
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			defer stop()
			return take(m)
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.SendText(srv, "", []string{"bounces+newsletter-7@example.org"}, report); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func take(m *incoming.Message) error {
	mail, err := mailparse.Read(m)
	if err != nil {
		return err
	}
	if mail.Kind != mailparse.KindBounce || m.Envelope.MailFrom != "" {
		return incoming.Reject(errors.New("no bounce"))
	}
	_, about := mailparse.SplitPlus(m.Envelope.RcptTo[0].Address)
	for _, r := range mail.Bounce.Recipients {
		if r.Action == "failed" && strings.HasPrefix(r.Status, "5.") {
			fmt.Printf("%s: never again to %s: %s\n", about, r.Address, r.Diagnostic)
		} else {
			fmt.Printf("%s: %s is %s (%s)\n", about, r.Address, r.Action, r.Status)
		}
	}
	return nil
}
