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
// sender is not told. A nil err is replaced by "rejected", so that it is a
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
