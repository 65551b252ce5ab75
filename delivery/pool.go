package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

const (
	// abandonAfter is how long past its deadline a call may take to return.
	abandonAfter = 10 * time.Second
	// forceGrace is how long a call may take to return once ForceClose has
	// ended its context.
	forceGrace = time.Second
)

// ErrStopped is what Pool.Deliver answers when Run has ended, or was ended by
// force: the message is back in the queue.
var ErrStopped = errors.New("delivery: the pool has stopped")

// Config is what a Pool is made from. A zero duration or number is the default
// in parentheses, a negative one is none.
type Config struct {
	// Queue is where messages come from. Required.
	Queue queue.Queue
	// Adapter is where they go. Required.
	Adapter Adapter

	// Workers is the deliveries at once (16). There is no pool without: a
	// negative number is an error.
	Workers int
	// Deadline is when an adapter's ctx ends (1 min). Without one an adapter
	// that hangs is never abandoned.
	Deadline time.Duration
	// Backoff is the longest wait after the first failed attempt (1 s). It
	// doubles with each, and what is waited lies between half of it and all
	// of it, at random. Without one a message is due again almost at once.
	Backoff time.Duration
	// BackoffCap is what Backoff does not grow beyond (10 min).
	BackoffCap time.Duration
	// GiveUp is the age since received, or last requeued, from which on a
	// failed attempt makes a message a dead letter (7 days).
	GiveUp time.Duration
	// MaxAttempts is the number of the failed attempt that does so (none).
	MaxAttempts int

	// Before and After are called around each attempt by its worker, and must
	// not block for long. After is given the adapter's verdict while the
	// message can still be read, before the verdict is carried out.
	Before func(ctx context.Context, m *queue.Message)
	After  func(ctx context.Context, m *queue.Message, verdict error)
	// OnDead is called at least once before a message becomes a dead letter,
	// with the message readable; queue.KindOf tells the kind from reason. It
	// must not block for long.
	OnDead func(ctx context.Context, m *queue.Message, reason error)
	// A panic in Before, After or OnDead is told to Hooks.Panic and changes
	// nothing else.

	// Hooks is told delivery.* and what fails.
	Hooks telemetry.Hooks
}

// withDefaults puts the defaults for zero, and zero for none.
func (c Config) withDefaults() Config {
	c.Workers = orDefault(c.Workers, 16)
	c.Deadline = orDefault(c.Deadline, time.Minute)
	c.Backoff = orDefault(c.Backoff, time.Second)
	c.BackoffCap = orDefault(c.BackoffCap, 10*time.Minute)
	c.GiveUp = orDefault(c.GiveUp, 7*24*time.Hour)
	c.MaxAttempts = max(c.MaxAttempts, 0)
	return c
}

func orDefault[N int | time.Duration](n, def N) N {
	if n == 0 {
		return def
	}
	return max(n, 0)
}

// Pool takes messages from a queue to an adapter. Make one with New.
type Pool struct {
	cfg  Config
	gate *gate

	workers sync.WaitGroup // those of Run; an abandoned one is not counted
	inline  sync.WaitGroup // attempts of Deliver and Decide, likewise

	mu       sync.Mutex
	attempts map[*attempt]struct{}   // adapters at work, for ForceClose
	stop     context.CancelCauseFunc // ends Run's leasing; set when Run was called
	over     bool                    // Run has ended: Deliver does nothing
	forced   atomic.Bool             // ForceClose was called
	enough   chan struct{}           // closed when Run is not to wait any longer
}

// New makes a pool. Nothing runs before Run.
func New(cfg Config) (*Pool, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("delivery: no queue")
	case cfg.Adapter == nil:
		return nil, errors.New("delivery: no adapter")
	case cfg.Workers < 0:
		return nil, fmt.Errorf("delivery: %d workers: there must be one at least", cfg.Workers)
	}
	cfg = cfg.withDefaults()
	return &Pool{
		cfg:      cfg,
		gate:     newGate(cfg.Workers),
		attempts: make(map[*attempt]struct{}),
		enough:   make(chan struct{}),
	}, nil
}

// Run leases messages and delivers them until ctx ends. It then takes no more,
// and returns when those in hand are done: their contexts do not end with ctx,
// whose values they carry. It returns nil, or what the queue answered when it
// can no longer be used. It may be called once.
func (p *Pool) Run(ctx context.Context) error {
	taking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.mu.Lock()
	if p.stop != nil {
		p.mu.Unlock()
		return errors.New("delivery: Run was called before")
	}
	p.stop = stop
	if p.forced.Load() {
		stop(ErrStopped)
	}
	p.mu.Unlock()
	for i := range p.cfg.Workers {
		p.workers.Add(1)
		go p.work(taking, i)
	}
	p.await(&p.workers)
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.await(&p.inline)
	for _, l := range p.gate.takeAside() {
		p.release(l)
	}
	if broke := context.Cause(taking); errors.Is(broke, queue.ErrClosed) {
		return fmt.Errorf("delivery: %w", broke)
	}
	return nil
}

// await waits for wg, but not for what hangs after ForceClose.
func (p *Pool) await(wg *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-p.enough:
	}
}

// ForceClose ends the contexts of the adapters at work, and Run with them. An
// adapter that then returns an error, or does not return within a second, costs
// its message no attempt: it is given back to the queue. Run returns soon
// after, even when a hook or the queue hangs. It may be called at any time, and
// again.
func (p *Pool) ForceClose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forced.Swap(true) {
		return
	}
	if p.stop != nil {
		p.stop(ErrStopped)
	}
	time.AfterFunc(2*forceGrace, func() { close(p.enough) })
	for a := range p.attempts {
		a.cancel()
		time.AfterFunc(forceGrace, a.abandon)
	}
}

// Deliver takes one leased message to the adapter by the same way as Run does,
// counted among its workers, and returns the adapter's verdict. The lease has
// then ended by it. When ctx ends while there is no place for the attempt, the
// message is given back; when it ends later, Deliver returns, and the attempt
// goes on without it. It answers ErrHeld or ErrStopped, and gives the message
// back, when no attempt can begin.
func (p *Pool) Deliver(ctx context.Context, l queue.Lease) error {
	a, err := p.begin(ctx, context.WithoutCancel(ctx), l, nil)
	if err != nil {
		p.release(l)
		return err
	}
	select {
	case err := <-a.verdict:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin begins an attempt for somebody who waits for its verdict, as soon as there is
// a place for it, and until wait ends. The lease is still the caller's when there is
// an error.
func (p *Pool) begin(wait, values context.Context, l queue.Lease, d *decision) (*attempt, error) {
	p.mu.Lock()
	stopped := p.over || p.forced.Load()
	if !stopped {
		p.inline.Add(1)
	}
	p.mu.Unlock()
	if stopped {
		return nil, ErrStopped
	}
	if err := p.gate.admit(wait, d != nil); err != nil {
		p.inline.Done()
		return nil, err
	}
	a := &attempt{pool: p, lease: l, decision: d, verdict: make(chan error, 1), handOn: p.inline.Done}
	go func() {
		defer func() {
			if !a.wasAbandoned() {
				p.inline.Done()
			}
		}()
		a.run(values)
	}()
	return a, nil
}

// Ready is nil when attempts may begin, now or after a hold, and else says why
// not: as many calls as there are workers do not return.
func (p *Pool) Ready() error {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.gate.abandoned >= p.gate.workers {
		return p.gate.closed()
	}
	return nil
}

// Status is how a pool stands.
type Status struct {
	Workers   int  // deliveries that may be in hand at once
	Busy      int  // deliveries in hand
	Abandoned int  // calls that were given up and have not returned
	Held      bool // the adapter is given one attempt each 10 s
	Failures  int  // failed attempts in a row
}

// Status tells how the pool stands now.
func (p *Pool) Status() Status {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	return Status{
		Workers:   p.gate.workers,
		Busy:      p.gate.busy,
		Abandoned: p.gate.abandoned,
		Held:      p.gate.held,
		Failures:  p.gate.failures,
	}
}
