package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/policy/resolver"
	"golang.org/x/sync/singleflight"
)

// How long a test of a zone counts.
const (
	wellFor   = time.Hour
	wrongFor  = 10 * time.Minute // it lists what it must not, or gives no listings
	silentFor = time.Minute      // the DNS cannot tell
)

// silences is how many questions in a row may have no answer: one that nobody
// answers holds a message up until the policy's time is over.
const silences = 3

// zone is a Zone and whether it can be believed.
type zone struct {
	name    string
	codes   []Codes
	action  Action
	tell    func(zone string, why error)
	timeout time.Duration // for a test

	tests singleflight.Group
	mu    sync.Mutex // guards what follows
	known bool       // it was tested
	off   error      // why it is not asked; nil when it is
	next  time.Time  // when it is to be tested
	fails int        // questions without an answer since the last that had one
}

var (
	listed   = netip.MustParseAddr("127.0.0.2") // by every list
	unlisted = netip.MustParseAddr("127.0.0.1") // by none
)

// ask is the codes that count of a client's listing; none when it is not listed, and
// when the zone is not to be asked. It fails when that cannot be told.
func (z *zone) ask(ctx context.Context, r resolver.Resolver, client netip.Addr) (codes []string, err error) {
	if !z.usable(ctx, r) {
		return nil, nil
	}
	answers, err := z.lookup(ctx, r, client)
	if err != nil {
		z.failed(ctx, err)
		return nil, err
	}
	z.mu.Lock()
	z.fails = 0
	z.mu.Unlock()
	for _, a := range answers {
		if slices.ContainsFunc(z.codes, func(c Codes) bool { return c.has(a) }) {
			codes = append(codes, a.String())
		}
	}
	slices.Sort(codes)
	return codes, nil
}

// usable reports whether the zone is to be asked. One that was never tested is
// tested first; one that is to be tested again is taken as it was meanwhile.
func (z *zone) usable(ctx context.Context, r resolver.Resolver) bool {
	usable, known, due := z.state()
	if !due {
		return usable
	}
	// Whoever came first may leave: the test is everyone's, and ends in its time.
	test := z.tests.DoChan("", func() (any, error) {
		if _, _, due := z.state(); due {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), z.timeout)
			defer cancel()
			z.test(ctx, r)
		}
		return nil, nil
	})
	if known {
		return usable
	}
	select {
	case <-test:
		usable, _, _ := z.state()
		return usable
	case <-ctx.Done():
		return false
	}
}

func (z *zone) state() (usable, known, due bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.known && z.off == nil, z.known, !time.Now().Before(z.next)
}

// test asks about the two addresses of which every list has one and none the other
// (RFC 5782 §5).
func (z *zone) test(ctx context.Context, r resolver.Resolver) {
	var in, out []netip.Addr
	var errIn, errOut error
	var both sync.WaitGroup
	both.Go(func() { in, errIn = z.lookup(ctx, r, listed) })
	both.Go(func() { out, errOut = z.lookup(ctx, r, unlisted) })
	both.Wait()
	switch err := errors.Join(errIn, errOut); {
	case err != nil:
		z.settle(err, lasts(err))
	case len(out) > 0:
		z.settle(&wrong{fmt.Sprintf("it lists %v, so it may list everybody", unlisted)}, wrongFor)
	case len(in) == 0:
		z.settle(&wrong{fmt.Sprintf("it does not list %v, so it is no list, or none any more", listed)}, wrongFor)
	default:
		z.settle(nil, wellFor)
	}
}

// settle says how the zone stands, and for how long.
func (z *zone) settle(off error, lasts time.Duration) {
	z.mu.Lock()
	changed := !z.known || (off == nil) != (z.off == nil)
	z.known, z.off, z.next, z.fails = true, off, time.Now().Add(lasts), 0
	z.mu.Unlock()
	if changed {
		z.tell(z.name, off)
	}
}

// failed switches the zone off that gave no listing for an answer, or too often
// none. That the client left is not its fault.
func (z *zone) failed(ctx context.Context, err error) {
	if ctx.Err() == context.Canceled {
		return
	}
	z.mu.Lock()
	z.fails++
	enough := z.fails >= silences
	z.mu.Unlock()
	if enough || lasts(err) == wrongFor {
		z.settle(err, lasts(err))
	}
}

// lasts is how long a zone is left alone for an error.
func lasts(err error) time.Duration {
	if errors.As(err, new(*wrong)) {
		return wrongFor
	}
	return silentFor
}

// wrong is an answer of a zone that is no listing and not the lack of one.
type wrong struct{ text string }

func (w *wrong) Error() string { return w.text }

// lookup is a list's answers about an address; none when it does not list it.
func (z *zone) lookup(ctx context.Context, r resolver.Resolver, about netip.Addr) (answers []netip.Addr, err error) {
	defer func() {
		if v := recover(); v != nil { // of a resolver that is not ours
			answers, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	ips, err := r.LookupIP(ctx, "ip4", reversed(about)+"."+z.name+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		a, _ := netip.AddrFromSlice(ip)
		a = a.Unmap()
		if !codesNet.Contains(a) || errorsNet.Contains(a) {
			return nil, &wrong{fmt.Sprintf("it answers %v, which is no listing", a)}
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// reversed is an address as lists name it: the octets of one by IPv4, the nibbles
// of one by IPv6, the last first (RFC 5782 §2.1, §2.4).
func reversed(a netip.Addr) string {
	octets := a.AsSlice()
	var parts []string
	for _, o := range slices.Backward(octets) {
		if a.Is4() {
			parts = append(parts, fmt.Sprint(o))
		} else {
			parts = append(parts, fmt.Sprintf("%x.%x", o&15, o>>4))
		}
	}
	return strings.Join(parts, ".")
}
