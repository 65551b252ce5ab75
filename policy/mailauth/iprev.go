package mailauth

import (
	"context"
	"net/netip"
)

// maxHostNames is how many names of an address are looked at, of those that it has
// (RFC 7208 §4.6.4 has the same for "ptr").
const maxHostNames = 10

// checkIPRev asks for the names of the client's address, and whether one of them
// has that address.
func (c *check) checkIPRev(ctx context.Context) IPRev {
	if !c.peer.IsValid() {
		return IPRev{Result: None, Reason: "the client has no IP address"}
	}
	names, err := c.dns.LookupAddr(ctx, c.peer.String())
	switch {
	case notFound(err) || err == nil && len(names) == 0:
		return IPRev{Result: PermError, Reason: "the address has no name"}
	case err != nil:
		return IPRev{Result: TempError, Reason: reason(err.Error())}
	}
	trouble := ""
	for _, name := range names[:min(len(names), maxHostNames)] {
		if name = domainOf(name); name == "" {
			continue // no host has such a name
		}
		addrs, err := c.dns.LookupIPAddr(ctx, name)
		if err != nil && !notFound(err) {
			trouble = reason(err.Error())
		}
		for _, a := range addrs {
			if got, ok := netip.AddrFromSlice(a.IP); ok && got.Unmap() == c.peer {
				return IPRev{Result: Pass, Name: name}
			}
		}
	}
	if trouble != "" {
		return IPRev{Result: TempError, Reason: trouble}
	}
	return IPRev{Result: Fail, Reason: "no name of the address leads back to it"}
}
