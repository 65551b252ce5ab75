package delivery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// RejectError is a verdict: no, for good. Reject makes it.
type RejectError struct{ Err error }

func (e *RejectError) Error() string { return e.Err.Error() }
func (e *RejectError) Unwrap() error { return e.Err }

// Reject says no for good: the message, or in PerRecipient the recipient, is not
// offered again, and the message becomes a dead letter once nobody is owed. The
// sender is not told, unless he waits: see Acceptance. A nil err is replaced by "rejected", so that it is a
// refusal all the same.
func Reject(err error) error {
	if err == nil {
		err = errors.New("rejected")
	}
	return &RejectError{Err: err}
}

// RetryError is a verdict: again later. RetryAfter makes it.
type RetryError struct {
	After time.Duration // 0 or less: by the back-off
	Err   error
	// Contained says that what failed is one of several places behind the
	// adapter, which watches over each itself: it does not count towards the
	// pool's hold.
	Contained bool
	// Begun says that one of several places has taken it already: a sender who waits
	// for the verdict is told that it is accepted, for that place would get what he
	// sends again a second time.
	Begun bool
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// RetryAfter says again after d; with d 0 or less, by the back-off. It is a
// failed attempt, and a message that is spent becomes a dead letter all the
// same. A nil err is replaced by "retry", so that it is a retry all the same.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("retry")
	}
	return &RetryError{After: d, Err: err}
}

// PostponeError is a verdict: not tried. Postpone makes it.
type PostponeError struct {
	After time.Duration // 0 or less: a second
	Err   error
	Begun bool // as in RetryError
}

func (e *PostponeError) Error() string { return e.Err.Error() }
func (e *PostponeError) Unwrap() error { return e.Err }

// Postpone says that nothing was tried, such as when what the message is for has
// no place now: again after d, or after a second when d is 0 or less. It costs no
// attempt and says nothing of the adapter; only the message's age can still make
// it a dead letter. A nil err is replaced by "postponed".
func Postpone(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("postponed")
	}
	return &PostponeError{After: d, Err: err}
}

// SpentError is a verdict: failed too often, or for too long. Spent makes it.
type SpentError struct{ Err error }

func (e *SpentError) Error() string { return e.Err.Error() }
func (e *SpentError) Unwrap() error { return e.Err }

// Spent is as Reject, for an adapter that counts attempts or time by its own
// measure: the dead letter's kind is spent, unless somebody was rejected in the
// same attempt. A nil err is replaced by "spent".
func Spent(err error) error {
	if err == nil {
		err = errors.New("spent")
	}
	return &SpentError{Err: err}
}

// RecipientsError is a verdict for each recipient. PerRecipient makes it.
type RecipientsError struct {
	// Results is the verdict of each recipient, by its address as it stands
	// in the Envelope.
	Results map[string]error
}

// Error names the recipients that were not delivered, as far as maxText goes.
func (e *RecipientsError) Error() string {
	var b strings.Builder
	b.WriteString("per recipient:")
	for _, rcpt := range slices.Sorted(maps.Keys(e.Results)) {
		if err := e.Results[rcpt]; err != nil && b.Len() <= maxText {
			b.WriteString(" " + rcpt + ": " + text(err) + ";")
		}
	}
	return b.String()
}

// PerRecipient is a verdict for each recipient, by its address as it stands in
// m.Envelope.RcptTo: nil is delivered, the others as if returned by Deliver. A
// recipient that is missing is retried; a key that is not owed is ignored and
// logged. An empty or nil map retries all. Those retried are offered again
// together, without the others, at the earliest time that any of them was told,
// so that none holds up another. The map is the pool's from then on.
func PerRecipient(results map[string]error) error { return &RecipientsError{Results: results} }

// Each makes an Adapter of a func that delivers to one recipient: it is called
// for each recipient owed, one after the other, and its results are the verdict
// for each. A panic is a retry of that recipient and leaves the others alone. It
// stops calling when ctx ends; the recipients left are retried.
func Each(deliver func(ctx context.Context, m *queue.Message, rcpt string) error) Adapter {
	return AdapterFunc(func(ctx context.Context, m *queue.Message) error {
		results := make(map[string]error, len(m.Envelope.RcptTo))
		for _, rcpt := range m.Envelope.Addresses() {
			if ctx.Err() != nil {
				break
			}
			results[rcpt] = recovered(func() error { return deliver(ctx, m, rcpt) })
		}
		return PerRecipient(results)
	})
}

// Call is a.Deliver, save that a panic is an error, which the pool tells from
// others wherever it stands in the verdict. It is for an adapter that asks
// others, so that one that panics leaves the rest alone.
func Call(ctx context.Context, a Adapter, m *queue.Message) error {
	return recovered(func() error { return a.Deliver(ctx, m) })
}

// Results is a verdict taken apart: what it says of each of those recipients, as
// the pool would read it. One that it leaves out gets a plain error.
func Results(verdict error, rcpts []string) (each map[string]error) {
	each = make(map[string]error, len(rcpts))
	all := func(err error) {
		for _, r := range rcpts {
			each[r] = err
		}
	}
	panicked := recovered(func() error {
		v, ok := find(verdict).(*RecipientsError)
		if !ok {
			all(verdict)
			return nil
		}
		for _, r := range rcpts {
			err, ok := v.Results[r]
			if !ok {
				err = errors.New("left out of the verdict")
			}
			each[r] = err
		}
		return nil
	})
	if panicked != nil {
		all(panicked)
	}
	return each
}

// Final reports whether a verdict is one that no retry follows: nil, or Reject or
// Spent.
func Final(verdict error) bool { return verdict == nil || final(find(verdict)) }

// Postponed reports whether a verdict says that nothing was tried.
func Postponed(verdict error) bool {
	_, is := find(verdict).(*PostponeError)
	return is
}
