package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

func TestADrainLetsDeliveriesInHandFinish(t *testing.T) {
	t.Parallel()
	onStuck(t, 2, func(t *testing.T, r *rig, s *stuck) {
		r.start()
		inHand := []queue.ID{r.put(b), r.put(b)}
		waiting := r.put(a)
		r.stop()
		r.running()
		if s.ctx.Err() != nil {
			t.Errorf("the adapter's ctx ended with Run's: %v", s.ctx.Err())
		}
		s.answer <- nil
		r.running()
		s.answer <- errAdapter
		r.drained()
		if r.outcomes()[0] != "acked" || r.outcomes()[1] != "retry" {
			t.Errorf("told %v", r.outcomes())
		}
		if d := r.q.Depth(); d.Waiting != 1 || d.Live() != 2 {
			t.Errorf("of %v %+v", inHand, d)
		}
		r.is(waiting, queue.StateReady, 0)
		if s.n() != 2 {
			t.Errorf("%d calls: it took more while draining", s.n())
		}
		l := r.leased()
		if err := r.pool.Deliver(t.Context(), l); !errors.Is(err, delivery.ErrStopped) {
			t.Errorf("after Run has ended Deliver answers %v", err)
		}
		r.is(l.Message().ID, queue.StateReady, 0)
	})
}

func TestForceCloseEndsContextsAndCostsNoAttempt(t *testing.T) {
	t.Parallel()
	some := map[string]error{a: nil, b: errAdapter, c: delivery.Reject(errAdapter)}
	for _, tc := range []struct {
		name    string
		verdict func(context.Context) error
		outcome string
		owed    int // of 3
	}{
		{"its error", func(ctx context.Context) error { return fmt.Errorf("adapter: %w", ctx.Err()) }, "released", 3},
		{"nil", func(context.Context) error { return nil }, "acked", 0},
		{"reject", func(context.Context) error { return delivery.Reject(errAdapter) }, "released", 3},
		{"some", func(context.Context) error { return delivery.PerRecipient(some) }, "released", 2},
		{"panic", func(context.Context) error { panic("forced") }, "released", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{MaxAttempts: 1, Adapter: delivery.AdapterFunc(func(ctx context.Context, _ *queue.Message) error {
				<-ctx.Done()
				if !errors.Is(ctx.Err(), context.Canceled) {
					return nil
				}
				return tc.verdict(ctx)
			})}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put(a, b, c)
				began := time.Now()
				r.pool.ForceClose()
				r.pool.ForceClose()
				r.drained()
				if took := time.Since(began); took > 0 {
					t.Errorf("Run took %v to return", took)
				}
				got := r.last()
				if got.Outcome != tc.outcome || !got.Next.IsZero() {
					t.Errorf("told %+v", got)
				}
				if reason := fmt.Sprint(got.Reason); tc.name == "its error" && !strings.HasPrefix(reason, "cut off by force") {
					t.Errorf("told an operator %q", reason)
				}
				if tc.owed == 0 {
					r.gone(id)
				} else if e := r.is(id, queue.StateReady, 0); len(e.Envelope.RcptTo) != tc.owed {
					t.Errorf("owed %v", e.Envelope.Addresses())
				}
				if f := r.pool.Status().Failures; f != 0 {
					t.Errorf("%d failures are counted", f)
				}
			})
		})
	}
}

func TestForceCloseGivesUpWhatDoesNotReturn(t *testing.T) {
	t.Parallel()
	onStuck(t, 2, func(t *testing.T, r *rig, s *stuck) {
		r.start()
		id := r.put(b)
		r.pool.ForceClose()
		r.running()
		r.after(time.Second)
		r.drained()
		if got := r.last(); got.Outcome != "released" || got.Reason == nil {
			t.Errorf("told %+v", got)
		}
		r.is(id, queue.StateReady, 0)
		s.answer <- delivery.Reject(errAdapter)
		r.after(0)
		if got := r.last().Outcome; got != "late" {
			t.Errorf("told %s", got)
		}
		r.is(id, queue.StateReady, 0)
	})
}

// Not even a hook that hangs keeps Run from returning.
func TestForceCloseDoesNotWaitForHooks(t *testing.T) {
	t.Parallel()
	var release chan struct{}
	onRigOf(t, func(*rig) delivery.Config {
		release = make(chan struct{})
		return delivery.Config{
			Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return nil }),
			After:   func(context.Context, *queue.Message, error) { <-release },
		}
	}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put()
		r.pool.ForceClose()
		r.after(2 * time.Second)
		r.drained()
		close(release)
		r.after(0)
		r.gone(id)
	})
}

func TestForceCloseBeforeRun(t *testing.T) {
	t.Parallel()
	var n calls
	onRig(t, delivery.Config{
		Adapter: delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error { n.add(m); return nil }),
		After:   func(context.Context, *queue.Message, error) { t.Error("After without an attempt") },
	}, func(t *testing.T, r *rig) {
		id := r.put()
		r.pool.ForceClose()
		r.start()
		r.drained()
		l := r.leased()
		if err := r.pool.Deliver(t.Context(), l); !errors.Is(err, delivery.ErrStopped) {
			t.Errorf("Deliver answers %v", err)
		}
		r.is(id, queue.StateReady, 0)
		r.is(l.Message().ID, queue.StateReady, 0)
		if n.n() != 0 {
			t.Errorf("%d calls", n.n())
		}
	})
}

// One that gets its place only by the force is not begun.
func TestForceCloseLetsNothingBegin(t *testing.T) {
	t.Parallel()
	var n calls
	var after int
	onRig(t, delivery.Config{
		Workers: 1,
		Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
			n.add(m)
			<-ctx.Done()
			return ctx.Err()
		}),
		After: func(context.Context, *queue.Message, error) { after++ },
	}, func(t *testing.T, r *rig) {
		r.start()
		r.put()
		l := r.leased()
		verdict := make(chan error, 1)
		go func() { verdict <- r.pool.Deliver(t.Context(), l) }()
		r.after(0)
		r.pool.ForceClose()
		if err := <-verdict; err == nil {
			t.Error("Deliver answers nil")
		}
		r.drained()
		r.is(l.Message().ID, queue.StateReady, 0)
		if n.n() != 1 || after != 1 {
			t.Errorf("%d calls, After %d times; want only the first", n.n(), after)
		}
	})
}

func TestRunEndsWithItsQueue(t *testing.T) {
	t.Parallel()
	onRig(t, delivery.Config{Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return nil })}, func(t *testing.T, r *rig) {
		r.start()
		if err := r.q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ran; !errors.Is(err, queue.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		r.stop, r.ran = func() {}, make(chan error, 1)
		r.ran <- nil
	})
}

func TestDeliverTakesOneLeasedMessageThroughTheAdapter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		verdict error
		outcome string
		state   queue.State
	}{
		{"nil", nil, "acked", ""},
		{"plain", errAdapter, "retry", queue.StateWaiting},
		{"reject", delivery.Reject(errAdapter), "rejected", queue.StateDead},
		{"panic", panics("poison"), "retry", queue.StateWaiting},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
				if v := ctx.Value(key{}); v != "of Deliver" {
					t.Errorf("ctx carries %v", v)
				}
				if pe, ok := tc.verdict.(panics); ok {
					panic(string(pe))
				}
				return tc.verdict
			})}, func(t *testing.T, r *rig) {
				l := r.leased()
				id := l.Message().ID
				// Before Run as well as while it runs.
				err := r.pool.Deliver(context.WithValue(t.Context(), key{}, "of Deliver"), l)
				if tc.verdict == nil && err != nil || tc.name != "panic" && !errors.Is(err, tc.verdict) || tc.verdict != nil && err == nil {
					t.Errorf("Deliver answers %v", err)
				}
				if got := r.last(); got.Outcome != tc.outcome || got.ID != string(id) {
					t.Errorf("told %+v", got)
				}
				if err := l.Release(t.Context()); !errors.Is(err, queue.ErrLeaseEnded) {
					t.Errorf("the lease has not ended: %v", err)
				}
				if tc.state == "" {
					r.gone(id)
				} else if e := r.get(id); e.State != tc.state {
					t.Errorf("%s, want %s", e.State, tc.state)
				}
				if s := r.pool.Status(); s.Busy != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestDeliverIsCountedAmongTheWorkers(t *testing.T) {
	t.Parallel()
	onStuck(t, 1, func(t *testing.T, r *rig, s *stuck) {
		r.start()
		l := r.leased(b)
		verdict := make(chan error, 1)
		go func() { verdict <- r.pool.Deliver(t.Context(), l) }()
		r.after(0)
		waiting := r.put(a)
		if st := r.pool.Status(); st.Busy != 1 || s.n() != 1 {
			t.Errorf("%+v, %d calls", st, s.n())
		}

		// One whose ctx ends while there is no place is given back.
		other := r.leased(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.pool.Deliver(ctx, other); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Deliver answers %v", err)
		}
		r.is(other.Message().ID, queue.StateReady, 0)

		s.answer <- errAdapter
		if err := <-verdict; !errors.Is(err, errAdapter) {
			t.Errorf("Deliver answers %v", err)
		}
		r.after(0)
		r.gone(waiting)
		r.gone(other.Message().ID)
	})
}

func TestDeliverMayBeLeftWhileTheAttemptGoesOn(t *testing.T) {
	t.Parallel()
	onStuck(t, 2, func(t *testing.T, r *rig, s *stuck) {
		r.start()
		l := r.leased(b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.pool.Deliver(ctx, l); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Deliver answers %v", err)
		}
		r.after(0)
		if s.ctx.Err() != nil {
			t.Errorf("the adapter's ctx ended with Deliver's: %v", s.ctx.Err())
		}
		r.stop()
		r.running() // a drain waits for it
		s.answer <- nil
		r.drained()
		r.gone(l.Message().ID)
	})
}

func TestDeliverIsAbandonedLikeAnyOther(t *testing.T) {
	t.Parallel()
	onStuck(t, 1, func(t *testing.T, r *rig, s *stuck) {
		defer close(s.answer)
		r.start()
		l := r.leased(b)
		began := time.Now()
		inHand := make(chan queue.ID, 1)
		go func() {
			<-time.After(time.Second)
			inHand <- r.commit(a) // leased by the worker, for which there is no place
		}()
		if err := r.pool.Deliver(t.Context(), l); err == nil || time.Since(began) != 70*time.Second {
			t.Errorf("Deliver answers %v after %v", err, time.Since(began))
		}
		r.after(0)
		r.is(<-inHand, queue.StateReady, 0) // given back, not begun
		if s.n() != 1 {
			t.Errorf("%d calls", s.n())
		}
		r.is(l.Message().ID, queue.StateWaiting, 1)
		if r.pool.Ready() == nil {
			t.Error("the one worker's place is lost, and it is ready")
		}
		r.drained() // which does not wait for the call
	})
}
