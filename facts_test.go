package incoming_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
)

// What a client says in clear counts no more once it has begun TLS.
func TestFactsOfAHelloInClearDoNotOutliveSTARTTLS(t *testing.T) {
	t.Parallel()
	note := func(key string, v any, when func(tx *policy.Transaction) bool) func(*policy.Transaction) error {
		return func(tx *policy.Transaction) error {
			if !when(tx) {
				return nil
			}
			return tx.SetFact(key, v)
		}
	}
	atConnect := note("test.peer", "known", func(*policy.Transaction) bool { return true })
	inClear := note("test.hello", "friend", func(tx *policy.Transaction) bool { return tx.TLS == nil })
	ca := testcert.NewCA(t)
	srv := incomingtest.NewServer(t, incoming.Config{
		Listeners: []incoming.Listener{{Name: "mx", Address: "127.0.0.1:0", TLS: incoming.TLSOptional,
			TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}},
		Policies: []incoming.Policy{
			policy.OnConnect(func(_ context.Context, _ netip.AddrPort, tx *policy.Transaction) error { return atConnect(tx) }),
			policy.OnHello(func(_ context.Context, _ string, tx *policy.Transaction) error { return inClear(tx) }),
		}})
	const mail = "C: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354"
	for secure, want := range map[bool]string{
		false: `{"test.hello":"friend","test.peer":"known"}`,
		true:  `{"test.peer":"known"}`,
	} {
		c := srv.Dial()
		c.Play("S: 220\nC: EHLO friend.example\nS: 250")
		if secure {
			c.StartTLS(ca.ClientConfig("localhost"))
			c.Play("C: EHLO other.example\nS: 250")
		}
		c.Play(mail)
		c.Text("X: y\r\n\r\n").Expect("250")
		if got := mustJSON(t, srv.Next(t).Facts); got != want {
			t.Errorf("STARTTLS %v: facts %s, want %s", secure, got, want)
		}
	}
}
