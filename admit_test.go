package incoming

import (
	"fmt"
	"net/netip"
	"testing"
)

// R08.
func TestConnectionsAreLimitedAtExactlyTheLimit(t *testing.T) {
	t.Parallel()
	a := newAdmission(Limits{Connections: 3, ConnectionsPerIP: -1}.withDefaults())
	for i := range 3 {
		if ok, over := a.enter(addr(t, fmt.Sprintf("192.0.2.%d", i))); !ok {
			t.Fatalf("connection %d of 3 is refused: %+v", i+1, over)
		}
	}
	ok, over := a.enter(addr(t, "192.0.2.9"))
	if want := (overLimit{"limits.connections", 4, 3}); ok || over != want {
		t.Fatalf("connection 4 of 3: %v %+v, want %+v", ok, over, want)
	}
	a.leave(addr(t, "192.0.2.0"))
	if ok, _ := a.enter(addr(t, "192.0.2.9")); !ok {
		t.Fatal("a place that was left is not given away")
	}
}

// R08.
func TestPeersAreCountedByAddressAndIPv6By64(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, first, second string
		same                bool
	}{
		{"one address", "192.0.2.1", "192.0.2.1", true},
		{"two addresses", "192.0.2.1", "192.0.2.2", false},
		{"mapped into IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"one /64", "2001:db8::1", "2001:db8::ffff:1", true},
		{"two /64", "2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"zones", "fe80::1%a", "fe80::2%b", true},
	} {
		a := newAdmission(Limits{ConnectionsPerIP: 1}.withDefaults())
		a.enter(addr(t, c.first))
		if ok, _ := a.enter(addr(t, c.second)); ok == c.same {
			t.Errorf("%s: let in: %v", c.name, ok)
		}
	}
}

func TestExemptNetworksAreExemptFromThePeerLimitOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		exempt []netip.Prefix
		peer   string
		in     int
	}{
		{"loopback by default", nil, "127.0.0.2", 4},
		{"IPv6 loopback by default", nil, "::1", 4},
		{"others by default", nil, "192.0.2.1", 2},
		{"nobody", []netip.Prefix{}, "127.0.0.1", 2},
		{"a network", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "192.0.2.1", 4},
	} {
		a := newAdmission(Limits{Connections: 4, ConnectionsPerIP: 2, Exempt: c.exempt}.withDefaults())
		in := 0
		for range 10 {
			if ok, _ := a.enter(addr(t, c.peer)); ok {
				in++
			}
		}
		if in != c.in {
			t.Errorf("%s: %d let in, want %d", c.name, in, c.in)
		}
	}
}

func TestNegativeConnectionLimitsAreNone(t *testing.T) {
	t.Parallel()
	a := newAdmission(Limits{Connections: -1, ConnectionsPerIP: -1}.withDefaults())
	for i := range 2000 {
		if ok, over := a.enter(addr(t, "192.0.2.1")); !ok {
			t.Fatalf("connection %d: %+v", i, over)
		}
	}
	if a.busy() {
		t.Error("busy without a limit")
	}
}

func TestLeavingForgetsThePeer(t *testing.T) {
	t.Parallel()
	a := newAdmission(Limits{}.withDefaults())
	peers := []netip.Addr{{}, addr(t, "192.0.2.1"), addr(t, "2001:db8::1"), addr(t, "2001:db8::2")}
	for _, p := range peers {
		a.enter(p)
	}
	for _, p := range peers {
		a.leave(p)
	}
	if a.count() != 0 || len(a.byPeer) != 0 {
		t.Errorf("%d open, peers %v", a.count(), a.byPeer)
	}
}

func TestBusyIsOver80Percent(t *testing.T) {
	t.Parallel()
	a := newAdmission(Limits{Connections: 10}.withDefaults())
	for range 8 {
		a.enter(netip.Addr{})
	}
	if a.busy() {
		t.Error("busy at 8 of 10")
	}
	a.enter(netip.Addr{})
	if !a.busy() {
		t.Error("not busy at 9 of 10")
	}
}

func TestALoweredLimitCountsForWhoComesNext(t *testing.T) {
	t.Parallel()
	a := newAdmission(Limits{}.withDefaults())
	a.enter(addr(t, "192.0.2.1"))
	a.enter(addr(t, "192.0.2.1"))
	a.setLimits(Limits{ConnectionsPerIP: 2}.withDefaults())
	if ok, _ := a.enter(addr(t, "192.0.2.1")); ok {
		t.Error("a third one is let in past the lowered limit of 2")
	}
}

func TestAProxyThatHidesThePeersIsNoticedOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		common string
		others int // in a hundred
		found  bool
	}{
		{"a private address alone", "172.17.0.1", 0, true},
		{"nearly alone", "fd00::1", 5, true},
		{"one of many", "172.17.0.1", 6, false},
		{"shared address space", "100.64.0.1", 0, true},
		{"a public address", "192.0.2.1", 0, false},
		{"loopback", "127.0.0.1", 0, false},
	} {
		a := newAdmission(Limits{}.withDefaults())
		var found []netip.Addr
		for i := range 2 * hiddenWindow {
			peer := addr(t, c.common)
			if i%100 >= 100-c.others {
				peer = addr(t, fmt.Sprintf("198.51.100.%d", i%100))
			}
			if by, ok := a.sawPeer(peer); ok {
				found = append(found, by)
			}
		}
		if c.found != (len(found) == 1) || len(found) > 1 {
			t.Errorf("%s: found %v", c.name, found)
		}
		if c.found != (a.hiddenBy() == addr(t, c.common)) {
			t.Errorf("%s: hidden by %v", c.name, a.hiddenBy())
		}
	}
}

func addr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
