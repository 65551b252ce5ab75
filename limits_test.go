package incoming_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/telemetry"
)

// Limits are sums over all listeners: n connections are served whichever way
// they came, number n+1 gets its one reply and is closed. R08.
func TestConnectionLimitsAreSummedOverListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits incoming.Limits
		reply  string
		limit  string
	}{
		{"all", incoming.Limits{Connections: 4}, "421 4.3.2", "limits.connections"},
		{"one peer", incoming.Limits{ConnectionsPerIP: 4, Exempt: prefixes("192.0.2.0/24")}, "421 4.7.0", "limits.connections_per_ip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			ca := testcert.NewCA(t)
			srv := incomingtest.NewServer(t, incoming.Config{Limits: c.limits, Hooks: eventHooks(j), Listeners: []incoming.Listener{
				{Name: "one", Address: "127.0.0.1:0"}, {Name: "two", Address: "127.0.0.1:0"},
				{Name: "tls", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}}})
			one, two, implicit := srv.Addr, srv.Server.Addr("two").String(), srv.Server.Addr("tls").String()
			var open []*incomingtest.Client
			for _, addr := range []string{one, two, one} {
				client := incomingtest.Dial(t, addr)
				client.Expect("220")
				open = append(open, client)
			}
			fourth := incomingtest.DialTLS(t, implicit, ca.ClientConfig("localhost"))
			fourth.Expect("220")

			for _, addr := range []string{one, two} {
				fifth := incomingtest.Dial(t, addr)
				fifth.Expect(c.reply)
				fifth.ExpectClosed()
			}
			incomingtest.Dial(t, implicit).ExpectClosed() // a reply in clear could not be read
			if n := srv.Status().Sessions; n != 4 {
				t.Errorf("%d sessions", n)
			}
			open[0].Play("C: QUIT\nS: 221")
			open[0].Close()
			waitFor(t, "the session to be over", func() bool { return srv.Status().Sessions == 3 })
			again := incomingtest.Dial(t, two)
			again.Expect("220")
			again.Close()
			silent := func(e string) bool {
				return strings.HasSuffix(e, "reason=past "+c.limit+", closed without a reply")
			}
			if got := j.all(); !slices.ContainsFunc(got, silent) {
				t.Errorf("nothing tells of the connection closed in silence: %q", got)
			}
			if got := j.all(); !slices.Contains(got, "limit "+c.limit) || !slices.Contains(got, "closed limit") {
				t.Errorf("told %q", got)
			}
		})
	}
}

func TestTLSInFourModes(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	for _, rsa := range []bool{false, true} {
		cert, key := ca.Issue(t, testcert.Options{RSA: rsa}).WriteFiles(t, t.TempDir())
		j := newJournal()
		listeners := []incoming.Listener{{Name: "disabled", Address: "127.0.0.1:0"}}
		for name, mode := range map[string]incoming.TLSMode{
			"optional": incoming.TLSOptional, "required": incoming.TLSRequired, "implicit": incoming.TLSImplicit} {
			listeners = append(listeners, incoming.Listener{Name: name, Address: "127.0.0.1:0", TLS: mode, CertFile: cert, KeyFile: key})
		}
		srv := incomingtest.NewServer(t, incoming.Config{Listeners: listeners, Hooks: eventHooks(j)})
		dial := func(name string) *incomingtest.Client { return incomingtest.Dial(t, srv.Server.Addr(name).String()) }
		send := func(c *incomingtest.Client, name, version string) {
			t.Helper()
			c.Play("C: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221")
			m := srv.Next(t)
			if m.Listener != name {
				t.Errorf("came by %q, want %q", m.Listener, name)
			}
			if (m.TLS == nil) != (version == "") || m.TLS != nil && (m.TLS.Version != version || m.TLS.ServerName != "localhost" || m.TLS.Cipher == "") {
				t.Errorf("%s: TLS %+v, want %q", name, m.TLS, version)
			}
		}

		c := dial("disabled")
		c.Play("S: 220\nC: STARTTLS\nS: 502 5.5.1")
		send(c, "disabled", "")

		c = dial("optional")
		c.Expect("220")
		send(c, "optional", "")
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conf := ca.ClientConfig("localhost")
			conf.MaxVersion = version
			c = dial("optional")
			c.Play("S: 220\nC: EHLO x\nS: 250")
			c.StartTLS(conf)
			send(c, "optional", tls.VersionName(version))
		}

		c = dial("required")
		c.Play("S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 530 5.7.0\nC: NOOP\nS: 250\nC: RSET\nS: 250")
		c.StartTLS(ca.ClientConfig("localhost"))
		send(c, "required", "TLS 1.3")

		c = incomingtest.DialTLS(t, srv.Server.Addr("implicit").String(), ca.ClientConfig("localhost"))
		c.Expect("220")
		send(c, "implicit", "TLS 1.3")

		// TLS 1.1 is under the floor.
		old := ca.ClientConfig("localhost")
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		dialer := tls.Dialer{Config: old}
		if nc, err := dialer.DialContext(t.Context(), "tcp", srv.Server.Addr("implicit").String()); err == nil {
			nc.Close()
			t.Error("TLS 1.1 is accepted")
		}
		j.await(t, "closed tls")
	}
}

// T06: a session ticket makes TLS 1.3 clients of Microsoft give up.
func TestNoSessionTicketIsSent(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	pair := ca.Issue(t, testcert.Options{})
	cert, key := pair.WriteFiles(t, t.TempDir())
	given := &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	chosen := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return given, nil }}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{
		{Name: "files", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, CertFile: cert, KeyFile: key},
		{Name: "given", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, TLSConfig: given},
		{Name: "chosen", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, TLSConfig: chosen},
		{Name: "starttls", Address: "127.0.0.1:0", TLS: incoming.TLSOptional, CertFile: cert, KeyFile: key},
	}})
	for _, name := range []string{"files", "given", "chosen", "starttls"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			tickets := &ticketCounter{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			conf := ca.ClientConfig("localhost")
			conf.ClientSessionCache, conf.MaxVersion = tickets, version
			addr := srv.Server.Addr(name).String()
			var c *incomingtest.Client
			if name == "starttls" {
				c = incomingtest.Dial(t, addr)
				c.Play("S: 220\nC: EHLO x\nS: 250")
				c.StartTLS(conf)
			} else {
				c = incomingtest.DialTLS(t, addr, conf)
				c.Expect("220")
			}
			c.Play("C: EHLO x\nS: 250\nC: QUIT\nS: 221") // a ticket would come before the first reply
			if tickets.put != 0 {
				t.Errorf("%s, %s: %d tickets", name, tls.VersionName(version), tickets.put)
			}
		}
	}
}

// T13: whatever name is asked for, and none, our certificate is the answer.
func TestAnyServerNameIsServed(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	pair := ca.Issue(t, testcert.Options{})
	cert, key := pair.WriteFiles(t, t.TempDir())
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{
		{Name: "files", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, CertFile: cert, KeyFile: key},
		{Name: "given", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, TLSConfig: pair.ServerConfig()}}})
	for _, listener := range []string{"files", "given"} {
		for _, name := range []string{"localhost", "", "unknown.example", "a_b.example", "192.0.2.1"} {
			conf := ca.ClientConfig(name)
			conf.InsecureSkipVerify = true // the name is what is wrong with it
			c := incomingtest.DialTLS(t, srv.Server.Addr(listener).String(), conf)
			c.Play("S: 220\nC: EHLO x\nS: 250\nC: QUIT\nS: 221")
			if got := c.TLS().PeerCertificates[0].Raw; !bytes.Equal(got, pair.TLS.Certificate[0]) {
				t.Errorf("%s, asked for %q: another certificate", listener, name)
			}
		}
	}
}

type ticketCounter struct {
	tls.ClientSessionCache
	put int
}

func (c *ticketCounter) Put(key string, cs *tls.ClientSessionState) {
	if cs != nil {
		c.put++
	}
	c.ClientSessionCache.Put(key, cs)
}

// A connection past a limit is dealt with by the goroutine that accepted it, from
// its first fact to its last: it costs none of its own.
func TestARefusedConnectionCostsNoGoroutine(t *testing.T) {
	t.Parallel()
	j := newJournal()
	inAcceptor := func(fact string) {
		stack := string(debug.Stack())
		j.add(fmt.Sprintf("%s %t", fact, strings.Contains(stack, "incoming.(*Server).accept(") && !strings.Contains(stack, "smtp.Serve")))
	}
	srv := incomingtest.NewServer(t, incoming.Config{Limits: incoming.Limits{Connections: 1}, Hooks: telemetry.Hooks{
		SessionConnect:  func(telemetry.SessionConnect) { inAcceptor("connect") },
		SessionRejected: func(telemetry.SessionRejected) { inAcceptor("rejected") },
		SessionClosed:   func(telemetry.SessionClosed) { inAcceptor("closed") },
	}})
	held := srv.Dial()
	held.Expect("220")
	want := []string{"connect false"} // that one has a goroutine
	for range 20 {
		c := srv.Dial()
		c.Expect("421 4.3.2")
		c.ExpectClosed()
		c.Close()
		want = append(want, "connect true", "rejected true", "closed true")
	}
	waitFor(t, "all to be told", func() bool { return len(j.all()) == len(want) })
	held.Close()
	j.await(t, "closed false")
	if got := j.all(); !slices.Equal(got, append(want, "closed false")) {
		t.Errorf("told %q", got)
	}
}
