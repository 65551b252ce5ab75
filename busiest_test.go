package incoming_test

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
)

// The busiest peer is on top, with how often the limit turned it away: one IPv4
// address or one IPv6 /64, as the limit counts.
func TestBusiestPeersFirst(t *testing.T) {
	t.Parallel()
	addrs := make(chan string, 1)
	srv := incomingtest.NewServer(t, incoming.Config{Limits: incoming.Limits{ConnectionsPerIP: 2},
		Listeners: []incoming.Listener{{Name: "one", Net: addrListener{loopback(t), addrs}}}})
	open := make(map[string][]*incomingtest.Client)
	for _, addr := range []string{"192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.9", "192.0.2.9", "192.0.2.9", "192.0.2.9"} {
		addrs <- addr
		c := srv.Dial()
		if reply := c.Expect(""); reply[:3] == "220" {
			open[addr] = append(open[addr], c)
		}
	}
	c := open["192.0.2.1"][0]
	c.Play("C: EHLO client.test\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250")
	said := len("EHLO client.test\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n.\r\n")
	busiest := func() (peers []string) {
		for p := range srv.Busiest() {
			peers = append(peers, fmt.Sprint(p.Peer, p.Sessions, p.Refused, p.Messages, p.BytesIn))
			if p.Since.IsZero() || p.BytesOut == 0 {
				t.Errorf("%+v", p)
			}
		}
		return peers
	}
	want := []string{"192.0.2.9/32 2 2 0 0", "2001:db8::/64 2 1 0 0", fmt.Sprint("192.0.2.1/32 1 0 1 ", said)}
	if got := busiest(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for p := range srv.Busiest() {
		if p.Sessions != 2 {
			t.Error("who stops at the first gets another")
		}
		break
	}

	// Who has none open is forgotten, with all that was counted.
	for _, c := range open["192.0.2.9"] {
		c.Close()
	}
	waitFor(t, "the sessions to end", func() bool { return len(busiest()) == 2 })
	if got := busiest(); !slices.Equal(got, want[1:]) {
		t.Errorf("%q, want %q", got, want[1:])
	}
}

// A peer without an IP address has a session and is no peer.
func TestBusiestLeavesOutWhoHasNoAddress(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{{Name: "socket", Net: ln}}})
	nc, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := incomingtest.NewClient(t, nc)
	c.Expect("220")
	for p := range srv.Busiest() {
		t.Errorf("%+v", p)
	}
	if n := srv.Status().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// Behind a balancer the peers are those that it names, and it is none itself.
func TestBusiestBehindABalancer(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{proxied(false, "127.0.0.0/8")},
		Limits: incoming.Limits{ConnectionsPerIP: 2}})
	srv.Dial() // it sends no header yet
	for i, peer := range []string{"198.51.100.8", "198.51.100.7", "198.51.100.7", "198.51.100.7"} {
		c := srv.Dial().Write(proxyLine(peer))
		if i < 3 {
			c.Expect("220")
		} else {
			c.Expect("421 4.7.0")
		}
	}
	var got []string
	for p := range srv.Busiest() {
		got = append(got, fmt.Sprint(p.Peer, p.Sessions, p.Refused))
	}
	if want := []string{"198.51.100.7/32 2 1", "198.51.100.8/32 1 0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
