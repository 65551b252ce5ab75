package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

var errDisk = errors.New("input/output error")

// onFaulty runs test with an adapter that answers as verdict does and a queue that
// fails as fail does.
func onFaulty(t *testing.T, atOnce bool, fail func(op string, m *queue.Message) error, verdict func(m *queue.Message) error,
	test func(t *testing.T, r *rig, n *calls),
) {
	t.Helper()
	n := &calls{}
	onRigOf(t, func(r *rig) delivery.Config {
		return delivery.Config{
			Queue:   &faulty{Queue: r.q, fail: fail, atOnce: atOnce},
			Workers: 4,
			Adapter: delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error { n.add(m); return verdict(m) }),
		}
	}, func(t *testing.T, r *rig) {
		r.start()
		test(t, r, n)
	})
}

// Q16.
func TestALeaseWhoseEndCannotBeWrittenDoesNotSpin(t *testing.T) {
	t.Parallel()
	one := func(m *queue.Message) error { // so that the adapter is never held
		return delivery.PerRecipient(map[string]error{m.Envelope.RcptTo[0].Address: nil})
	}
	for op, verdict := range map[string]func(*queue.Message) error{
		"ack":    func(*queue.Message) error { return nil },
		"retry":  one,
		"bury":   func(*queue.Message) error { return delivery.Reject(errAdapter) },
		"settle": one,
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			broken.Store(true)
			onFaulty(t, true, func(o string, _ *queue.Message) error {
				if broken.Load() && o == op {
					return errDisk
				}
				return nil
			}, verdict, func(t *testing.T, r *rig, n *calls) {
				id := r.put(many(100)...)
				r.after(10 * time.Minute)
				// After 1, 2, 4, 8, 16 and then each 30 s; what is settled in
				// vain waits for its back-off too.
				if n.n() < 3 || n.n() > 25 {
					t.Errorf("%d attempts in 10 minutes", n.n())
				}
				if len(r.spool) != n.n() {
					t.Errorf("%d attempts, %d errors told", n.n(), len(r.spool))
				}
				for _, e := range r.spool {
					if e.Op != op || e.ID != string(id) || !errors.Is(e.Err, errDisk) {
						t.Errorf("told %+v", e)
					}
				}
				if len(r.dead) > 0 {
					t.Errorf("a dead letter is told that is none: %+v", r.dead)
				}
				broken.Store(false)
				r.after(20 * time.Minute)
				switch op {
				case "ack":
					r.gone(id)
				case "bury":
					r.is(id, queue.StateDead, 0)
				case "settle":
					if e := r.get(id); len(e.Settled) == 0 {
						t.Errorf("nobody is settled: %.500v", e)
					}
				case "retry":
					if e := r.get(id); e.Attempts == 0 {
						t.Errorf("%+v", e)
					}
				}
			})
		})
	}
}

// Those in hand when the disk fails fail together: that is one failure of it, not
// many, and the pause is as short as after one. Q16.
func TestFailuresOfTheDiskTogetherPauseOnce(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	onFaulty(t, false, func(op string, _ *queue.Message) error {
		if broken.Load() && op == "ack" {
			return errDisk
		}
		return nil
	}, func(*queue.Message) error { <-time.After(time.Second); return nil }, func(t *testing.T, r *rig, n *calls) {
		for range 4 {
			r.put()
		}
		r.after(time.Second)
		if len(r.spool) != 4 {
			t.Fatalf("%d errors told", len(r.spool))
		}
		broken.Store(false)
		id := r.put()
		r.after(time.Second - instant)
		if n.n() != 4 {
			t.Errorf("%d calls in the pause", n.n()-4)
		}
		r.after(4 * time.Second)
		r.gone(id)
	})
}

// Deliveries make room on a full disk, so they go on.
func TestAFullDiskDoesNotPauseDeliveries(t *testing.T) {
	t.Parallel()
	for _, full := range []error{queue.ErrNoSpace, queue.ErrBusy} {
		t.Run(full.Error(), func(t *testing.T) {
			t.Parallel()
			onFaulty(t, false, func(op string, _ *queue.Message) error {
				if op == "retry" {
					return fmt.Errorf("meta.json: %w", full)
				}
				return nil
			}, func(m *queue.Message) error {
				if m.Envelope.RcptTo[0].Address == b {
					return errAdapter
				}
				return nil
			}, func(t *testing.T, r *rig, n *calls) {
				id := r.put(b)
				if len(r.spool) != 1 || !errors.Is(r.spool[0].Err, full) {
					t.Errorf("told %+v", r.spool)
				}
				began := time.Now()
				for range 100 {
					r.gone(r.put(a))
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("others waited %v", took)
				}
				for range 60 { // which also keeps the adapter from being held
					r.after(time.Second)
					r.put(a)
				}
				if got := n.of(id); got < 30 || got > 61 {
					t.Errorf("%d attempts in a minute", got)
				}
			})
		})
	}
}

func TestAQueueThatCannotLeaseIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	onFaulty(t, false, func(op string, _ *queue.Message) error {
		if broken.Load() && op == "lease" {
			return errDisk
		}
		return nil
	}, func(*queue.Message) error { return nil }, func(t *testing.T, r *rig, _ *calls) {
		id := r.put()
		r.after(10 * time.Minute)
		// Four workers ask, and together count as one.
		if n := len(r.spool); n < 10 || n > 4*25 {
			t.Errorf("%d errors told in 10 minutes", n)
		}
		for _, e := range r.spool {
			if e.Op != "lease" || e.ID != "" || !errors.Is(e.Err, errDisk) {
				t.Errorf("told %+v", e)
			}
		}
		broken.Store(false)
		r.after(time.Minute)
		r.gone(id)
	})
}

// What could not be given back is offered again by the queue; nothing waits for it.
func TestAReleaseThatFailsIsTold(t *testing.T) {
	t.Parallel()
	onRigOf(t, func(r *rig) delivery.Config {
		return delivery.Config{
			Queue: &faulty{Queue: r.q, fail: func(op string, _ *queue.Message) error {
				if op == "release" {
					return errDisk
				}
				return nil
			}},
			Adapter: delivery.AdapterFunc(func(ctx context.Context, _ *queue.Message) error { <-ctx.Done(); return ctx.Err() }),
		}
	}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put()
		r.pool.ForceClose()
		r.drained()
		if len(r.spool) != 1 || r.spool[0].Op != "release" || r.spool[0].ID != string(id) {
			t.Errorf("told %+v", r.spool)
		}
		r.is(id, queue.StateWaiting, 0)
	})
}
