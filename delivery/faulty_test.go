package delivery_test

import (
	"context"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// faulty is a queue of which some leases cannot be had, or not be ended as asked.
// What could not be ended is offered again after a second, or at once.
type faulty struct {
	queue.Queue
	fail   func(op string, m *queue.Message) error // m is nil for lease
	atOnce bool
}

func (q *faulty) Lease(ctx context.Context) (queue.Lease, error) {
	if err := q.fail("lease", nil); err != nil {
		return nil, err
	}
	l, err := q.Queue.Lease(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyLease{l, q}, nil
}

type faultyLease struct {
	queue.Lease
	q *faulty
}

func (l *faultyLease) end(op string, end func() error) error {
	err := l.q.fail(op, l.Message())
	if err == nil {
		return end()
	}
	at := time.Now()
	if !l.q.atOnce {
		at = at.Add(time.Second)
	}
	if e := l.Lease.Retry(context.Background(), at, nil); e != nil {
		return e
	}
	return err
}

func (l *faultyLease) Settle(ctx context.Context, done []queue.Outcome) error {
	if err := l.q.fail("settle", l.Message()); err != nil {
		return err
	}
	return l.Lease.Settle(ctx, done)
}

func (l *faultyLease) Ack(ctx context.Context) error {
	return l.end("ack", func() error { return l.Lease.Ack(ctx) })
}

func (l *faultyLease) Retry(ctx context.Context, at time.Time, cause error) error {
	return l.end("retry", func() error { return l.Lease.Retry(ctx, at, cause) })
}

func (l *faultyLease) Bury(ctx context.Context, cause error) error {
	return l.end("bury", func() error { return l.Lease.Bury(ctx, cause) })
}

func (l *faultyLease) Release(ctx context.Context) error {
	return l.end("release", func() error { return l.Lease.Release(ctx) })
}
