package incoming_test

import (
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// Each accepted RCPT has its reply, one that came twice too; the message is one,
// with each recipient once, and says that it came by LMTP.
func TestLMTPAnswersEachRecipient(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	srv := incomingtest.NewServer(t, incoming.Config{Domains: []string{"example.org"}, Listeners: []incoming.Listener{
		{Name: "clear", Address: "127.0.0.1:0", LMTP: true},
		{Name: "tls", Address: "127.0.0.1:0", LMTP: true, TLS: incoming.TLSImplicit, TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}}})
	for name, with := range map[string]string{"clear": " with LMTP id ", "tls": " with LMTPS id "} {
		client := incomingtest.Dial(t, srv.Server.Addr(name).String())
		if name == "tls" {
			client.Handshake(ca.ClientConfig("localhost"))
		}
		client.Play(`
			S: 220 mx.test LMTP incoming
			C: EHLO x
			S: 500 5.5.1
			C: LHLO x
			S: 250
			C: MAIL FROM:<a@example.net>
			S: 250
			C: RCPT TO:<b@example.org>
			S: 250
			C: RCPT TO:<elsewhere@example.com>
			S: 550 5.7.1
			C: RCPT TO:<c@example.org>
			S: 250
			C: RCPT TO:<b@example.org>
			S: 250
			C: DATA
			S: 354
			C: Subject: x
			C:
			C: .
			S: 250 2.0.0 Ok: queued as
			S: 250 2.0.0 Ok: queued as
			S: 250 2.0.0 Ok: queued as
			C: QUIT
			S: 221
		`)
		m := srv.Next(t)
		if len(m.Envelope.RcptTo) != 2 || !strings.Contains(string(m.Raw), with) {
			t.Errorf("%s: %v\n%s", name, m.Envelope.RcptTo, m.Raw)
		}
	}
	srv.None()
}

func TestLMTPIsNotForPort25AndNotChangedByReload(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{"127.0.0.1:25": false, "127.0.0.1:24": true} {
		_, err := incoming.New(incoming.Config{Queue: newQueue(t, &memqueue.Options{}), Listeners: []incoming.Listener{{Address: address, LMTP: true}}})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "RFC 2033") {
			t.Errorf("%s: %v", address, err)
		}
	}
	l := incoming.Listener{Name: "mx", Address: "127.0.0.1:0"}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{l}})
	l.LMTP = true
	if err := srv.Reload(incoming.Config{Listeners: []incoming.Listener{l}}); err == nil || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("a reload to LMTP: %v", err)
	}
}
