// Package memqueue is a queue in memory, for tests and throw-away use: what it
// holds is gone with the process. It keeps the contract of package queue in all
// else, and bounds the octets of text it holds.
package memqueue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Options bounds a Queue. Zero is the default in parentheses, negative is no
// bound.
type Options struct {
	// Depth is how many messages may be ready, waiting, leased and drafted
	// (100 000); past it Begin answers queue.ErrFull. Dead letters are not
	// counted.
	Depth int
	// Bytes is how many octets of text may be held (64 MiB), drafts and dead
	// letters included; past it queue.ErrNoSpace, or queue.ErrTooLarge for a
	// message that alone is larger.
	Bytes int64
}

// Queue is a queue.Queue and a queue.Inspector. Make one with New.
type Queue struct {
	maxDepth int
	maxBytes int64

	mu      sync.Mutex
	entries map[queue.ID]*entry
	ready   order // due now, by ReceivedAt, then ID
	waiting order // due later, by NextAttempt
	live    order // ready, waiting or leased, by ReceivedAt
	waiters []chan *lease
	timer   *time.Timer // fires when the first of waiting is due
	drafts  int
	leased  int
	dead    int
	bytes   int64
	paused  bool
	closed  chan struct{}
}

var (
	_ queue.Queue     = (*Queue)(nil)
	_ queue.Inspector = (*Queue)(nil)
)

// entry is one message and its places in the orders.
type entry struct {
	queue.Entry
	text text
	all  []queue.Recipient // as given, settled ones included
	slot [3]int            // by order.kind; meaningful while in that order
}

// New makes an empty queue. nil is all defaults.
func New(o *Options) *Queue {
	if o == nil {
		o = &Options{}
	}
	q := &Queue{
		maxDepth: o.Depth,
		maxBytes: o.Bytes,
		entries:  make(map[queue.ID]*entry),
		ready:    order{kind: 0, less: byAge},
		waiting:  order{kind: 1, less: byTime},
		live:     order{kind: 2, less: byAge},
		closed:   make(chan struct{}),
	}
	if q.maxDepth == 0 {
		q.maxDepth = 100_000
	}
	if q.maxBytes == 0 {
		q.maxBytes = 64 << 20
	}
	return q
}

// Begin reserves a place. An origin without ReceivedAt is received now.
func (q *Queue) Begin(_ context.Context, env queue.Envelope, o queue.Origin) (queue.Draft, error) {
	if o.ReceivedAt.IsZero() {
		o.ReceivedAt = time.Now()
	}
	o.ReceivedAt = o.ReceivedAt.UTC().Truncate(time.Millisecond)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.check(0); err != nil {
		return nil, err
	}
	q.drafts++
	return &draft{q: q, id: queue.NewID(o.ReceivedAt), env: env, origin: o}, nil
}

// Check tells whether a message of size octets could be taken now.
func (q *Queue) Check(size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.check(size)
}

func (q *Queue) check(size int64) error {
	if q.isClosed() {
		return fmt.Errorf("memqueue: %w", queue.ErrClosed)
	}
	if live := len(q.live.es) + q.drafts; q.maxDepth > 0 && live >= q.maxDepth {
		return fmt.Errorf("memqueue: %d messages: %w", live, queue.ErrFull)
	}
	return q.room(max(size, 1), 0)
}

// room tells whether n more octets may be held for a message that has so many.
func (q *Queue) room(n, has int64) error {
	if q.maxBytes < 0 {
		return nil
	}
	if has+n > q.maxBytes {
		return fmt.Errorf("memqueue: over %d octets: %w", q.maxBytes, queue.ErrTooLarge)
	}
	if q.bytes+n > q.maxBytes {
		return fmt.Errorf("memqueue: %d octets held: %w", q.bytes, queue.ErrNoSpace)
	}
	return nil
}

// Lease waits for a message that is due.
func (q *Queue) Lease(ctx context.Context) (queue.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	if q.isClosed() {
		q.mu.Unlock()
		return nil, fmt.Errorf("memqueue: %w", queue.ErrClosed)
	}
	if !q.paused && len(q.ready.es) > 0 {
		l := q.take()
		q.mu.Unlock()
		return l, nil
	}
	turn := make(chan *lease, 1)
	q.waiters = append(q.waiters, turn)
	q.mu.Unlock()

	var err error
	select {
	case l := <-turn:
		return l, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-q.closed:
		err = fmt.Errorf("memqueue: %w", queue.ErrClosed)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiters, turn)
	if i < 0 { // served at the same moment
		return <-turn, nil
	}
	q.waiters = slices.Delete(q.waiters, i, i+1)
	return nil, err
}

// take leases the first of ready.
func (q *Queue) take() *lease {
	e := q.ready.pop()
	return q.lease(e)
}

func (q *Queue) lease(e *entry) *lease {
	e.State = queue.StateLeased
	q.leased++
	return &lease{q: q, e: e, msg: queue.NewMessage(e.Entry, e.text.open)}
}

// serve hands ready messages to those who wait. It is called whenever there may
// be more of either.
func (q *Queue) serve() {
	for !q.paused && len(q.waiters) > 0 && len(q.ready.es) > 0 && !q.isClosed() {
		turn := q.waiters[0]
		q.waiters = slices.Delete(q.waiters, 0, 1)
		turn <- q.take()
	}
}

// offer makes e due at a time: ready when that has come, else waiting.
func (q *Queue) offer(e *entry, at time.Time) {
	if at.After(time.Now()) {
		e.State, e.NextAttempt = queue.StateWaiting, at.UTC().Round(0)
		q.waiting.push(e)
		q.arm()
		return
	}
	e.State, e.NextAttempt = queue.StateReady, time.Time{}
	q.ready.push(e)
	q.serve()
}

// arm sets the timer to the first of waiting.
func (q *Queue) arm() {
	if len(q.waiting.es) == 0 || q.isClosed() {
		return
	}
	d := time.Until(q.waiting.es[0].NextAttempt)
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.due)
		return
	}
	q.timer.Reset(d)
}

// due moves what is due from waiting to ready.
func (q *Queue) due() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isClosed() {
		return
	}
	now := time.Now()
	for len(q.waiting.es) > 0 && !q.waiting.es[0].NextAttempt.After(now) {
		e := q.waiting.pop()
		e.State, e.NextAttempt = queue.StateReady, time.Time{}
		q.ready.push(e)
	}
	q.serve()
	q.arm()
}

// forget frees what a message held.
func (q *Queue) forget(e *entry) {
	delete(q.entries, e.ID)
	q.bytes -= e.text.size
}

// Depth counts what is held.
func (q *Queue) Depth() queue.Depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := queue.Depth{
		Ready: len(q.ready.es), Waiting: len(q.waiting.es),
		Leased: q.leased, Dead: q.dead, Drafts: q.drafts,
	}
	if len(q.live.es) > 0 {
		d.Oldest = q.live.es[0].ReceivedAt
	}
	return d
}

// Close ends the queue and forgets what it held.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isClosed() {
		return nil
	}
	close(q.closed)
	if q.timer != nil {
		q.timer.Stop()
	}
	return nil
}

func (q *Queue) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}
