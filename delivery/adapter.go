// Package delivery gets messages out of a queue and into an application: a Pool
// of workers leases each message, calls an Adapter, and writes the verdict
// back. Retries wait on the message, never on a worker. It knows queue and
// telemetry, and nothing of the wire.
package delivery

import (
	"context"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Adapter hands a message to an application. Deliver is called from many
// workers at once; one message is with one worker at a time. It may be called
// more than once with the same m.ID (at least once): the ID is the idempotency
// key. What it returns is the verdict:
//
//   - nil: every recipient in m.Envelope.RcptTo was delivered;
//   - Reject(err): no, for good: the message becomes a dead letter. The sender
//     is not told, unless he waits (see Acceptance): whoever must say no to the
//     sender does it in a policy at StageMessage, before commit, or so;
//   - RetryAfter(d, err): again after d (0 or less: by the back-off);
//   - Postpone(d, err): nothing was tried; again after d, at no attempt's cost;
//   - PerRecipient(results): a verdict for each recipient;
//   - any other error, a panic, or a deadline passed: again by the back-off,
//     until the message is spent.
//
// The verdict is found by errors.As, the outermost wins; a joined error
// (errors.Join) that has any part without a verdict is a retry.
//
// ctx ends at the delivery deadline, or when the server is closed by force; an
// error after ctx was ended by force costs no attempt. A call that has not
// returned 10 s past its deadline is abandoned: the message is retried, and the
// late verdict is logged and dropped. m and readers opened from it work until
// Deliver returns or is abandoned.
type Adapter interface {
	Deliver(ctx context.Context, m *queue.Message) error
}

// AdapterFunc is a func that is an Adapter.
type AdapterFunc func(ctx context.Context, m *queue.Message) error

// Deliver calls f.
func (f AdapterFunc) Deliver(ctx context.Context, m *queue.Message) error { return f(ctx, m) }

var _ Adapter = AdapterFunc(nil)

// Find is the first of a, and of what it stands in front of, that is a T: Accepter or
// Keeper. An adapter that only stands in front of another has a method Unwrap that
// returns it, so that what the other says of itself is heard.
func Find[T any](a Adapter) (found T, ok bool) {
	for a != nil {
		if found, ok = a.(T); ok {
			return found, true
		}
		front, is := a.(interface{ Unwrap() Adapter })
		if !is {
			break
		}
		a = front.Unwrap()
	}
	return found, false
}

// Keeper is an Adapter that says how long dead letters of its messages are kept.
type Keeper interface {
	Adapter
	// Keep is asked when m becomes a dead letter: 0 is as the queue does with its
	// kind, negative for ever.
	Keep(m *queue.Message) time.Duration
}
