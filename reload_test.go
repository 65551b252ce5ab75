package incoming_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

func refuse(text string) incoming.Policy {
	return policy.OnMail(func(context.Context, smtp.Path, *policy.Transaction) error { return policy.Reject(text) })
}

func TestReloadIsForNewSessions(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Policies: []incoming.Policy{refuse("Old")}})
	old := srv.Dial()
	old.Play("S: 220 mx.test\nC: EHLO x\nS: 250")
	if err := srv.Reload(incoming.Config{
		Hostname: "new.test", Domains: []string{"example.org"}, Policies: []incoming.Policy{policy.OnData(func(context.Context, *policy.Transaction) error {
			return policy.Reject("New")
		})},
		Recipient: func(_ context.Context, to incoming.Address) error {
			if to.Local == "nobody" {
				return policy.Reject("Nobody")
			}
			return nil
		},
		Limits: incoming.Limits{Connections: 2, MessageSize: 1000},
	}); err != nil {
		t.Fatal(err)
	}
	old.Play("C: MAIL FROM:<a@example.net>\nS: 550 5.7.1 Old")
	fresh := srv.Dial()
	fresh.Play(`
		S: 220 new.test
		C: EHLO x
		S: 250
		C: MAIL FROM:<a@example.net> SIZE=1001
		S: 552 5.3.4
		C: MAIL FROM:<a@example.net>
		S: 250
		C: RCPT TO:<b@example.com>
		S: 550 5.7.1
		C: RCPT TO:<nobody@example.org>
		S: 550 5.7.1 Nobody
		C: RCPT TO:<b@example.org>
		S: 250
		C: DATA
		S: 550 5.7.1 New
	`)
	third := srv.Dial()
	third.Expect("421 4.3.2")
	old.Play("C: MAIL FROM:<a@example.net>\nS: 550 5.7.1 Old")
	if got := srv.Status().Hostname; got != "new.test" {
		t.Errorf("hostname %q", got)
	}
}

func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	pair := ca.Issue(t, testcert.Options{})
	cert, key := pair.WriteFiles(t, t.TempDir())
	mx := incoming.Listener{Name: "mx", Address: "127.0.0.1:0", TLS: incoming.TLSOptional, CertFile: cert, KeyFile: key}
	plain := incoming.Listener{Name: "plain", Address: "127.0.0.1:0"}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{mx, plain}})
	with := func(edit func(mx, plain *incoming.Listener)) []incoming.Listener {
		a, b := mx, plain
		edit(&a, &b)
		return []incoming.Listener{a, b}
	}
	junk := t.TempDir() + "/junk"
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  incoming.Config
		want []string
	}{
		{"a bad domain", incoming.Config{Domains: []string{"a b"}}, []string{"a b"}},
		{"a bad hostname", incoming.Config{Hostname: "a\r\nb"}, []string{"hostname"}},
		{"a nil policy", incoming.Config{Policies: []incoming.Policy{nil}}, []string{"policy 1"}},
		{"another address", incoming.Config{Listeners: with(func(mx, _ *incoming.Listener) { mx.Address = "127.0.0.1:1" })}, []string{`"mx"`, "restart"}},
		{"another mode", incoming.Config{Listeners: with(func(mx, _ *incoming.Listener) { mx.TLS = incoming.TLSRequired })}, []string{`"mx"`, "restart"}},
		{"one less", incoming.Config{Listeners: []incoming.Listener{mx}}, []string{`"plain"`, "removed", "restart"}},
		{"one more", incoming.Config{Listeners: append(with(func(_, _ *incoming.Listener) {}), incoming.Listener{Name: "new", Address: "127.0.0.1:0"})},
			[]string{`"new"`, "added", "restart"}},
		{"a bad certificate", incoming.Config{Listeners: with(func(mx, _ *incoming.Listener) { mx.CertFile = junk })}, []string{`"mx"`, junk}},
	} {
		c.cfg.Limits.Connections = 1 // must not come into force
		err := srv.Reload(c.cfg)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
	for range 2 {
		c := srv.Dial()
		c.Play("S: 220 mx.test\nC: EHLO x\nS: 250")
		c.StartTLS(ca.ClientConfig("localhost"))
	}
	for _, l := range srv.Status().Listeners {
		for _, c := range l.Certificates {
			if c.Err != nil {
				t.Errorf("listener %s: %v", l.Name, c.Err)
			}
		}
	}
}

// T12.
func TestReloadReadsCertificatesAgain(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	dir, other := t.TempDir(), t.TempDir()
	first, second, third, fourth := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{RSA: true}), ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{})
	cert, key := first.WriteFiles(t, dir)
	j := newJournal()
	mx := incoming.Listener{Name: "mx", Address: "127.0.0.1:0", TLS: incoming.TLSOptional, CertFile: cert, KeyFile: key}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{mx}, Hooks: eventHooks(j)})
	shake := func(c *incomingtest.Client, want *testcert.Pair) {
		t.Helper()
		c.StartTLS(ca.ClientConfig("localhost"))
		if got := c.TLS().PeerCertificates[0].Raw; !bytes.Equal(got, want.TLS.Certificate[0]) {
			t.Error("not the certificate wanted")
		}
		c.Play("C: EHLO x\nS: 250")
	}
	dial := func() *incomingtest.Client {
		c := srv.Dial()
		c.Play("S: 220\nC: EHLO x\nS: 250")
		return c
	}
	running := dial()
	shake(running, first)
	waiting := dial()

	second.WriteFiles(t, dir)
	if err := srv.Reload(incoming.Config{Hostname: "mx.test"}); err != nil {
		t.Fatal(err)
	}
	shake(dial(), second)
	shake(waiting, second)
	running.Play("C: NOOP\nS: 250")
	if c := srv.Status().Listeners[0].Certificates[0]; !c.NotAfter.Equal(second.TLS.Leaf.NotAfter) || c.Err != nil || c.File != cert {
		t.Errorf("status %+v", c)
	}
	j.await(t, "certificate 1 "+second.TLS.Leaf.NotAfter.String())

	// Other files.
	moved := mx
	moved.CertFile, moved.KeyFile = third.WriteFiles(t, other)
	if err := srv.Reload(incoming.Config{Listeners: []incoming.Listener{moved}}); err != nil {
		t.Fatal(err)
	}
	shake(dial(), third)

	// No files, and files again.
	given := mx
	given.CertFile, given.KeyFile, given.TLSConfig = "", "", &tls.Config{Certificates: []tls.Certificate{fourth.TLS}}
	if err := srv.Reload(incoming.Config{Listeners: []incoming.Listener{given}}); err != nil {
		t.Fatal(err)
	}
	shake(dial(), fourth)
	if err := srv.Reload(incoming.Config{Listeners: []incoming.Listener{mx}}); err != nil {
		t.Fatal(err)
	}
	shake(dial(), second)
}
