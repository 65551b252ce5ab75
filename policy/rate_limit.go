package policy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/smtp"
)

// RateLimitOptions bounds a RateLimiter. Zero is the default in parentheses,
// negative is none.
type RateLimitOptions struct {
	Count          int           // (5) MAIL commands of one client in Window
	SenderCount    int           // (none) MAIL commands with one sender's domain in Window, of all clients
	RecipientCount int           // (none) RCPT commands for one recipient in Window, of all clients
	Window         time.Duration // (60 s)
	Entries        int           // (100 000) remembered of clients, of domains, of recipients; past it the idlest is forgotten

	// Shared is where several nodes count together; nil: this process counts
	// by itself. While it fails each process counts by itself, so that mail
	// goes on and is still limited.
	Shared RateCounter
	// OnShared is told when Shared begins to fail, and with nil when it is
	// well again; nil logs both to slog.Default. It must not block.
	OnShared func(err error)
}

// RateLimiter refuses with 450 who has used up a count in the time that has just
// passed: a client at MAIL (4.7.1), a sender's domain at MAIL (4.7.1), a
// recipient at RCPT (4.2.1). The window truly slides: at each moment no more than
// the count were let through in the last Window. What is refused does not count,
// so that who goes on trying gets its share.
//
// A client is an IPv4 address or an IPv6 /64; a peer without an IP address is
// local and not limited. Domains are compared by A-label and without case,
// recipients also without case. The null sender has no domain: bounces are
// limited by client and recipient only.
//
// Counting in this process costs about 200 octets a client, domain or recipient
// and 8 for each that was let through, and forgets those whose window has passed
// as it is asked: it needs no Close. Its name is rate_limit.
type RateLimiter struct {
	count, senders, recipients int // 0: no limit
	window                     time.Duration

	own    *rateTable
	shared *sharedRates // nil: there is none
}

// RateUse is one use of what is limited.
type RateUse struct {
	Of    string // RateClient, RateSender or RateRecipient
	Key   string // which one: "192.0.2.1/32", "2001:db8::/64", "example.net", "b@example.org"
	Count int    // how many are let through in a window
}

// What RateUse.Of may be.
const (
	RateClient    = "client"
	RateSender    = "sender"
	RateRecipient = "recipient"
)

// RateCounter is where uses are counted. One that several nodes reach lets them
// share a limit.
type RateCounter interface {
	// Take counts each of the uses, if none has had its Count in the window that
	// has just passed, and returns -1; else it counts none of them, and returns
	// the index of one that has. It is called from many sessions at once, and is
	// to return soon after ctx ends, which is within a second.
	Take(ctx context.Context, window time.Duration, uses []RateUse) (over int, err error)
}

// RateLimit makes a RateLimiter; nil options are the defaults.
func RateLimit(o *RateLimitOptions) *RateLimiter {
	if o == nil {
		o = new(RateLimitOptions)
	}
	l := &RateLimiter{count: 5, senders: max(o.SenderCount, 0), recipients: max(o.RecipientCount, 0), window: time.Minute}
	if o.Count != 0 {
		l.count = max(o.Count, 0)
	}
	if o.Window != 0 {
		l.window = o.Window
	}
	if l.window < 0 {
		l.count, l.senders, l.recipients = 0, 0, 0
	}
	entries := 100_000
	if o.Entries != 0 {
		entries = o.Entries
	}
	l.own = newRateTable(entries)
	if o.Shared != nil {
		l.shared = &sharedRates{counter: o.Shared, tell: o.OnShared}
	}
	return l
}

// Name is "rate_limit".
func (l *RateLimiter) Name() string { return "rate_limit" }

func (l *RateLimiter) neverWaits() bool { return l.shared == nil }

// Asks implements Asker.
func (l *RateLimiter) Asks(stage Stage) bool {
	return stage == StageMail && l.count+l.senders > 0 || stage == StageRcpt && l.recipients > 0
}

// Check counts at StageMail and StageRcpt.
func (l *RateLimiter) Check(ctx context.Context, stage Stage, t *Transaction) error {
	if !l.Asks(stage) {
		return nil
	}
	var room [2]RateUse
	uses := room[:0]
	switch stage {
	case StageMail:
		if l.count > 0 && t.Peer.IsValid() {
			uses = append(uses, RateUse{RateClient, clientOf(t.Peer.Addr()).String(), l.count})
		}
		if l.senders > 0 && t.From.Domain != "" {
			uses = append(uses, RateUse{RateSender, mailbox.Fold(t.From.Domain), l.senders})
		}
	case StageRcpt:
		to := t.Rcpt().Path
		uses = append(uses, RateUse{RateRecipient, mailbox.Local(to.Local) + "@" + mailbox.Fold(to.Domain), l.recipients})
	}
	if over := l.take(ctx, uses); over >= 0 {
		u := uses[over]
		key := u.Of
		if key == RateRecipient {
			key = "rcpt" // by which the log knows an address
		}
		return Because(fmt.Errorf("more than %d of the %s %s in %v: %w", u.Count, u.Of, u.Key, l.window, tooOften(u.Of)),
			u.Of, slog.String(key, u.Key), slog.Int("count", u.Count), slog.Duration("window", l.window))
	}
	return nil
}

func tooOften(of string) *smtp.Reply {
	switch of {
	case RateSender:
		return replySenderTooOften
	case RateRecipient:
		return replyRecipientTooOften
	}
	return replyTooOften
}

func (l *RateLimiter) take(ctx context.Context, uses []RateUse) (over int) {
	if len(uses) == 0 {
		return -1
	}
	if l.shared != nil {
		if over, ok := l.shared.take(ctx, l.window, uses); ok {
			return over
		}
	}
	return l.own.take(l.window, uses)
}

// Len is how many clients, domains and recipients this process remembers.
func (l *RateLimiter) Len() int { return l.own.len() }

func clientOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails only for bits out of range
	return p
}
