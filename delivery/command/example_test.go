package command_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/incoming-mx/incoming/delivery/command"
	"github.com/incoming-mx/incoming/queue"
)

// A program that takes mail for bob and nobody else. Here it is a shell with a
// script, for it is its operator who says so; a message can never.
func Example() {
	adapter, err := command.New([]string{"/bin/sh", "-c", `
		test "$INCOMING_RCPT_TO" = bob@example.org && exec cat >/dev/null
		echo "no such user" >&2
		exit 67`}, nil)
	if err != nil {
		log.Fatal(err)
	}

	// A server does this for each message that is due.
	fmt.Println(adapter.Deliver(context.Background(), messageTo("bob@example.org")))
	fmt.Println(adapter.Deliver(context.Background(), messageTo("eve@example.org")))
	// Output:
	// <nil>
	// command: /bin/sh: exit status 67: "no such user"
}

func messageTo(rcpt string) *queue.Message {
	text := "Subject: hello\r\n\r\nHello.\r\n"
	return queue.NewMessage(queue.Entry{
		ID: "01JQ",
		Envelope: queue.Envelope{
			MailFrom: "alice@example.net",
			RcptTo:   []queue.Recipient{{Address: rcpt}},
		},
		Size: int64(len(text)),
	}, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ *strings.Reader }

func (raw) Close() error { return nil }
