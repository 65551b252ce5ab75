package mailauth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// check is the work on one message. Its goroutines end by themselves when the DNS
// has answered or the budget is used up, and with the ctx of the tap at the latest.
type check struct {
	ctx    context.Context // of the tap, so of the transaction: Write has none
	dns    *budgeted
	peer   netip.Addr
	helo   string
	from   smtp.Path
	begun  sync.WaitGroup
	mu     sync.Mutex
	broken error // the first panic of what was begun
	spf    []SPF
	iprev  IPRev

	// What the header says, once it is looked into: the author's domain, why there is
	// none, and the signatures.
	looked      bool
	author, why string
	signatures  []signature
}

// newCheck begins with SPF and iprev, which need the envelope alone.
func newCheck(ctx context.Context, v *Verifier, t *policy.Transaction) *check {
	c := &check{ctx: ctx, dns: newBudget(v.opts.Resolver, v.opts.Budget), peer: t.Peer.Addr().Unmap(), helo: t.Hello,
		from: t.From}
	identities := c.identities()
	c.spf = make([]SPF, len(identities))
	for i, id := range identities {
		c.start(func() { c.spf[i] = c.checkSPF(ctx, id) })
	}
	c.start(func() { c.iprev = c.checkIPRev(ctx) })
	return c
}

// start runs f beside the rest. A panic of f is kept: a record of a stranger must not
// end the server, whatever a library makes of it.
func (c *check) start(f func()) {
	c.begun.Go(func() {
		defer c.rescue()
		f()
	})
}

// rescue is deferred where a panic is to be kept.
func (c *check) rescue() {
	if p := recover(); p != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = errors.Join(c.broken, fmt.Errorf("mailauth: panic: %v\n%s", p, debug.Stack()))
	}
}

// Write implements io.Writer: the text is read when it is whole.
func (c *check) Write(p []byte) (int, error) { return len(p), nil }

// look looks into the header and begins to ask what will be asked when the text is
// whole. It does so once.
func (c *check) look(h header.Header) {
	if c.looked {
		return
	}
	c.looked = true
	c.author, c.why = authorDomain(h)
	c.signatures = signatures(h)
	early := func(name string) {
		c.start(func() {
			_, _ = c.dns.LookupTXT(c.ctx, name) // whoever needs it asks too, and is told what is wrong
		})
	}
	for _, s := range c.signatures {
		if s.domain != "" && s.selector != "" {
			early(s.selector + "._domainkey." + s.domain)
		}
	}
	if c.author != "" {
		early("_dmarc." + c.author)
	}
}

// results waits for what was begun and does the rest.
func (c *check) results(ctx context.Context, t *policy.Transaction) (*Results, error) {
	c.look(t.Header)
	walk := walker{c.dns}
	var found discovery
	c.start(func() {
		if c.author != "" {
			found = walk.discover(ctx, c.author)
		}
	})
	keys, err := c.verifyDKIM(ctx, t)
	c.begun.Wait()
	if err = errors.Join(err, c.broken); err != nil {
		return nil, err
	}
	r := &Results{SPF: c.spf, DKIM: keys, IPRev: c.iprev}
	r.DMARC, r.From = walk.evaluate(ctx, c.author, c.why, found, r)
	return r, nil
}

// identities is what SPF is asked about, the one that counts first.
func (c *check) identities() []SPF {
	helo := SPF{Identity: Helo}
	if d := domainOf(c.helo); strings.Contains(d, ".") {
		helo.Domain = d
	}
	if c.from.Domain == "" {
		return []SPF{helo}
	}
	from := SPF{Identity: MailFrom, Domain: domainOf(c.from.Domain)}
	if helo.Domain == "" || helo.Domain == from.Domain {
		return []SPF{from}
	}
	return []SPF{from, helo}
}
