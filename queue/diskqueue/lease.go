package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// again is how long a message waits whose lease could not be begun or ended on
// the disk, so that a disk that says no is not asked without pause.
const again = time.Second

// mostError is how much of an error's text is kept with a message.
const mostError = 8 << 10

// lease is one message in the hands of one caller.
type lease struct {
	q   *Queue
	e   *entry
	r   *record
	msg *queue.Message

	mu    sync.Mutex
	ended error // what every method answers from now on
}

// Lease implements queue.Queue. A message that turns out not to be what it
// should be is set aside, and the next one is taken.
func (q *Queue) Lease(ctx context.Context) (queue.Lease, error) {
	for {
		e, err := q.schedule.take(ctx)
		if errors.Is(err, queue.ErrClosed) {
			return nil, wrap(err)
		}
		if err != nil {
			return nil, err // ctx's own
		}
		if err := q.enter(); err != nil {
			return nil, err
		}
		r, err := q.tier.lease(e)
		if err == nil {
			l := q.newLease(e, r)
			q.leave()
			return l, nil
		}
		q.notLeased(e, err)
		q.leave()
	}
}

func (q *Queue) newLease(e *entry, r *record) *lease {
	src := func() (queue.Raw, error) { return q.tier.text(e) }
	r.State = queue.StateLeased
	l := &lease{q: q, e: e, r: r, msg: queue.NewMessage(r.Entry, src)}
	q.gate.Lock()
	q.leases[l] = struct{}{}
	q.gate.Unlock()
	return l
}

// notLeased finds out whether the message is to blame or the storage.
func (q *Queue) notLeased(e *entry, err error) {
	reason, its := q.verdict(err)
	switch {
	case its && errors.Is(err, fs.ErrNotExist):
		q.schedule.forget(e)
		q.complain("lease", e.id, removedByOthers(err))
	case its:
		q.setAside(e, reason)
	case kindOf(err) == queue.ErrSick:
		_ = q.fault("lease", e.id, err) // told to the hook; nothing is handed out now
		q.schedule.put(e, func() { e.state = ready })
	default:
		_ = q.fault("lease", e.id, err) // likewise; the message waits
		q.offerLater(e, time.Time{})
	}
}

// setAside makes a dead letter of a message that is not what it should be.
func (q *Queue) setAside(e *entry, reason string) {
	q.complain("lease", e.id, &brokenError{reason})
	n := newNote(queue.KindCorrupt, reason, "")
	err := q.tier.bury(e, n)
	if err == nil {
		q.buried(e, n)
		return
	}
	if _, its := q.verdict(err); its {
		// It cannot even be moved, and it is alone in that. It stays where it
		// is until the spool is opened again.
		q.schedule.forget(e)
		q.complain("lease", e.id, fmt.Errorf("the message cannot be set aside, and is left where it is: %w", err))
		return
	}
	_ = q.fault("set aside", e.id, err) // told to the hook; tried again
	q.offerLater(e, time.Time{})
}

// distrust sets a message in the journal aside that could not be read when it
// was to be moved. One that is in delivery is left to who has it; the next
// lease reads it whole.
func (q *Queue) distrust(sp *spot, why error) {
	if q.enter() != nil {
		return // the next process finds it
	}
	go func() {
		defer q.leave()
		id, ok := q.schedule.at(sp)
		if !ok {
			return
		}
		e, err := q.schedule.hold(id)
		if err != nil {
			return
		}
		if e.place() != inJournal { // buried meanwhile
			q.schedule.put(e, func() { e.busy = false })
			return
		}
		if reason, its := q.verdict(why); its {
			q.setAside(e, reason)
			return
		}
		_ = q.fault("move", id, why) // told to the hook; the storage is sick
		q.schedule.put(e, func() { e.busy = false })
	}()
}

// complain tells the hook of an entry that is at fault by itself.
func (q *Queue) complain(op string, id queue.ID, err error) {
	telemetry.Emit(q.o.Hooks.SpoolError, telemetry.SpoolError{
		Op: op, ID: string(id), Path: q.dir, Err: fmt.Errorf("diskqueue: %s %s: %w", op, id, err)})
}

func (q *Queue) buried(e *entry, n *note) {
	q.schedule.put(e, func() {
		e.busy = false
		e.die(n)
	})
}

// offerLater offers a message again, at a time and not at once.
func (q *Queue) offerLater(e *entry, at time.Time) {
	if soon := time.Now().Add(again); at.Before(soon) {
		at = soon
	}
	q.schedule.put(e, func() { e.busy, e.state, e.at = false, waiting, dueMilli(at) })
}

// Message implements queue.Lease.
func (l *lease) Message() *queue.Message { return l.msg }

// Settle implements queue.Lease.
func (l *lease) Settle(_ context.Context, done []queue.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	if err := l.q.enter(); err != nil {
		return err
	}
	defer l.q.leave()
	next := *l.r
	if !next.settle(done) {
		return nil
	}
	if err := l.q.tier.update(l.e, &next); err != nil {
		return l.q.fault("settle", l.e.id, err)
	}
	l.r = &next
	l.msg.Envelope.RcptTo = next.Envelope.RcptTo
	l.msg.Settled = next.Settled
	return nil
}

// Ack implements queue.Lease.
func (l *lease) Ack(context.Context) error {
	return l.end("ack", time.Time{}, func() error {
		if err := l.q.tier.remove(l.e); err != nil {
			return err
		}
		l.q.schedule.forget(l.e)
		return nil
	})
}

// Retry implements queue.Lease.
func (l *lease) Retry(_ context.Context, at time.Time, cause error) error {
	return l.end("retry", at, func() error {
		next := *l.r
		if cause != nil {
			next.Attempts++
			next.LastError = errorText(cause)
		}
		next.NextAttempt = time.Time{}
		if at.After(time.Now()) {
			next.NextAttempt = unixMilli(dueMilli(at))
		}
		if err := l.q.tier.retry(l.e, &next); err != nil {
			return err
		}
		l.q.schedule.put(l.e, func() {
			l.e.state, l.e.at = waiting, dueMilli(next.NextAttempt)
		})
		return nil
	})
}

// Bury implements queue.Lease.
func (l *lease) Bury(_ context.Context, cause error) error {
	return l.end("bury", time.Time{}, func() error {
		n := newNote(queue.KindOf(cause), errorText(cause), "")
		n.Keep = queue.KeepOf(cause)
		if err := l.q.tier.bury(l.e, n); err != nil {
			return err
		}
		l.q.buried(l.e, n)
		return nil
	})
}

// Release implements queue.Lease.
func (l *lease) Release(context.Context) error {
	return l.end("release", time.Time{}, func() error {
		if err := l.q.tier.release(l.e, l.r); err != nil {
			return err
		}
		l.q.schedule.put(l.e, func() { l.e.state = ready })
		return nil
	})
}

// end ends the lease by write, which puts the entry where it belongs. When it
// fails the message is offered again, from at on.
func (l *lease) end(op string, at time.Time, write func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	if err := l.q.enter(); err != nil {
		return err // Close ends it
	}
	defer l.q.leave()
	l.finish(&endedError{l.e.id})
	err := write()
	if err == nil {
		return nil
	}
	if p := l.e.place(); p == inProcessing || p == inJournal {
		// So that a crash counts no attempt for what is not in delivery. When
		// that fails too it is leased from where it lies.
		if rerr := l.q.tier.release(l.e, l.r); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	err = l.q.fault(op, l.e.id, err)
	l.q.offerLater(l.e, at)
	return err
}

// endedError is queue.ErrLeaseEnded with the message's ID. Every lease ends with
// one, and few are ever read.
type endedError struct{ id queue.ID }

func (e *endedError) Error() string {
	return fmt.Sprintf("diskqueue: %s: %v", e.id, queue.ErrLeaseEnded)
}
func (e *endedError) Unwrap() error { return queue.ErrLeaseEnded }

func (l *lease) finish(why error) {
	l.ended = why
	l.msg.Expire()
	l.q.gate.Lock()
	delete(l.q.leases, l)
	l.q.gate.Unlock()
}

// lose ends the lease when the queue is closed: on the disk, the message stays
// in delivery.
func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.finish(fmt.Errorf("diskqueue: %s: %w: %w", l.e.id, queue.ErrLeaseEnded, queue.ErrClosed))
	}
}

// errorText is err as it is kept with a message: a cause may be nil, or long.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	return s[:min(len(s), mostError)]
}
