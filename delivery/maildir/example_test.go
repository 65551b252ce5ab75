package maildir_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/incoming-mx/incoming/delivery/maildir"
	"github.com/incoming-mx/incoming/queue"
)

// One Maildir for each recipient.
func Example() {
	base, err := os.MkdirTemp("", "mail")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	adapter, err := maildir.New(filepath.Join(base, "{domain}", "{rcpt}"), nil)
	if err != nil {
		log.Fatal(err)
	}

	// A server does this for each message that is due.
	if err := adapter.Deliver(context.Background(), someMessage()); err != nil {
		log.Fatal(err)
	}

	text, err := os.ReadFile(filepath.Join(base, "example.org", "bob@example.org", "new", "01JQ"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.ReplaceAll(string(text), "\r\n", "\n"))
	// Output:
	// Return-Path: <alice@example.net>
	// Delivered-To: Bob@example.org
	// Subject: hello
	//
	// Hello, Bob.
}

func someMessage() *queue.Message {
	text := "Subject: hello\r\n\r\nHello, Bob.\r\n"
	return queue.NewMessage(queue.Entry{
		ID: "01JQ",
		Envelope: queue.Envelope{
			MailFrom: "alice@example.net",
			RcptTo:   []queue.Recipient{{Address: "Bob@example.org"}},
		},
		Size: int64(len(text)),
	}, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ *strings.Reader }

func (raw) Close() error { return nil }
