package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/incoming-mx/incoming/delivery/webhook"
	"github.com/incoming-mx/incoming/queue"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receive takes one message.
func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := webhook.Verify(secret, r.Header, body, 0); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var envelope webhook.Envelope
	file, _, err := r.FormFile("message")
	if err == nil {
		err = json.Unmarshal([]byte(r.FormValue("envelope")), &envelope)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if envelope.Recipients[0] == "nobody@example.org" {
		w.Header().Set("Incoming-Verdict", "reject")
		return
	}
	message, err := io.ReadAll(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Printf("%s to %s: %d octets\n", envelope.ID, envelope.Recipients, len(message)) // once for each ID
}

// A receiver that verifies signatures, and an adapter that delivers to it.
func Example() {
	receiver := httptest.NewServer(http.HandlerFunc(receive))
	defer receiver.Close()
	adapter, err := webhook.New(webhook.Config{URL: receiver.URL, Secrets: []string{secret}})
	if err != nil {
		log.Fatal(err)
	}

	// A server does this for each message that is due.
	if err := adapter.Deliver(context.Background(), someMessage()); err != nil {
		log.Fatal(err)
	}
	// Output: 01JQ to [bob@example.org]: 31 octets
}

func someMessage() *queue.Message {
	text := "Subject: hello\r\n\r\nHello, Bob.\r\n"
	return queue.NewMessage(queue.Entry{
		ID: "01JQ",
		Envelope: queue.Envelope{
			MailFrom: "alice@example.net",
			RcptTo:   []queue.Recipient{{Address: "bob@example.org"}},
		},
		Size: int64(len(text)),
	}, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ *strings.Reader }

func (raw) Close() error { return nil }
