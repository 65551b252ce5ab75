package mailauth

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/incoming-mx/incoming/policy/resolver"
)

// zone is a DNS in memory: the records of each name, which is in lower case and
// without the last dot. A name that is below another's is no name of its own.
type zone map[string]records

type records struct {
	txt  []string
	mx   []*net.MX
	ips  []net.IP
	ptr  []string
	fail bool // the servers of the name are down
	hang bool // they do not answer
}

// asked is a zone that writes down what it is asked for TXT.
type asked struct {
	zone
	mu    sync.Mutex
	names []string
}

func (a *asked) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a.mu.Lock()
	a.names = append(a.names, name)
	a.mu.Unlock()
	return a.zone.LookupTXT(ctx, name)
}

// look is the records of a name, when there are any of the kind in question.
func look[T any](ctx context.Context, z zone, name string, of func(records) []T) ([]T, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	r, ok := z[name]
	e := &net.DNSError{Err: "nothing", Name: name}
	for other := range z {
		ok = ok || strings.HasSuffix(other, "."+name)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok = ok && len(label) < 64
	}
	switch got := of(r); {
	case r.fail:
		e.IsTemporary = true
	case r.hang:
		<-ctx.Done()
		e.IsTemporary, e.IsTimeout = true, true
	case !ok:
		e.IsNotFound, e.UnwrapErr = true, resolver.ErrNXDomain
	case len(got) == 0:
		e.IsNotFound = true
	default:
		return slices.Clone(got), nil
	}
	return nil, e
}

func (z zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return look(ctx, z, name, func(r records) []string { return r.txt })
}

func (z zone) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return look(ctx, z, name, func(r records) []*net.MX { return r.mx })
}

func (z zone) LookupIP(ctx context.Context, _, name string) ([]net.IP, error) {
	return look(ctx, z, name, func(r records) []net.IP { return r.ips })
}

func (z zone) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	ips, err := z.LookupIP(ctx, "ip", name)
	var all []net.IPAddr
	for _, ip := range ips {
		all = append(all, net.IPAddr{IP: ip})
	}
	return all, err
}

func (z zone) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, err
	}
	return look(ctx, z, name, func(r records) []string { return r.ptr })
}

// txt is a name with one TXT record.
func txt(text ...string) records { return records{txt: text} }

// host is a name with addresses.
func host(addrs ...string) records {
	var r records
	for _, a := range addrs {
		r.ips = append(r.ips, net.IP(netip.MustParseAddr(a).AsSlice()))
	}
	return r
}

// reverse is the name under which an address has its names.
func reverse(addr string) string {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(name, ".")
}
