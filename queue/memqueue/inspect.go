package memqueue

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// List yields the entries as they were when the loop began.
func (q *Queue) List(ctx context.Context, f queue.Filter) iter.Seq2[queue.Entry, error] {
	return func(yield func(queue.Entry, error) bool) {
		q.mu.Lock()
		var found []queue.Entry
		for _, e := range q.entries {
			if f.Match(e.Entry) {
				found = append(found, e.Entry)
			}
		}
		q.mu.Unlock()
		slices.SortFunc(found, func(a, b queue.Entry) int {
			if byAge(&entry{Entry: a}, &entry{Entry: b}) {
				return -1
			}
			return 1
		})
		for _, e := range found {
			if err := ctx.Err(); err != nil {
				yield(queue.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Get returns one entry.
func (q *Queue) Get(_ context.Context, id queue.ID) (queue.Entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return queue.Entry{}, err
	}
	return e.Entry, nil
}

func (q *Queue) find(id queue.ID) (*entry, error) {
	if e, ok := q.entries[id]; ok {
		return e, nil
	}
	return nil, fmt.Errorf("memqueue: %s: %w", id, queue.ErrNotFound)
}

// Open reads a message as an adapter would, in whatever state it is.
func (q *Queue) Open(_ context.Context, id queue.ID) (io.ReadCloser, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return nil, err
	}
	return queue.NewMessage(e.Entry, e.text.open).Open()
}

// Retry makes a waiting message due now.
func (q *Queue) Retry(_ context.Context, id queue.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return err
	}
	switch e.State {
	case queue.StateLeased:
		return fmt.Errorf("memqueue: retry %s: %w", id, queue.ErrLeased)
	case queue.StateDead:
		return fmt.Errorf("memqueue: retry %s, which is dead: %w", id, queue.ErrNotFound)
	case queue.StateWaiting:
		q.waiting.remove(e)
		q.offer(e, time.Time{})
	}
	return nil
}

// Requeue makes a dead letter live again.
func (q *Queue) Requeue(_ context.Context, id queue.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return err
	}
	if e.State != queue.StateDead {
		return fmt.Errorf("memqueue: requeue %s, which is not dead: %w", id, queue.ErrNotFound)
	}
	var delivered []queue.Outcome
	for _, o := range e.Settled {
		if o.Rejected == "" {
			delivered = append(delivered, o)
		}
	}
	var owed []queue.Recipient
	for _, r := range e.all {
		if !slices.ContainsFunc(delivered, func(o queue.Outcome) bool { return o.Recipient == r.Address }) {
			owed = append(owed, r)
		}
	}
	e.Envelope.RcptTo, e.Settled = owed, delivered
	e.Dead, e.Attempts, e.LastError = nil, 0, ""
	e.RequeuedAt = time.Now().UTC().Truncate(time.Millisecond)
	q.dead--
	q.live.push(e)
	q.offer(e, time.Time{})
	return nil
}

// Delete removes a message.
func (q *Queue) Delete(_ context.Context, id queue.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return err
	}
	switch e.State {
	case queue.StateLeased:
		return fmt.Errorf("memqueue: delete %s: %w", id, queue.ErrLeased)
	case queue.StateDead:
		q.dead--
	case queue.StateWaiting:
		q.waiting.remove(e)
		q.live.remove(e)
	case queue.StateReady:
		q.ready.remove(e)
		q.live.remove(e)
	}
	q.forget(e)
	return nil
}

// Pause stops Lease from handing out messages; it lasts as long as the queue.
func (q *Queue) Pause(context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = true
	return nil
}

// Resume ends Pause.
func (q *Queue) Resume(context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = false
	q.serve()
	return nil
}

// Paused reports whether deliveries are paused.
func (q *Queue) Paused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.paused
}
