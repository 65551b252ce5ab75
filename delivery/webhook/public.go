package webhook

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialer connects to any address, or only to those of the public Internet. The
// address is looked at when it is dialled, so that no name that resolves to
// another one the next time gets past.
func dialer(publicOnly bool) *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if publicOnly {
		d.Control = func(_, address string, _ syscall.RawConn) error { return mustBePublic(address) }
	}
	return d
}

func mustBePublic(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !isPublic(ap.Addr()) {
		return fmt.Errorf("%s is no public address, and only those are connected to: "+
			"give another URL, or leave out PublicOnly (webhook.public_only)", ap.Addr().Unmap())
	}
	return nil
}

// isPublic reports whether a is an address of the public Internet, as far as the
// registries of special addresses tell (RFC 6890).
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// special is what net/netip calls global unicast, and leads to no public host.
// Those that carry an IPv4 address are among them: it may be any.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // behind a carrier's NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64 of a site
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4
	netip.MustParsePrefix("3fff::/20"),       // documentation
	netip.MustParsePrefix("5f00::/16"),       // segment routing
	netip.MustParsePrefix("fec0::/10"),       // site-local
}
