package queue

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// State is where a message stands.
type State string

const (
	StateReady   State = "ready"
	StateWaiting State = "waiting"
	StateLeased  State = "leased"
	StateDead    State = "dead"
)

// Entry is all that is known of a message, its text aside.
type Entry struct {
	ID       ID
	State    State
	Envelope Envelope // the recipients still owed
	Settled  []Outcome
	Origin
	Size        int64     // octets of the stored text
	Attempts    int       // deliveries that failed
	NextAttempt time.Time // zero: at once
	LastError   string    // of the last failed attempt
	RequeuedAt  time.Time // when Inspector.Requeue last revived it; zero: never
	Facts       Facts
	Quarantine  string
	Prepend     []byte
	Skip        []Range
	Dead        *Dead // nil unless State is StateDead
}

// Dead is why and since when a message is a dead letter.
type Dead struct {
	RejectedAt time.Time
	Reason     string
	Kind       Kind
	// Keep is as in the Cause that it was buried with.
	Keep time.Duration
}

// Filter selects entries. Every field that is set must match; the zero Filter
// matches all.
type Filter struct {
	IDs    []ID
	States []State
	// From and Rcpt match the sender or any recipient, owed or settled,
	// without regard to case, to quotes in a local part, and to whether a
	// domain is written in A-labels: an address whole, or "@example.org" all
	// of a domain. From "<>" matches the null sender.
	From, Rcpt string
	// Before matches what was received earlier; for dead letters, what died
	// earlier.
	Before time.Time
	// Reason matches a part of the dead letter's reason or kind, or of the
	// last error, without regard to case.
	Reason string
}

// Match reports whether f selects e.
func (f Filter) Match(e Entry) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID) {
		return false
	}
	if len(f.States) > 0 && !slices.Contains(f.States, e.State) {
		return false
	}
	if f.From != "" && !matchAddress(f.From, e.Envelope.MailFrom) {
		return false
	}
	if f.Rcpt != "" && !f.matchRecipient(e) {
		return false
	}
	since, reason := e.ReceivedAt, e.LastError
	if e.Dead != nil {
		since, reason = e.Dead.RejectedAt, e.Dead.Reason+" "+string(e.Dead.Kind)
	}
	if !f.Before.IsZero() && !since.Before(f.Before) {
		return false
	}
	return f.Reason == "" || strings.Contains(strings.ToLower(reason), strings.ToLower(f.Reason))
}

func (f Filter) matchRecipient(e Entry) bool {
	for _, r := range e.Envelope.RcptTo {
		if matchAddress(f.Rcpt, r.Address) {
			return true
		}
	}
	for _, o := range e.Settled {
		if matchAddress(f.Rcpt, o.Recipient) {
			return true
		}
	}
	return false
}

func matchAddress(pattern, address string) bool {
	if pattern == "<>" {
		return address == ""
	}
	if whole, ok := strings.CutPrefix(pattern, "@"); ok {
		_, domain, found := mailbox.Split(address)
		return found && mailbox.Fold(whole) == mailbox.Fold(domain)
	}
	return mailbox.Key(pattern) == mailbox.Key(address)
}

// Inspector is what the operator's tools need of a backend. A Queue may
// implement it. All methods may be called from any goroutine, while messages
// come and go: an entry listed may be gone when it is asked for.
type Inspector interface {
	// List yields the entries that match, by ReceivedAt, then ID. A broken
	// entry is an error in the sequence, and the sequence goes on.
	List(ctx context.Context, f Filter) iter.Seq2[Entry, error]
	// Get returns one entry, or ErrNotFound.
	Get(ctx context.Context, id ID) (Entry, error)
	// Open reads a message as an adapter would. The caller closes it. It
	// returns ErrNotFound for an unknown ID.
	Open(ctx context.Context, id ID) (io.ReadCloser, error)
	// Retry makes a waiting message due now; a ready one is left as it is.
	// ErrNotFound, also for a dead letter; ErrLeased.
	Retry(ctx context.Context, id ID) error
	// Requeue makes a dead letter live again: due now, no attempts counted,
	// RequeuedAt set, so that its age is counted from now, the rejected
	// recipients owed again with their DSN parameters. ErrNotFound, also for
	// a message that is not dead; ErrIncomplete.
	Requeue(ctx context.Context, id ID) error
	// Delete removes a message for good. ErrNotFound, ErrLeased.
	Delete(ctx context.Context, id ID) error
	// Pause stops Lease from handing out messages, over restarts, until
	// Resume. Accepting goes on.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Paused() bool
}
