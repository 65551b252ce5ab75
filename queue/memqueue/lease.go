package memqueue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// lease is one message in the hands of one caller.
type lease struct {
	q     *Queue
	e     *entry
	msg   *queue.Message
	ended bool
}

func (l *lease) Message() *queue.Message { return l.msg }

// Settle makes new slices: an earlier message of the same entry may still be
// looked at.
func (l *lease) Settle(_ context.Context, done []queue.Outcome) error {
	if l.ended {
		return fmt.Errorf("memqueue: settle %s: %w", l.e.ID, queue.ErrLeaseEnded)
	}
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.q.isClosed() {
		return fmt.Errorf("memqueue: settle %s: %w", l.e.ID, queue.ErrClosed)
	}
	owed, settled := slices.Clone(l.e.Envelope.RcptTo), slices.Clone(l.e.Settled)
	for _, o := range done {
		i := slices.IndexFunc(owed, func(r queue.Recipient) bool { return r.Address == o.Recipient })
		if i < 0 {
			continue
		}
		owed, settled = slices.Delete(owed, i, i+1), append(settled, o)
	}
	l.e.Envelope.RcptTo, l.e.Settled = owed, settled
	l.msg.Envelope.RcptTo, l.msg.Settled = owed, settled
	return nil
}

func (l *lease) Ack(context.Context) error {
	return l.end("ack", func() {
		l.q.live.remove(l.e)
		l.q.forget(l.e)
	})
}

func (l *lease) Retry(_ context.Context, at time.Time, cause error) error {
	return l.end("retry", func() {
		if cause != nil {
			l.e.Attempts++
			l.e.LastError = cause.Error()
		}
		l.q.offer(l.e, at)
	})
}

func (l *lease) Bury(_ context.Context, cause error) error {
	return l.end("bury", func() {
		l.q.live.remove(l.e)
		l.q.dead++
		l.e.State, l.e.NextAttempt = queue.StateDead, time.Time{}
		l.e.Dead = &queue.Dead{
			RejectedAt: time.Now().UTC().Truncate(time.Millisecond),
			Reason:     reason(cause),
			Kind:       queue.KindOf(cause),
			Keep:       queue.KeepOf(cause),
		}
	})
}

func (l *lease) Release(context.Context) error {
	return l.end("release", func() { l.q.offer(l.e, time.Time{}) })
}

// end ends the lease and then does what the entry comes to, under the lock.
func (l *lease) end(op string, then func()) error {
	if l.ended {
		return fmt.Errorf("memqueue: %s %s: %w", op, l.e.ID, queue.ErrLeaseEnded)
	}
	l.ended = true
	l.msg.Expire()
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.q.isClosed() {
		return fmt.Errorf("memqueue: %s %s: %w", op, l.e.ID, queue.ErrClosed)
	}
	l.q.leased--
	then()
	return nil
}

func reason(cause error) string {
	if cause == nil {
		return ""
	}
	return cause.Error()
}
