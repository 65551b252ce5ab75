package proxyproto

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// pair is the two ends of a connection over network.
func pair(t *testing.T, network, addr string) (client, server net.Conn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = new(net.Dialer).DialContext(t.Context(), network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func say(t *testing.T, c net.Conn, octets string) {
	t.Helper()
	if _, err := io.WriteString(c, octets); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	here      = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
)

const line = "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n"

func TestABalancerTellsBothEnds(t *testing.T) {
	t.Parallel()
	for _, optional := range []bool{false, true} {
		client, server := pair(t, "tcp", "127.0.0.1:0")
		c, header, err := New(Options{Networks: here, Optional: optional})(server)
		if err != nil || header == nil || c.RemoteAddr().String() != client.LocalAddr().String() {
			t.Fatalf("%v from %v", err, c)
		}
		say(t, client, line+"behind")
		if err := header(); err != nil {
			t.Fatal(err)
		}
		if c.RemoteAddr().String() != "198.51.100.7:5000" || c.LocalAddr().String() != "192.0.2.1:25" {
			t.Errorf("from %v to %v", c.RemoteAddr(), c.LocalAddr())
		}
		if got := hear(t, c, 3) + hear(t, c, 3); got != "behind" {
			t.Errorf("behind the header: %q", got)
		}
		say(t, client, "later")
		if got := hear(t, c, 5); got != "later" {
			t.Errorf("later: %q", got)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(client); err != nil || len(b) > 0 {
			t.Errorf("after CloseWrite: %q %v", b, err)
		}
	}
}

func TestOneWhoTellsNoneIsWhoHeIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		octets, behind string
		optional       bool
	}{
		"LOCAL":          {v2(local, 0, ""), "x", false},
		"UNKNOWN":        {"PROXY UNKNOWN\r\n", "x", false},
		"C03 no header":  {"", "EHLO x\r\n", true},
		"C03 too little": {"", "PROX\r\n", true},
	} {
		client, server := pair(t, "tcp", "127.0.0.1:0")
		conn, header, err := New(Options{Networks: here, Optional: c.optional})(server)
		if err != nil {
			t.Fatal(err)
		}
		say(t, client, c.octets+c.behind)
		if err := header(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if conn.RemoteAddr() != server.RemoteAddr() || conn.LocalAddr() != server.LocalAddr() {
			t.Errorf("%s: from %v to %v", name, conn.RemoteAddr(), conn.LocalAddr())
		}
		if got := hear(t, conn, len(c.behind)); got != c.behind {
			t.Errorf("%s: %q is left", name, got)
		}
	}
}

// The read deadline ends the wait: where a header is optional, one who says
// nothing is served, one who began a header is not.
func TestTheDeadlineEndsTheWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		octets   string
		optional bool
		ok       bool
	}{{"", false, false}, {"", true, true}, {"PROXY TCP4", false, false}, {"PROXY TCP4", true, false}} {
		client, server := pair(t, "tcp", "127.0.0.1:0")
		_, header, err := New(Options{Networks: here, Optional: c.optional})(server)
		if err != nil {
			t.Fatal(err)
		}
		say(t, client, c.octets)
		if err := server.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := header(); (err == nil) != c.ok || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, optional %v: %v", c.octets, c.optional, err)
		}
	}
}

func TestWhoLeavesWithoutAWordIsEOF(t *testing.T) {
	t.Parallel()
	for _, optional := range []bool{false, true} {
		client, server := pair(t, "tcp", "127.0.0.1:0")
		_, header, err := New(Options{Networks: here, Optional: optional})(server)
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
		if err := header(); err != io.EOF {
			t.Errorf("optional %v: %v", optional, err)
		}
	}
}

// C02: whom we do not believe is not served where a header is required, and may
// not send one where it is optional, however it is cut.
func TestAStrangersHeaderIsAnError(t *testing.T) {
	t.Parallel()
	_, server := pair(t, "tcp", "127.0.0.1:0")
	if _, _, err := New(Options{Networks: elsewhere})(server); !errors.Is(err, ErrUntrusted) {
		t.Errorf("where it is required: %v", err)
	}
	for _, octets := range []string{line, v2(proxy, tcp4, ends4)} {
		for cut := range len(sigV2) {
			cutConn := reader{server, io.MultiReader(strings.NewReader(octets[:cut]), strings.NewReader(octets[cut:]))}
			c, header, err := New(Options{Networks: elsewhere, Optional: true})(cutConn)
			if err != nil || header != nil {
				t.Fatalf("where it is optional: %v", err)
			}
			for range 2 {
				if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "127.0.0.1:") {
					t.Fatalf("cut at %d: %d, %v", cut, n, err)
				}
			}
		}
	}
}

// reader is a connection that is read from elsewhere.
type reader struct {
	net.Conn
	r io.Reader
}

func (r reader) Read(p []byte) (int, error) { return r.r.Read(p) }

func TestAStrangerWithoutAHeaderIsRead(t *testing.T) {
	t.Parallel()
	for _, octets := range []string{"EHLO x\r\n", "PROXX", "PRO", "\r\n\r\nEHLO x\r\n", "\x16\x03\x01", "x"} {
		client, server := pair(t, "tcp", "127.0.0.1:0")
		c, _, err := New(Options{Networks: elsewhere, Optional: true})(server)
		if err != nil {
			t.Fatal(err)
		}
		for i := range octets {
			say(t, client, octets[i:i+1])
		}
		if err := client.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			b := make([]byte, 2)
			n, err := c.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != octets {
			t.Errorf("%q came as %q", octets, got)
		}
	}
}

// A deadline that strikes while the first octets come loses none of them.
func TestAStrangerMayBeSlow(t *testing.T) {
	t.Parallel()
	client, server := pair(t, "tcp", "127.0.0.1:0")
	c, _, err := New(Options{Networks: elsewhere, Optional: true})(server)
	if err != nil {
		t.Fatal(err)
	}
	say(t, client, "PRO")
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	say(t, client, "BE\r\n")
	if got := hear(t, c, 7); got != "PROBE\r\n" {
		t.Errorf("came as %q", got)
	}
}

func TestWhoeverMayConnectToAUnixSocketIsBelieved(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "proxyproto")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	client, server := pair(t, "unix", dir+"/s")
	c, header, err := New(Options{})(server)
	if err != nil || header == nil {
		t.Fatal(err)
	}
	say(t, client, line)
	if err := header(); err != nil || c.RemoteAddr().String() != "198.51.100.7:5000" {
		t.Errorf("from %v: %v", c.RemoteAddr(), err)
	}
}

func TestNetworksAreComparedAsIPv4(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]bool{"::ffff:192.0.2.7": true, "192.0.2.7": true, "192.0.3.7": false} {
		if got := believed(elsewhere, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}); got != want {
			t.Errorf("%s is believed: %v", ip, got)
		}
	}
	if believed(here, &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}) {
		t.Error("an address of another kind is believed")
	}
}
