// Package recipients refuses at RCPT an address that nobody here has: 550 5.1.1.
// Who exists is told by one or several sources: a [List] in memory, a [File], an
// application over HTTP ([OpenURL]), or a [Func].
//
// It asks for addresses, not for domains: that a domain is ours is settled before.
package recipients

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// Source knows which addresses exist.
type Source interface {
	// Known reports whether there is that address. It is given in the form in
	// which addresses are compared: in lower case, without quotes, its domain by
	// A-label ("b@xn--bcher-kva.example"; the local part, which ends at the last
	// "@", may have letters beyond ASCII). An error says that it cannot be told
	// now, and the client is told to come again. Known is called from many
	// sessions at once and is to return soon after ctx ends.
	Known(ctx context.Context, address string) (bool, error)
}

// Func is a func that is a Source.
type Func func(ctx context.Context, address string) (bool, error)

// Known calls f.
func (f Func) Known(ctx context.Context, address string) (bool, error) { return f(ctx, address) }

var _ Source = Func(nil)

// Options is how sources are asked. The zero value of a field is the default in
// parentheses, a negative one is none.
type Options struct {
	// Delimiters ("+") is the octets of which the first in a local part begins
	// its tag: user+tag@example.org exists if user@example.org does, or if it
	// exists itself. NoDelimiters lets no tag be one.
	Delimiters   string
	NoDelimiters bool
	// Timeout (5 s) is for all that is asked about one recipient. Past it the
	// client gets 451.
	Timeout time.Duration
	// KnownFor (5 min) and UnknownFor (30 s) is how long the answer of a source
	// that is no List and no File is remembered. An error never is.
	KnownFor, UnknownFor time.Duration
	// Entries (100 000) is how many answers are remembered of each such source;
	// past it those least used are forgotten.
	Entries int
}

// New is a policy that accepts a recipient whom one of the sources knows, asked in
// order. Whom none knows gets 550 5.1.1; while one cannot tell, and no other knows
// the recipient, 451 4.3.0: a failure (policy.Failed). The address without its tag is asked about first.
//
// A source that is no List and no File is asked about one address once at a time,
// however many sessions want to know, and about 64 at once at most. When the client
// leaves, the source is still asked to the end, for the others. Nil options are the
// defaults; without any source nobody exists. Its name is recipients.
func New(sources []Source, o *Options) policy.Policy {
	if o == nil {
		o = new(Options)
	}
	p := &known{delimiters: cmp.Or(o.Delimiters, "+"), timeout: cmp.Or(o.Timeout, 5*time.Second)}
	if o.NoDelimiters {
		p.delimiters = ""
	}
	for _, s := range sources {
		if _, ok := s.(inMemory); !ok {
			s = remember(s, p.timeout, o)
		}
		p.sources = append(p.sources, s)
	}
	return policy.Named("recipients", policy.OnRcpt(p.check))
}

// inMemory is a source that answers at once.
type inMemory interface{ neverWaits() }

type known struct {
	sources    []Source
	delimiters string
	timeout    time.Duration // negative: none
}

func (p *known) check(ctx context.Context, to smtp.Path, _ *policy.Transaction) error {
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	var failed error
	for _, s := range p.sources {
		for _, address := range p.spellings(to) {
			there, err := s.Known(ctx, address)
			if there {
				return nil
			}
			if err != nil {
				failed = errors.Join(failed, err)
			}
		}
	}
	who := slog.String("rcpt", to.String())
	if failed != nil {
		return policy.Because(policy.Failed(failed, policy.FailTempfail), "cannot_tell", who)
	}
	return policy.Because(replyUnknown, "unknown", who)
}

// spellings is the addresses that let a recipient in: without its tag, if it has
// one, and as a whole.
func (p *known) spellings(to smtp.Path) []string {
	local, domain := mailbox.Local(to.Local), "@"+mailbox.Fold(to.Domain)
	if i := strings.IndexAny(local, p.delimiters); i > 0 {
		return []string{local[:i] + domain, local + domain}
	}
	return []string{local + domain}
}

// entry is an entry of a list as it is compared: an address, or by @ a domain.
func entry(s string) (string, error) {
	bad := func() (string, error) {
		return "", fmt.Errorf("%q is no address; write name@example.org, or @example.org for all of a domain", s)
	}
	local, domain, found := mailbox.Split(s)
	if !found || domain == "*" || strings.ContainsAny(s, "<> \t\r\n") {
		return bad()
	}
	// The policy is asked, so that there is one opinion of what a domain is.
	if _, err := policy.AcceptDomains(domain); err != nil {
		return bad()
	}
	name := mailbox.Local(local)
	if local != "" && name == "" {
		return bad() // "" in quotes is not all of a domain
	}
	return name + "@" + mailbox.Fold(domain), nil
}

// List is a source in memory: addresses, and by @ whole domains.
type List struct{ set map[string]struct{} }

// NewList is a list of addresses, "name@example.org", and of domains of which
// every address exists, "@example.org". Case and quotes do not count, domains are
// compared by A-label. The error names the first that is neither.
func NewList(entries ...string) (*List, error) {
	l := &List{make(map[string]struct{}, len(entries))}
	for _, s := range entries {
		e, err := entry(s)
		if err != nil {
			return nil, err
		}
		l.set[e] = struct{}{}
	}
	return l, nil
}

// Len is how many addresses and domains there are.
func (l *List) Len() int { return len(l.set) }

// Known implements Source; it never fails.
func (l *List) Known(_ context.Context, address string) (bool, error) {
	_, there := l.set[address]
	if !there {
		_, there = l.set[address[max(strings.LastIndexByte(address, '@'), 0):]]
	}
	return there, nil
}

func (l *List) neverWaits() {}
