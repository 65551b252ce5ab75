// Reading prints what a message says: subject, text and attachments.
package main

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil), // diskqueue.Open where mail must not be lost
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			defer stop()
			return show(m)
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.SendText(srv, "alice@example.net", []string{"support+case-42@example.org"}, text); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// show is an Adapter's work. It fails only when the message cannot be read from
// where it is stored.
func show(m *incoming.Message) error {
	mail, err := mailparse.Read(m)
	if err != nil {
		return err
	}
	fmt.Printf("%s to %s: %s\n", mail.Kind, mail.Recipients[0].Plus, mail.Subject)
	fmt.Println(mail.Reply()) // mail.Text is all of it
	for _, a := range mail.Attachments {
		fmt.Println(a.Name, a.Type, a.Size) // a.Open() reads it
	}
	return nil
}

var text = strings.ReplaceAll(`From: =?utf-8?Q?Alice_M=C3=BCller?= <alice@example.net>
To: support+case-42@example.org
Subject: =?utf-8?Q?Re:_Your_caf=C3=A9?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=frontier

--frontier
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

The caf=E9 is closed.

On 5 Jan 2026 Support <support+case-42@example.org> wrote:
> Is it open?
--frontier
Content-Type: application/pdf
Content-Disposition: attachment; filename*=utf-8''%C3%B6ffnungszeiten.pdf
Content-Transfer-Encoding: base64

JVBERi0xLjQK
--frontier--
`, "\n", "\r\n")
