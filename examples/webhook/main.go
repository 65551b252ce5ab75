// Webhook hands each message to an HTTP endpoint, signed, and shows such an
// endpoint that verifies the signature.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery/webhook"
	"github.com/incoming-mx/incoming/examples/internal/letter"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		receive(w, r)
		stop()
	}))
	defer endpoint.Close()

	adapter, err := webhook.New(webhook.Config{URL: endpoint.URL, Secrets: []string{secret}})
	if err != nil {
		log.Fatal(err)
	}
	srv, err := incoming.New(incoming.Config{
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0"}},
		Queue:     memqueue.New(nil), // diskqueue.Open where mail must not be lost
		Adapter:   adapter,
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := letter.Send(srv, "alice@example.net", []string{"bob@example.org"}, "Invoice"); err != nil {
			log.Fatal(err)
		}
	}()
	if err := srv.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// receive is the endpoint: any status of 2xx is "done", the field
// Incoming-Verdict: reject is "never again", anything else is "later".
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
	if err := json.Unmarshal([]byte(r.FormValue("envelope")), &envelope); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Printf("posted: from %s to %s\n", envelope.Sender, envelope.Recipients)
}
