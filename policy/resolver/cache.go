package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Options is how a Cache asks. The zero value of a field is the default in
// parentheses.
type Options struct {
	// Servers is the recursive resolvers to ask, "192.0.2.53" or "192.0.2.53:53",
	// the first first (those of /etc/resolv.conf).
	Servers []string
	// Timeout is for one question to one server (2 s). All servers are asked
	// twice before the answer is an error.
	Timeout time.Duration
	// Entries is how many answers are remembered (50 000). Past it those least
	// used are forgotten.
	Entries int
}

const (
	// longestTTL bounds how long an answer is remembered, whatever its TTL.
	longestTTL = time.Hour
	// longestNegative is the same of an answer that there is nothing (RFC 2308
	// §5 has hours; a record just made should be seen).
	longestNegative = 5 * time.Minute
	// brokenFor is how long a question that no server answered is not asked
	// again (RFC 2308 §7): a dead zone must not cost each message its time.
	brokenFor = 5 * time.Second
	rounds    = 2
	// maxChain is how many CNAMEs are followed.
	maxChain = 8
)

// Cache asks recursive resolvers, by UDP and, when the answer does not fit, by
// TCP, and remembers what they say for as long as its TTL, an hour at most. Equal
// questions at the same time are asked once. It is safe for use by many goroutines.
type Cache struct {
	servers []string
	timeout time.Duration
	known   *otter.Cache[question, answer]
	flights singleflight.Group
}

type question struct {
	name string // lower case, with the last dot
	kind uint16
}

// answer is the records of the question's kind at the end of its CNAMEs, or why
// there are none.
type answer struct {
	records []dns.RR
	err     *net.DNSError
	keep    time.Duration
}

// New makes a Cache; nil options are the defaults. It asks nothing yet. It is an
// error when no server is given and /etc/resolv.conf names none, or when one is no
// address.
func New(o *Options) (*Cache, error) {
	if o == nil {
		o = new(Options)
	}
	c := &Cache{timeout: o.Timeout}
	if c.timeout <= 0 {
		c.timeout = 2 * time.Second
	}
	servers := o.Servers
	if servers == nil {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("resolver: %w; name the servers to ask", err)
		}
		servers = conf.Servers
	}
	for _, s := range servers {
		at, err := ServerAddress(s)
		if err != nil {
			return nil, fmt.Errorf("resolver: server %w", err)
		}
		c.servers = append(c.servers, at)
	}
	if len(c.servers) == 0 {
		return nil, errors.New("resolver: no servers to ask")
	}
	entries := o.Entries
	if entries <= 0 {
		entries = 50_000
	}
	c.known = otter.Must(&otter.Options[question, answer]{
		MaximumSize: entries,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[question, answer]) time.Duration {
			return max(e.Value.keep, time.Nanosecond)
		}),
	})
	return c, nil
}

// ServerAddress is one of Options.Servers with its port: 53 where none is given.
// It is an error when s is no IP address.
func ServerAddress(s string) (string, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53).String(), nil
	}
	return "", fmt.Errorf("%q is no address; write 192.0.2.53 or [2001:db8::53]:53", s)
}

// LookupTXT implements Resolver; the strings of one record are joined.
func (c *Cache) LookupTXT(ctx context.Context, name string) ([]string, error) {
	rrs, err := c.lookup(ctx, name, dns.TypeTXT)
	var texts []string
	for _, rr := range rrs {
		texts = append(texts, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	return texts, err
}

// LookupMX implements Resolver; the records are in the order of the answer.
func (c *Cache) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	rrs, err := c.lookup(ctx, name, dns.TypeMX)
	var mxs []*net.MX
	for _, rr := range rrs {
		mx := rr.(*dns.MX)
		mxs = append(mxs, &net.MX{Host: mx.Mx, Pref: mx.Preference})
	}
	return mxs, err
}

// LookupIP implements Resolver.
func (c *Cache) LookupIP(ctx context.Context, network, host string) ([]net.IP, error) {
	var ips []net.IP
	var failed error
	kinds := map[string][]uint16{"ip4": {dns.TypeA}, "ip6": {dns.TypeAAAA}, "ip": {dns.TypeA, dns.TypeAAAA}}[network]
	if kinds == nil {
		return nil, net.UnknownNetworkError(network)
	}
	for _, kind := range kinds {
		rrs, err := c.lookup(ctx, host, kind)
		var gone *net.DNSError
		if err != nil && (failed == nil || !errors.As(err, &gone) || !gone.IsNotFound) {
			failed = err
		}
		for _, rr := range rrs {
			switch rr := rr.(type) {
			case *dns.A:
				ips = append(ips, rr.A)
			case *dns.AAAA:
				ips = append(ips, rr.AAAA)
			}
		}
	}
	var gone *net.DNSError
	if len(ips) > 0 && errors.As(failed, &gone) && gone.IsNotFound {
		failed = nil // there is nothing of the one kind, and something of the other
	}
	if failed != nil {
		return nil, failed
	}
	return ips, nil
}

// LookupIPAddr implements Resolver.
func (c *Cache) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	ips, err := c.LookupIP(ctx, "ip", host)
	var addrs []net.IPAddr
	for _, ip := range ips {
		addrs = append(addrs, net.IPAddr{IP: ip})
	}
	return addrs, err
}

// LookupAddr implements Resolver.
func (c *Cache) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: "no address", Name: addr, IsNotFound: true}
	}
	rrs, err := c.lookup(ctx, name, dns.TypePTR)
	var names []string
	for _, rr := range rrs {
		names = append(names, rr.(*dns.PTR).Ptr)
	}
	return names, err
}

// lookup is the records of that kind, from memory or from a server.
func (c *Cache) lookup(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	if err := ctx.Err(); err != nil {
		return nil, outOfTime(name, err)
	}
	q := question{strings.ToLower(dns.Fqdn(name)), kind}
	if _, ok := dns.IsDomainName(q.name); !ok || q.name == "." {
		return nil, &net.DNSError{Err: "no domain name", Name: name, IsNotFound: true}
	}
	if a, ok := c.known.GetIfPresent(q); ok {
		return a.result()
	}
	// Whoever asked first may leave: the question is everyone's.
	flight := c.flights.DoChan(fmt.Sprint(q.kind, " ", q.name), func() (any, error) {
		a := c.ask(context.WithoutCancel(ctx), q)
		c.known.Set(q, a)
		return a, nil
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, &net.DNSError{Err: r.Err.Error(), Name: name, IsTemporary: true}
		}
		return r.Val.(answer).result()
	case <-ctx.Done():
		return nil, outOfTime(name, ctx.Err())
	}
}

func outOfTime(name string, err error) error {
	return &net.DNSError{Err: err.Error(), Name: name, IsTimeout: true, IsTemporary: true}
}

func (a answer) result() ([]dns.RR, error) {
	if a.err != nil {
		return nil, a.err
	}
	return a.records, nil
}
