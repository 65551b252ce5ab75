package delivery_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

var errAdapter = errors.New("the backend is away")

// rig is a pool on a queue in memory, on a fake clock.
type rig struct {
	*testing.T
	q    *memqueue.Queue
	pool *delivery.Pool

	mu      sync.Mutex
	results []telemetry.DeliveryResult
	dead    []telemetry.DeliveryDead
	held    []telemetry.DeliveryHeld
	spool   []telemetry.SpoolError
	panics  []telemetry.Panic

	stop context.CancelFunc
	ran  chan error
}

// onRig runs test on a fake clock with a pool made from cfg, which starts with
// rig.start. The pool and the queue are closed for it.
func onRig(t *testing.T, cfg delivery.Config, test func(t *testing.T, r *rig)) {
	t.Helper()
	onRigOf(t, func(*rig) delivery.Config { return cfg }, test)
}

// onRigOf is onRig with a cfg made on the fake clock, as it must be when its
// funcs wait on channels.
func onRigOf(t *testing.T, config func(r *rig) delivery.Config, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, q: memqueue.New(nil)}
		cfg := config(r)
		if cfg.Queue == nil {
			cfg.Queue = r.q
		}
		cfg.Hooks = r.hooks()
		var err error
		if r.pool, err = delivery.New(cfg); err != nil {
			t.Fatal(err)
		}
		defer r.end()
		test(t, r)
	})
}

func (r *rig) hooks() telemetry.Hooks {
	return telemetry.Hooks{
		DeliveryResult: func(e telemetry.DeliveryResult) { r.mu.Lock(); defer r.mu.Unlock(); r.results = append(r.results, e) },
		DeliveryDead:   func(e telemetry.DeliveryDead) { r.mu.Lock(); defer r.mu.Unlock(); r.dead = append(r.dead, e) },
		DeliveryHeld:   func(e telemetry.DeliveryHeld) { r.mu.Lock(); defer r.mu.Unlock(); r.held = append(r.held, e) },
		SpoolError:     func(e telemetry.SpoolError) { r.mu.Lock(); defer r.mu.Unlock(); r.spool = append(r.spool, e) },
		Panic:          func(e telemetry.Panic) { r.mu.Lock(); defer r.mu.Unlock(); r.panics = append(r.panics, e) },
	}
}

func (r *rig) start() {
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.WithValue(r.Context(), key{}, "value"))
	r.ran = make(chan error, 1)
	go func() { r.ran <- r.pool.Run(ctx) }()
	synctest.Wait()
}

type key struct{}

func (r *rig) end() {
	r.Helper()
	if r.stop != nil {
		r.stop()
		r.pool.ForceClose()
		if err := <-r.ran; err != nil {
			r.Errorf("Run: %v", err)
		}
	}
	if err := r.q.Close(); err != nil {
		r.Errorf("Close: %v", err)
	}
}

// drained ends Run's ctx and waits until it has returned.
func (r *rig) drained() {
	r.Helper()
	r.stop()
	synctest.Wait()
	select {
	case err := <-r.ran:
		r.ran <- err
	default:
		r.Fatal("Run has not returned")
	}
}

// running fails the test when Run has returned.
func (r *rig) running() {
	r.Helper()
	synctest.Wait()
	if len(r.ran) > 0 {
		r.Fatal("Run has returned")
	}
}

// after lets time pass, and what happens in it.
func (r *rig) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func envelope(to ...string) queue.Envelope {
	env := queue.Envelope{MailFrom: "from@x.example"}
	for _, a := range to {
		env.RcptTo = append(env.RcptTo, queue.Recipient{Address: a})
	}
	return env
}

func (r *rig) draft(to ...string) queue.Draft {
	r.Helper()
	if len(to) == 0 {
		to = []string{"a@y.example"}
	}
	d, err := r.q.Begin(r.Context(), envelope(to...), queue.Origin{})
	if err != nil {
		r.Fatal(err)
	}
	if _, err := io.WriteString(d, "Subject: x\r\n\r\nbody\r\n"); err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rig) commit(to ...string) queue.ID {
	r.Helper()
	m, err := r.draft(to...).Commit(r.Context(), queue.Final{})
	if err != nil {
		r.Fatal(err)
	}
	return m.ID
}

// put commits a message and waits until all is at rest.
func (r *rig) put(to ...string) queue.ID {
	r.Helper()
	id := r.commit(to...)
	synctest.Wait()
	return id
}

// leased commits a message and leases it in one.
func (r *rig) leased(to ...string) queue.Lease {
	r.Helper()
	l, err := r.draft(to...).CommitLeased(r.Context(), queue.Final{})
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func (r *rig) get(id queue.ID) queue.Entry {
	r.Helper()
	e, err := r.q.Get(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return e
}

// is checks a message's state and the failed attempts it has cost.
func (r *rig) is(id queue.ID, state queue.State, attempts int) queue.Entry {
	r.Helper()
	e := r.get(id)
	if e.State != state || e.Attempts != attempts {
		r.Errorf("%s after %d attempts, want %s after %d", e.State, e.Attempts, state, attempts)
	}
	return e
}

func (r *rig) gone(id queue.ID) {
	r.Helper()
	if e, err := r.q.Get(r.Context(), id); !errors.Is(err, queue.ErrNotFound) {
		r.Errorf("the message is %s, not acked: %v", e.State, err)
	}
}

// outcomes is those of all results so far.
func (r *rig) outcomes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.results {
		all = append(all, e.Outcome)
	}
	return all
}

func (r *rig) last() telemetry.DeliveryResult {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.results) == 0 {
		r.Fatal("no result was told")
	}
	return r.results[len(r.results)-1]
}

// errExit ends the goroutine, as a test's Fatal does.
func errExit() error { runtime.Goexit(); return nil }

// calls counts what an adapter is given.
type calls struct {
	mu  sync.Mutex
	ids []queue.ID
	at  []time.Time
	try []int
}

func (c *calls) add(m *queue.Message) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids, c.at, c.try = append(c.ids, m.ID), append(c.at, time.Now()), append(c.try, m.Attempt)
	return len(c.ids)
}

// of is how often a message was given.
func (c *calls) of(id queue.ID) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.ids {
		if i == id {
			n++
		}
	}
	return n
}

func (c *calls) n() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids)
}
