package dnsbl_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/dnsbl"
	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/incoming-mx/incoming/proxyproto"
	"github.com/miekg/dns"
)

// serveDNS answers on loopback from records, a line each.
func serveDNS(t *testing.T, records string) (addr string) {
	t.Helper()
	answers := make(map[dns.Question][]dns.RR)
	for line := range strings.Lines(strings.TrimSpace(records)) {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		h := rr.Header()
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: dns.ClassINET}
		answers[q] = append(answers[q], rr)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		if r.Answer = answers[m.Question[0]]; r.Answer == nil {
			r.Rcode = dns.RcodeNameError
		}
		if err := w.WriteMsg(r); err != nil {
			t.Error(err)
		}
	})}
	go s.ActivateAndServe() // ends with Shutdown
	<-up
	t.Cleanup(func() { s.Shutdown() })
	return pc.LocalAddr().String()
}

// From the wire to the DNS and back: a listed client is told which list has it, and
// may write to postmaster; what its message carries is told to the application.
func TestAListedClientIsToldAtRcpt(t *testing.T) {
	t.Parallel()
	addr := serveDNS(t, `
2.0.0.127.bl.example. 60 A 127.0.0.2
7.2.0.192.bl.example. 60 A 127.0.0.3
7.2.0.192.bl.example. 60 TXT "the list's own text"
8.2.0.192.bl.example. 60 A 127.0.0.99
2.0.0.127.public.example. 60 A 127.255.255.254
7.2.0.192.public.example. 60 A 127.255.255.254`)
	r, err := resolver.New(&resolver.Options{Servers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	var said told
	p, err := dnsbl.New(r, []dnsbl.Zone{{Name: "public.example", Codes: codes(t, "127.0.0.2")}, {Name: "bl.example", Codes: codes(t, "127.0.0.2-127.0.0.4")}}, said.options())
	if err != nil {
		t.Fatal(err)
	}
	srv := incomingtest.NewServer(t, incoming.Config{
		Domains:  []string{"example.org"},
		Policies: []policy.Policy{p},
		Listeners: []incoming.Listener{{Address: "127.0.0.1:0",
			Proxy: proxyproto.New(proxyproto.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})}},
	})
	from := func(peer string) *incomingtest.Client {
		c := srv.Dial()
		c.Write("PROXY TCP4 " + peer + " 192.0.2.1 5000 25\r\n")
		c.Play("S: 220\nC: EHLO x.example\nS: 250")
		return c
	}
	from("192.0.2.7").Play(`
C: MAIL FROM:<a@x.example>
S: 250
C: RCPT TO:<bob@example.org>
S: 550 5.7.1 Your address is listed by bl.example (ref
C: RCPT TO:<postmaster@example.org>
S: 250
C: DATA
S: 354
C: Subject: why?
C:
C: .
S: 250`)
	m := srv.Next(t)
	if got := string(m.Facts["dnsbl.zones"]); got != `[{"zone":"bl.example","codes":["127.0.0.3"]}]` {
		t.Errorf("the facts have %s", got)
	}
	from("192.0.2.8").Play(`
C: MAIL FROM:<a@x.example>
S: 250
C: RCPT TO:<bob@example.org>
S: 250`)
	if got := said.take(); !strings.Contains(got, "public.example: it answers 127.255.255.254, which is no listing") {
		t.Errorf("told %q", got)
	}
}
