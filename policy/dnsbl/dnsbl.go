// Package dnsbl asks DNS blocklists (RFC 5782) about the client's address. It
// believes a list only as long as that makes sense: answers that are no listing, and
// a list that lists everything or nothing, switch its zone off until it is well
// again. Trouble with the DNS is never a listing.
package dnsbl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/resolver"
)

// Zone is one list.
type Zone struct {
	// Name is the list's zone, "zen.spamhaus.org".
	Name string
	// Codes is which answers count; the list's manual has them. Required.
	Codes []Codes
	// Action is what a listing leads to; "" is Reject.
	Action Action
}

// Action is what a listing leads to.
type Action string

const (
	Reject     Action = "reject"     // each recipient but postmaster gets 550 5.7.1, which names the zone
	Quarantine Action = "quarantine" // the message is marked "listed by ZONE"
	Fact       Action = "fact"       // the facts are kept, and nothing else is done
)

// Options may be nil. The zero value of a field is the default in parentheses.
type Options struct {
	// Exempt is clients that no list is asked about. Private, loopback and
	// link-local addresses never are.
	Exempt []netip.Prefix
	// Timeout (5 s) is for all lists about one client; who has not answered by
	// then has not listed it. 0 or less is the default.
	Timeout time.Duration
	// OnZone is told when a zone was tested for the first time, and when it was
	// switched off, with why, or, with nil, is in use again; nil logs a warning
	// to slog.Default. It must not block.
	OnZone func(zone string, why error)
}

// lists is the policy.
type lists struct {
	resolver resolver.Resolver
	zones    []*zone
	exempt   []netip.Prefix
	timeout  time.Duration
}

// New is a policy that asks all zones at once at each MAIL, and acts by those that
// list the client: it refuses at RCPT, so that the log says whose mail that was, and
// that who is listed by mistake can write to postmaster. A client by IPv4 is asked
// about as such, one by IPv6 by its whole address.
//
// A listed client's facts are "dnsbl.listed", true, and "dnsbl.zones", a list of
// {"zone": "zen.spamhaus.org", "codes": ["127.0.0.2"]}.
//
// A zone is tested before its first use and each hour: it must list 127.0.0.2 and
// must not list 127.0.0.1 (RFC 5782 §5). One that fails, and one that gives an answer
// which is no listing (of 127.255.255.0/24, or outside of 127.0.0.0/8), is switched
// off and tested again after 10 minutes; one that cannot be tested, or three times
// in a row does not answer, after a minute. Meanwhile it is not asked; a test holds up no message but
// the first. A question without an answer is a failure (policy.Failed), and mail goes
// on.
//
// r is required. It is an error when a zone is no domain, is named twice, or has no codes. A chain
// has one such policy at most. Its name is dnsbl.
func New(r resolver.Resolver, zones []Zone, o *Options) (policy.Policy, error) {
	if o == nil {
		o = new(Options)
	}
	p := &lists{resolver: r, exempt: o.Exempt, timeout: o.Timeout}
	if p.timeout <= 0 {
		p.timeout = 5 * time.Second
	}
	tell := o.OnZone
	if tell == nil {
		tell = warn
	}
	for _, z := range zones {
		name, err := mailbox.Domain(z.Name)
		switch {
		case err != nil || strings.HasPrefix(name, "[") || strings.ContainsAny(name, " *@") || !strings.Contains(name, "."):
			return nil, fmt.Errorf("dnsbl: zone %q is no domain", z.Name)
		case slices.ContainsFunc(p.zones, func(o *zone) bool { return o.name == name }):
			return nil, fmt.Errorf("dnsbl: zone %s is named twice", name)
		case len(z.Codes) == 0:
			return nil, fmt.Errorf("dnsbl: zone %s has no codes: name the answers that count", name)
		case !slices.Contains([]Action{"", Reject, Quarantine, Fact}, z.Action):
			return nil, fmt.Errorf("dnsbl: zone %s: %q is no action", name, z.Action)
		}
		p.zones = append(p.zones, &zone{name: name, codes: z.Codes, action: cmp.Or(z.Action, Reject), tell: tell, timeout: p.timeout})
	}
	return p, nil
}

// Name is "dnsbl".
func (p *lists) Name() string { return "dnsbl" }

// Asks implements what a policy.Chain looks at.
func (p *lists) Asks(stage policy.Stage) bool {
	return stage == policy.StageMail || stage == policy.StageRcpt
}

func warn(zone string, why error) {
	if why != nil {
		slog.Warn("dnsbl: a zone is switched off", "zone", zone, "error", why)
	}
}

// Listing is one element of the fact "dnsbl.zones".
type Listing struct {
	Zone  string   `json:"zone"`
	Codes []string `json:"codes"` // those that count
}

const (
	factListed = "dnsbl.listed"
	factZones  = "dnsbl.zones"
)

// Check implements policy.Policy.
func (p *lists) Check(ctx context.Context, stage policy.Stage, t *policy.Transaction) error {
	switch stage {
	case policy.StageMail:
		return p.ask(ctx, t)
	case policy.StageRcpt:
		return p.refuse(t)
	}
	return nil
}

// ask asks about the client, and marks the message where that is to be done.
func (p *lists) ask(ctx context.Context, t *policy.Transaction) error {
	client, ok := p.client(t)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	codes, failures := make([][]string, len(p.zones)), make([]error, len(p.zones))
	var all sync.WaitGroup
	for i, z := range p.zones {
		all.Go(func() { codes[i], failures[i] = z.ask(ctx, p.resolver, client) })
	}
	all.Wait()
	var found []Listing
	var mark, failed error
	for i, z := range p.zones {
		if failures[i] != nil {
			failed = errors.Join(failed, fmt.Errorf("zone %s: %w", z.name, failures[i]))
		}
		if len(codes[i]) == 0 {
			continue
		}
		found = append(found, Listing{z.name, codes[i]})
		if z.action == Quarantine && mark == nil {
			mark = because(policy.Quarantine("listed by "+z.name), client, found[len(found)-1])
		}
	}
	if len(found) > 0 {
		if err := errors.Join(t.SetFact(factListed, true), t.SetFact(factZones, found)); err != nil {
			return err
		}
	}
	if mark == nil && failed != nil {
		return policy.Because(policy.Failed(failed, policy.FailAccept), "no_answer", slog.String("client", client.String()))
	}
	return mark
}

// client is the address to ask about.
func (p *lists) client(t *policy.Transaction) (netip.Addr, bool) {
	a := t.Peer.Addr().Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return a, false // also one that is invalid
	}
	return a, !slices.ContainsFunc(p.exempt, func(n netip.Prefix) bool { return n.Contains(a) })
}

// refuse refuses a recipient of a client that was found at MAIL.
func (p *lists) refuse(t *policy.Transaction) error {
	raw := t.Fact(factZones)
	if raw == nil {
		return nil
	}
	var found []Listing
	if err := json.Unmarshal(raw, &found); err != nil {
		return fmt.Errorf("dnsbl: fact %s: %w", factZones, err)
	}
	client, _ := p.client(t)
	for _, l := range found {
		i := slices.IndexFunc(p.zones, func(z *zone) bool { return z.name == l.Zone && z.action == Reject })
		if i >= 0 {
			return because(fmt.Errorf("%v is listed by %s with %s: %w", client, l.Zone, strings.Join(l.Codes, ", "), named(l.Zone)), client, l)
		}
	}
	return nil
}

// because is an answer with the zone for its rule.
func because(answer error, client netip.Addr, l Listing) error {
	return policy.Because(answer, l.Zone, slog.String("client", client.String()), slog.String("codes", strings.Join(l.Codes, ", ")))
}
