// Package mailauth finds out who sent a message: SPF (RFC 7208), DKIM (RFC 6376),
// DMARC (RFC 9989) and iprev (RFC 8601 §3). What it finds is a fact of the message,
// [Results] under the key [Fact], and an Authentication-Results field on top of it.
//
// By default it only looks. With [Options].Enforce it does what the author's domain
// asks for, with care: see [Options].
//
// It asks the DNS through policy/resolver and keeps nothing between messages.
package mailauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/resolver"
)

// Options is how a Verifier judges. The zero value of a field is the default in
// parentheses.
type Options struct {
	// Resolver is asked; it must be given.
	Resolver resolver.Resolver
	// AuthservID is the name under which the Authentication-Results field is
	// signed, and of which forged fields are removed (the server's hostname).
	AuthservID string
	// Budget is the time that one message may wait for the DNS in all (8 s);
	// negative is no bound but that of any policy. What is not known by then is a
	// temperror.
	Budget time.Duration

	// Enforce lets a message feel what its author's domain asks for (no). One that
	// fails DMARC is then
	//
	//   - marked for quarantine where the domain asks for that,
	//   - refused where the domain asks for reject, if nothing speaks for a
	//     message that was forwarded: no signature on it verifies, it has no
	//     header of a mailing list, and its client is no listed forwarder; else it
	//     is marked.
	//
	// What SPF says by itself never refuses.
	Enforce bool
	// Forwarders are clients known to pass on mail of others, for which DMARC
	// cannot but fail.
	Forwarders []netip.Prefix
	// ForwarderDomains is the same by name: "example.net" is a client whose name
	// leads back to its address (iprev) and is that or ends in ".example.net".
	ForwarderDomains []string
	// DeferTemperror answers 451 4.4.3 when nothing vouches for the author's domain
	// and the DNS could not tell of something that might, or what the domain asks for
	// (the message is accepted, with the fact). Enforce is not needed.
	DeferTemperror bool
}

// Verifier is the policy. It is asked when the header and when the whole message is
// in. Its name is mailauth.
type Verifier struct {
	opts Options
}

var _ policy.Tapper = (*Verifier)(nil)

// New makes a Verifier. It is an error when there is no resolver, and when a
// forwarder's domain is none.
func New(o Options) (*Verifier, error) {
	if o.Resolver == nil {
		return nil, errors.New("mailauth: no resolver to ask")
	}
	switch {
	case o.Budget == 0:
		o.Budget = 8 * time.Second
	case o.Budget < 0:
		o.Budget = 24 * time.Hour
	}
	o.Forwarders = slices.Clone(o.Forwarders)
	domains := make([]string, len(o.ForwarderDomains))
	for i, d := range o.ForwarderDomains {
		if domains[i] = domainOf(strings.TrimPrefix(d, ".")); domains[i] == "" {
			return nil, fmt.Errorf("mailauth: forwarder %q is no domain", d)
		}
	}
	o.ForwarderDomains = domains
	return &Verifier{opts: o}, nil
}

// Name is "mailauth".
func (v *Verifier) Name() string { return "mailauth" }

// Asks implements policy.Asker.
func (v *Verifier) Asks(stage policy.Stage) bool {
	return stage == policy.StageHeader || stage == policy.StageMessage
}

// Tap begins with what the envelope alone tells, while the text streams in. The
// text itself is read once, from the queue's draft, when it is whole.
func (v *Verifier) Tap(ctx context.Context, t *policy.Transaction) io.Writer {
	return newCheck(ctx, v, t)
}

// Check begins with the keys and the author's policy at StageHeader, and judges at
// StageMessage.
func (v *Verifier) Check(ctx context.Context, stage policy.Stage, t *policy.Transaction) error {
	if !v.Asks(stage) {
		return nil
	}
	c, begun := t.Tapped().(*check)
	if stage == policy.StageHeader {
		if begun {
			c.look(t.Header)
		}
		return nil
	}
	if !begun { // by a caller that taps nothing
		c = newCheck(ctx, v, t)
	}
	results, err := c.results(ctx, t)
	if err != nil {
		return err
	}
	answer := v.judge(t, results)
	if err := t.SetFact(Fact, results); err != nil {
		if t.SetFact(Fact, results.brief()) != nil {
			return err
		}
	}
	id := v.opts.AuthservID
	if id == "" {
		id = t.Hostname
	}
	for f := range t.Header.Fields() {
		if strings.EqualFold(f.Name, fieldName) && claims(f.Value(), id) {
			t.Remove(f)
		}
	}
	if err := t.Prepend(fieldName, formatField(id, t.Peer.Addr(), results)); err != nil {
		return err
	}
	return answer
}
