package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/proxyproto"
	"github.com/incoming-mx/incoming/telemetry"
)

// proxied is a listener that believes PROXY headers of those networks.
func proxied(optional bool, networks ...string) incoming.Listener {
	return incoming.Listener{Name: "mx", Address: "127.0.0.1:0",
		Proxy: proxyproto.New(proxyproto.Options{Networks: prefixes(networks...), Optional: optional})}
}

// proxyLine is a header of version 1.
func proxyLine(peer string) string { return "PROXY TCP4 " + peer + " 192.0.2.1 5000 25\r\n" }

// What is version 2 of the header.
const (
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19"
	proxyV2v6    = "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13\x88\x00\x19"
	proxyV2local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// seen is the peers that the facts and the policies told of.
type seen struct {
	mu    sync.Mutex
	peers map[string][]netip.AddrPort
}

func (s *seen) add(fact string, peer netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = make(map[string][]netip.AddrPort)
	}
	s.peers[fact] = append(s.peers[fact], peer)
}

func (s *seen) hooks() telemetry.Hooks {
	return telemetry.Hooks{
		SessionConnect:  func(e telemetry.SessionConnect) { s.add("connect", e.Peer) },
		SessionAccepted: func(e telemetry.SessionAccepted) { s.add("accepted", e.Peer) },
		SessionRejected: func(e telemetry.SessionRejected) { s.add("rejected", e.Peer) },
		SessionClosed:   func(e telemetry.SessionClosed) { s.add("closed", e.Peer) },
		MessageQueued:   func(e telemetry.MessageQueued) { s.add("queued", e.Peer) },
		TLSHandshake:    func(e telemetry.TLSHandshake) { s.add("tls", e.Peer) },
		PolicyDecision:  func(e telemetry.PolicyDecision) { s.add("decision", e.Peer) },
	}
}

// Check is a policy that refuses one sender and sees who connects.
func (s *seen) Check(_ context.Context, stage policy.Stage, t *policy.Transaction) error {
	s.add("policy", t.Peer)
	if stage == policy.StageMail && t.From.Local == "refused" {
		return policy.Reject("No")
	}
	return nil
}

// C01: the peer that the balancer names is the one that limits, policies, logs,
// Received, the message and the listing see, in clear, over STARTTLS and over
// implicit TLS, of either version.
func TestThePeerBehindABalancerIsThePeer(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	conf := ca.Issue(t, testcert.Options{}).ServerConfig()
	for _, c := range []struct {
		name, header, peer, received string
		tls                          incoming.TLSMode
		facts                        []string
	}{
		{"v1", proxyLine("198.51.100.7"), "198.51.100.7:5000", "([198.51.100.7])", incoming.TLSDisabled, nil},
		{"v2", proxyV2, "198.51.100.7:5000", "([198.51.100.7])", incoming.TLSDisabled, nil},
		{"v2 IPv6", proxyV2v6, "[2001:db8::7]:5000", "([IPv6:2001:db8::7])", incoming.TLSDisabled, nil},
		{"STARTTLS", proxyV2, "198.51.100.7:5000", "([198.51.100.7])", incoming.TLSRequired, []string{"tls"}},
		{"implicit TLS", proxyV2, "198.51.100.7:5000", "([198.51.100.7])", incoming.TLSImplicit, []string{"tls"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var s seen
			l := proxied(false, "127.0.0.0/8")
			l.TLS = c.tls
			if c.tls != incoming.TLSDisabled {
				l.TLSConfig = conf
			}
			srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{l}, Hooks: s.hooks(), Policies: []incoming.Policy{&s}})
			client := srv.Dial()
			client.Write(c.header)
			if c.tls == incoming.TLSImplicit {
				client.Handshake(ca.ClientConfig("localhost"))
			}
			client.Play("S: 220\nC: EHLO c.example\nS: 250")
			if c.tls == incoming.TLSRequired {
				client.StartTLS(ca.ClientConfig("localhost"))
				client.Play("C: EHLO c.example\nS: 250")
			}
			want := netip.MustParseAddrPort(c.peer)
			for i := range srv.Sessions() {
				if i.Peer != want {
					t.Errorf("listed as %v", i.Peer)
				}
			}
			client.Play(`
				C: MAIL FROM:<refused@example.net>
				S: 550 5.7.1
				C: MAIL FROM:<a@example.net>
				S: 250
				C: RCPT TO:<b@example.org>
				S: 250
				C: DATA
				S: 354
				C: .
				S: 250
				C: QUIT
				S: 221
			`)
			m := srv.Next(t)
			if m.Peer != c.peer || !strings.Contains(string(m.Raw), "from c.example "+c.received+"\r\n") {
				t.Errorf("the message is from %q:\n%s", m.Peer, m.Raw)
			}
			client.Close()
			waitFor(t, "the session to be over", func() bool { return srv.Status().Sessions == 0 })
			for _, fact := range append(c.facts, "connect", "accepted", "rejected", "queued", "closed", "decision", "policy") {
				if len(s.peers[fact]) == 0 || slices.ContainsFunc(s.peers[fact], func(p netip.AddrPort) bool { return p != want }) {
					t.Errorf("%s saw %v", fact, s.peers[fact])
				}
			}
		})
	}
}

// C08: in whatever pieces it comes; what is pipelined behind it is kept.
func TestAProxyHeaderMayComeInPieces(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8")}})
	for _, header := range []string{proxyLine("198.51.100.7"), proxyV2v6} {
		slow := srv.Dial()
		for i := range header {
			slow.Write(header[i : i+1])
		}
		slow.Play("S: 220\nC: QUIT\nS: 221")
		srv.Dial().Write(header + "EHLO x\r\nQUIT\r\n").Play("S: 220\nS: 250\nS: 221")
	}
}

// C09: only the first one is a header.
func TestASecondProxyHeaderIsNoCommand(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8")}})
	client := srv.Dial()
	client.Write(proxyLine("198.51.100.7") + proxyLine("203.0.113.9"))
	client.Play("S: 220\nS: 500 5.5.2")
	for i := range srv.Sessions() {
		if i.Peer.Addr().String() != "198.51.100.7" {
			t.Errorf("the peer is %v", i.Peer)
		}
	}
}

// C02, C03, C05, C06: who is not to be believed, or says no header, is closed
// without a reply, and the log says why; a health check is nothing to tell of.
func TestWhoIsClosedWithoutAReply(t *testing.T) {
	t.Parallel()
	conf := testcert.NewCA(t).Issue(t, testcert.Options{}).ServerConfig()
	implicit := func(l incoming.Listener) incoming.Listener {
		l.TLS, l.TLSConfig = incoming.TLSImplicit, conf
		return l
	}
	const untrusted = "rejected connect  policy= reason=proxyproto: not from a network that PROXY headers are believed from"
	for _, c := range []struct {
		name     string
		listener incoming.Listener
		octets   string
		banner   bool   // comes first
		leave    bool   // the client does
		told     string // the beginning of a fact
		closed   string
	}{
		{"C02 a stranger, required", proxied(false, "192.0.2.0/24"), "", false, false, untrusted + "; closed without a reply", "closed proxy"},
		{"C02 a stranger's header, optional", proxied(true, "192.0.2.0/24"), proxyLine("198.51.100.7"), true, false, untrusted + ": 127.0.0.1:", "closed error"},
		{"C02 a stranger's header of version 2, optional", proxied(true, "192.0.2.0/24"), proxyV2, true, false, untrusted + ": 127.0.0.1:", "closed error"},
		{"C02 a stranger's header, implicit TLS", implicit(proxied(true, "192.0.2.0/24")), proxyV2, false, false, "tls ", "closed tls"},
		{"C03 no header, required", proxied(false, "127.0.0.0/8"), "EHLO x\r\n", false, false, "rejected connect  policy= reason=proxyproto: no PROXY header; closed without a reply", "closed proxy"},
		{"C03 no header, implicit TLS", implicit(proxied(false, "127.0.0.0/8")), "\x16\x03\x01\x02\x00", false, false, "rejected connect  policy= reason=proxyproto: no PROXY header; closed", "closed proxy"},
		{"C03 a health check, required", proxied(false, "127.0.0.0/8"), "", false, true, "", "closed eof"},
		{"C03 a health check, optional", proxied(true, "127.0.0.0/8"), "", false, true, "", "closed eof"},
		{"C03 a health check by LOCAL", proxied(false, "127.0.0.0/8"), proxyV2local, true, true, "", "closed eof"},
		{"C05 an endless line", proxied(false, "127.0.0.0/8"), "PROXY TCP4 " + strings.Repeat("1", 200), false, false, "rejected connect  policy= reason=proxyproto: PROXY header longer than 107 octets; closed", "closed proxy"},
		{"C05 too long", proxied(true, "127.0.0.0/8"), proxyV2[:14] + "\x10\x01" + proxyV2[16:], false, false, "rejected connect  policy= reason=proxyproto: PROXY header of 4113 octets", "closed proxy"},
		{"C06 half a header", proxied(true, "127.0.0.0/8"), "PROXY TCP4 ", false, true, "rejected connect  policy= reason=proxyproto: the PROXY header ends after 11 octets: unexpected EOF; closed", "closed proxy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{c.listener}, Hooks: eventHooks(j)})
			client := srv.Dial()
			if c.banner && c.octets != proxyV2local {
				client.Expect("220")
			}
			if c.octets != "" {
				client.Write(c.octets)
			}
			if c.banner && c.octets == proxyV2local {
				client.Expect("220")
			}
			if c.leave {
				client.Close()
			} else {
				client.ExpectClosed()
			}
			j.await(t, c.closed)
			if c.told != "" {
				j.await(t, c.told)
			} else if slices.ContainsFunc(j.all(), func(e string) bool { return strings.HasPrefix(e, "rejected") }) {
				t.Errorf("told %q", j.all())
			}
			if n := strings.Count(strings.Join(j.all(), "\n"), "connect\n"); n == 0 || j.all()[0] != "connect" {
				t.Errorf("told %q", j.all())
			}
			waitFor(t, "the session to be over", func() bool { return srv.Status().Sessions == 0 })
		})
	}
}

// Where a header is optional, one of ours who says none is served as who he is:
// at once when he speaks, else when the header's time is over.
func TestAnOptionalHeaderMayBeMissing(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(true, "127.0.0.0/8")},
		Timeouts: incoming.Timeouts{Proxy: 20 * time.Millisecond}})
	early, silent := srv.Dial(), srv.Dial()
	early.Write("EHLO x\r\n").Play("S: 220\nS: 250")
	silent.Play("S: 220\nC: EHLO x\nS: 250")
	for i := range srv.Sessions() {
		if i.Peer.Addr().String() != "127.0.0.1" {
			t.Errorf("the peer is %v", i.Peer)
		}
	}
}

// C05: number n+1 of an address is refused once its header is in, by the same
// reply and the same facts as at accept; it is counted once and left once. The
// balancer's own address does not count.
func TestLimitsByAddressSeeThePeerBehindABalancer(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	implicit := proxied(false, "127.0.0.0/8")
	implicit.Name, implicit.TLS, implicit.TLSConfig = "tls", incoming.TLSImplicit, ca.Issue(t, testcert.Options{}).ServerConfig()
	direct := incoming.Listener{Name: "direct", Address: "127.0.0.1:0"}
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8"), implicit, direct}, Hooks: eventHooks(j),
		Limits: incoming.Limits{ConnectionsPerIP: 2, Exempt: []netip.Prefix{}}})
	from := func(peer string) *incomingtest.Client { return srv.Dial().Write(proxyLine(peer)) }
	one, two := from("198.51.100.7"), from("198.51.100.7")
	one.Expect("220")
	two.Expect("220")
	for n := range 3 { // a refused one that left twice would make room
		third := from("198.51.100.7")
		third.Expect("421 4.7.0 Too many connections from your address")
		third.ExpectClosed()
		waitFor(t, "its end to be told", func() bool { // which comes after the client sees it
			return strings.Count(strings.Join(j.all(), "\n"), "closed limit") == n+1
		})
	}
	want := []string{"connect", "limit limits.connections_per_ip",
		"rejected connect 421 4.7.0 Too many connections from your address, try again later policy= reason=past limits.connections_per_ip", "closed limit"}
	if got := j.all(); len(got) < 8 || !slices.Equal(got[len(got)-4:], want) {
		t.Errorf("told %q", got)
	}
	silent := incomingtest.Dial(t, srv.Server.Addr("tls").String())
	silent.Write(proxyLine("198.51.100.7"))
	silent.ExpectClosed()
	j.await(t, "rejected connect 421 4.7.0 Too many connections from your address, try again later policy= reason=past limits.connections_per_ip, closed without a reply")
	others := []*incomingtest.Client{from("198.51.100.8"), from("198.51.100.9")}
	for range 4 {
		others = append(others, srv.Dial().Write(proxyV2local))
	}
	for _, other := range others {
		other.Expect("220")
	}
	waitFor(t, "the refused ones to be over", func() bool { return srv.Status().Sessions == 8 })
	one.Play("C: QUIT\nS: 221")
	waitFor(t, "one to be over", func() bool { return srv.Status().Sessions == 7 })
	from("198.51.100.7").Expect("220")

	// Nor do those behind it count for the balancer's address.
	for range 2 {
		incomingtest.Dial(t, srv.Server.Addr("direct").String()).Expect("220")
	}
	incomingtest.Dial(t, srv.Server.Addr("direct").String()).Expect("421 4.7.0")
}

// All connections count at accept, whoever is behind them.
func TestConnectionsBehindABalancerCountAtAccept(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8")}, Limits: incoming.Limits{Connections: 2}})
	for range 2 {
		srv.Dial() // and says nothing
	}
	waitFor(t, "two connections", func() bool { return srv.Status().Sessions == 2 })
	third := srv.Dial()
	third.Expect("421 4.3.2")
	third.ExpectClosed()
}

// A client who is slow to say its header holds up nobody, and the drain does not
// wait for it.
func TestASlowHeaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8")}, Hooks: eventHooks(j),
		Timeouts: incoming.Timeouts{Proxy: -1}})
	slow := srv.Dial()
	slow.Write("PROXY TCP4 ")
	quick := srv.Dial()
	quick.Write(proxyV2).Expect("220")
	ended := make(chan error)
	go func() { ended <- srv.Stop() }()
	quick.Expect("421 4.3.2")
	slow.ExpectClosed()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	j.await(t, "closed drain")
	if slices.ContainsFunc(j.all(), func(e string) bool { return strings.HasPrefix(e, "rejected connect") }) {
		t.Errorf("told %q", j.all())
	}
}

// One bad thing stays one bad thing: a Proxy that panics or fails costs that
// connection.
func TestABrokenProxyFuncCostsOneConnection(t *testing.T) {
	t.Parallel()
	j := newJournal()
	var calls int
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: eventHooks(j), Listeners: []incoming.Listener{{Name: "mx", Address: "127.0.0.1:0",
		Proxy: func(nc net.Conn) (net.Conn, func() error, error) {
			switch calls++; calls {
			case 1:
				panic("at accept")
			case 2:
				return nc, func() error { panic("in the header") }, nil
			case 3:
				return nil, nil, errors.New("no")
			}
			return nc, nil, nil
		}}}})
	for range 3 {
		srv.Dial().ExpectClosed()
	}
	srv.Dial().Expect("220")
	j.await(t, "panic proxy")
	j.await(t, "panic session")
	j.await(t, "rejected connect  policy= reason=no; closed without a reply")
	waitFor(t, "the broken ones to be over", func() bool { return srv.Status().Sessions == 1 })
}

func TestReloadChangesWhomToBelieve(t *testing.T) {
	t.Parallel()
	l := proxied(false, "192.0.2.0/24")
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{l}})
	srv.Dial().ExpectClosed()
	l.Proxy = proxied(false, "127.0.0.1/32").Proxy
	for _, cfg := range []incoming.Config{{Listeners: []incoming.Listener{l}}, {}} {
		if err := srv.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		srv.Dial().Write(proxyV2).Expect("220")
	}
	l.Proxy = nil
	if err := srv.Reload(incoming.Config{Listeners: []incoming.Listener{l}}); err != nil {
		t.Fatal(err)
	}
	srv.Dial().Expect("220")
}

// Nearly all connections come from one address when a balancer is in front: that
// is no trouble where it tells whose they are.
func TestABalancerThatTellsHidesNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proxy bool
		want  int
	}{"told": {true, 0}, "hidden": {false, 1}} {
		var mu sync.Mutex
		var troubles []telemetry.Trouble
		l := incoming.Listener{Name: "mx", Address: "127.0.0.1:0", Proxy: func(nc net.Conn) (net.Conn, func() error, error) {
			return elsewhere{nc}, nil, nil
		}}
		if !c.proxy {
			l.Proxy = nil
			l.Net = elsewhereListener{loopback(t)}
		}
		srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{l}, Limits: incoming.Limits{ConnectionsPerIP: -1},
			Hooks: telemetry.Hooks{Trouble: func(e telemetry.Trouble) { mu.Lock(); defer mu.Unlock(); troubles = append(troubles, e) }}})
		for range 210 {
			client := srv.Dial()
			client.Expect("220")
			client.Close()
		}
		mu.Lock()
		if len(troubles) != c.want || c.want > 0 && !strings.Contains(troubles[0].Text, "set the listener's proxy and proxy_networks") {
			t.Errorf("%s: %+v", name, troubles)
		}
		mu.Unlock()
		if hidden := srv.Status().HiddenBy.IsValid(); hidden != (c.want > 0) {
			t.Errorf("%s: hidden %v", name, hidden)
		}
	}
}

// elsewhere is a connection from a private address.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 5000} }

type elsewhereListener struct{ net.Listener }

func (l elsewhereListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("elsewhere: %w", err)
	}
	return elsewhere{nc}, nil
}
