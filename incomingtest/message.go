package incomingtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/mailparse"
	"github.com/incoming-mx/incoming/queue"
)

// Message is a message from a file, for an adapter or a parser to be tried with; it
// needs no server and no network. Its lines may end with LF alone: they end with CRLF
// in the message. Its sender is the address in From, the null one when there is none
// that can be read; its ID is made from the file's name. It can be read for as long
// as the test runs.
func Message(t testing.TB, file string, rcpts ...string) *incoming.Message {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("incomingtest: %v", err)
	}
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	e := queue.Entry{ID: queue.ID("TEST-" + strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))}
	for _, r := range rcpts {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: r})
	}
	e.ReceivedAt, e.Listener, e.Hello, e.Peer = time.Now().UTC().Truncate(time.Millisecond), "test", "client.test", "192.0.2.1:25"
	m := deliverytest.NewMessage(e, string(text))
	h, err := m.Header()
	if err != nil {
		t.Fatalf("incomingtest: %s: %v", file, err)
	}
	if from := mailparse.Addresses(h.Get("From")); len(from) > 0 && strings.Contains(from[0].Address, "@") {
		m.Envelope.MailFrom = from[0].Address
	}
	t.Cleanup(m.Expire)
	return m
}
