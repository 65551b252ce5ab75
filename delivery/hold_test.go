package delivery_test

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

const (
	holdAfter  = 16
	probeEvery = 10 * time.Second
)

// backend is an adapter to something that is up or down. Messages to c always fail.
type backend struct {
	calls
	down    atomic.Bool
	verdict atomic.Pointer[error] // while it is down; nil is errAdapter
}

func (b *backend) Deliver(_ context.Context, m *queue.Message) error {
	b.add(m)
	switch {
	case m.Envelope.RcptTo[0].Address == c:
	case !b.down.Load():
		return nil
	case b.verdict.Load() != nil:
		return *b.verdict.Load()
	}
	return errAdapter
}

// fail puts n messages, each of which fails once.
func (r *rig) fail(n int) (ids []queue.ID) {
	r.Helper()
	for range n {
		ids = append(ids, r.put())
	}
	return ids
}

// onBackend runs test on a rig whose adapter is down. What fails comes back after
// hours only.
func onBackend(t *testing.T, cfg delivery.Config, test func(t *testing.T, r *rig, b *backend)) {
	t.Helper()
	b := &backend{}
	b.down.Store(true)
	cfg.Adapter, cfg.Backoff, cfg.BackoffCap = b, 100*time.Hour, 100*time.Hour
	onRig(t, cfg, func(t *testing.T, r *rig) {
		r.start()
		test(t, r, b)
	})
}

func (r *rig) checkHeld(want bool) {
	r.Helper()
	if got := r.pool.Status().Held; got != want {
		r.Fatalf("held is %v, want %v", got, want)
	}
	if r.pool.Ready() != nil {
		r.Errorf("a hold makes it not ready: %v", r.pool.Ready())
	}
}

// Q14.
func TestAnAdapterIsHeldAfterSixteenFailuresInARow(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, b *backend) {
		r.fail(holdAfter - 1)
		r.checkHeld(false)
		if len(r.held) > 0 {
			t.Errorf("told %+v", r.held)
		}
		r.fail(1)
		r.checkHeld(true)
		if len(r.held) != 1 || !r.held[0].Held || r.held[0].Failures != holdAfter || !errors.Is(r.held[0].Reason, errAdapter) {
			t.Errorf("told %+v", r.held)
		}
		id := r.put()
		if b.n() != holdAfter {
			t.Errorf("%d calls, want %d", b.n(), holdAfter)
		}
		r.is(id, queue.StateReady, 0)
	})
}

func TestASuccessBetweenFailuresBeginsTheCountAnew(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{
		"delivered":             nil,
		"rejected":              delivery.Reject(errAdapter),
		"one recipient settled": delivery.PerRecipient(map[string]error{a: nil}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, bk *backend) {
				for range 5 {
					r.fail(holdAfter - 1)
					bk.down.Store(verdict != nil)
					bk.verdict.Store(&verdict)
					r.put(a, b)
					bk.down.Store(true)
					bk.verdict.Store(nil)
				}
				if len(r.held) > 0 {
					t.Errorf("told %+v", r.held)
				}
				r.fail(holdAfter)
				r.checkHeld(true)
			})
		})
	}
}

// What is in hand when the hold begins ends as usual; nothing else begins.
func TestAHoldStopsAllWorkersAtOnce(t *testing.T) {
	t.Parallel()
	onRig(t, delivery.Config{Workers: 4, Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error {
		<-time.After(time.Second)
		return errAdapter
	})}, func(t *testing.T, r *rig) {
		for range 100 {
			r.put()
		}
		r.start()
		r.after(8 * time.Second)
		r.checkHeld(true)
		if n := len(r.results); n < holdAfter || n > holdAfter+3 {
			t.Errorf("%d attempts ended, want %d and at most those in hand", n, holdAfter)
		}
		if d := r.q.Depth(); d.Leased > 0 {
			t.Errorf("%+v", d)
		}
	})
}

func TestAHeldAdapterGetsOneProbeEachTenSecondsAtNoCost(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{MaxAttempts: 2}, func(t *testing.T, r *rig, b *backend) {
		r.fail(holdAfter)
		ids := []queue.ID{r.put(), r.put(), r.put(), r.put()}
		r.after(probeEvery - instant)
		if n := b.n(); n != holdAfter {
			t.Errorf("%d calls before the first probe", n-holdAfter)
		}
		r.after(instant)
		for i := range ids {
			if n := b.n() - holdAfter; n != i+1 {
				t.Fatalf("%d probes, want %d", n, i+1)
			}
			if got := r.last(); got.Outcome != "released" || got.Attempt != 1 || !errors.Is(got.Reason, errAdapter) {
				t.Errorf("told %+v", got)
			}
			r.after(probeEvery)
		}
		for _, id := range ids {
			if n := b.of(id); n != 1 {
				t.Errorf("%s was probed %d times: each probe is of another message", id, n)
			}
			if e := r.get(id); e.Attempts != 0 {
				t.Errorf("a probe cost %d attempts", e.Attempts)
			}
		}
		if len(r.held) != 1 {
			t.Errorf("told %+v", r.held)
		}
		b.down.Store(false)
		r.put() // nothing else is left to probe with
		r.after(time.Minute)
		for _, id := range ids {
			r.gone(id)
		}
	})
}

// A message whose probe failed cannot be read until it is offered again.
func TestAProbeThatFailedEndsItsReaders(t *testing.T) {
	t.Parallel()
	var last *queue.Message
	onRig(t, delivery.Config{Adapter: delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
		last = m
		return errAdapter
	})}, func(t *testing.T, r *rig) {
		r.start()
		r.fail(holdAfter + 1)
		r.after(probeEvery)
		if r.last().Outcome != "released" || readable(last) {
			t.Errorf("told %s, readable %v", r.last().Outcome, readable(last))
		}
	})
}

func TestAProbeToldWhenToComeAgainWaitsAtNoCost(t *testing.T) {
	t.Parallel()
	for _, told := range []time.Duration{time.Second, time.Minute, 90 * time.Minute} {
		t.Run(told.String(), func(t *testing.T) {
			t.Parallel()
			onBackend(t, delivery.Config{MaxAttempts: 2}, func(t *testing.T, r *rig, b *backend) {
				r.fail(holdAfter)
				later := delivery.RetryAfter(told, errAdapter)
				b.verdict.Store(&later)
				id := r.put()
				r.after(time.Millisecond)
				other := r.put()
				r.after(probeEvery - time.Millisecond)
				wait := max(told, 2*probeEvery) // so that another message gets its turn
				e := r.is(id, queue.StateWaiting, 0)
				if got := time.Until(e.NextAttempt); got != wait || !r.last().Next.Equal(e.NextAttempt) || r.last().Outcome != "released" {
					t.Errorf("again in %v, want %v; told %+v", got, wait, r.last())
				}
				r.after(probeEvery)
				if b.of(other) != 1 {
					t.Error("the next probe was not of the other message")
				}
				r.after(1000 * time.Minute)
				if b.of(id) < 2 {
					t.Errorf("probed %d times", b.of(id))
				}
				if e := r.get(id); e.Attempts != 0 || e.State == queue.StateDead {
					t.Errorf("%s after %d attempts", e.State, e.Attempts)
				}
				b.down.Store(false)
				r.after(100 * time.Minute)
				r.gone(id)
			})
		})
	}
}

func TestAProbeIsSpentByItsAgeAlone(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{MaxAttempts: 1, GiveUp: time.Hour}, func(t *testing.T, r *rig, b *backend) {
		r.fail(holdAfter) // dead: each had its one attempt
		young := r.put()
		r.after(probeEvery)
		if e := r.get(young); e.State == queue.StateDead {
			t.Error("a probe made a message spent by its attempts")
		}
		r.after(2 * time.Hour)
		old := r.draft()
		r.after(2 * time.Hour)
		m, err := old.Commit(t.Context(), queue.Final{})
		if err != nil {
			t.Fatal(err)
		}
		r.after(2 * probeEvery)
		if e := r.get(m.ID); e.State != queue.StateDead || e.Dead.Kind != queue.KindSpent {
			t.Errorf("%s, %+v", e.State, e.Dead)
		}
	})
}

// Q14.
func TestThereIsOneProbeAtATime(t *testing.T) {
	t.Parallel()
	var n calls
	onRig(t, delivery.Config{Deadline: -1, Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
		if n.add(m) > holdAfter {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
		}
		return errAdapter
	})}, func(t *testing.T, r *rig) {
		r.start()
		r.fail(holdAfter + 5)
		r.after(time.Hour)
		if n.n() != holdAfter+1 {
			t.Errorf("%d probes at once", n.n()-holdAfter)
		}
		r.after(probeEvery)
		if n.n() != holdAfter+2 {
			t.Errorf("%d probes, want the second when the first has ended", n.n()-holdAfter)
		}
	})
}

// backlog makes n messages wait while the adapter is held, and returns when the
// first probe of the adapter that is up again has ended the hold.
func (r *rig) backlog(b *backend, n int) {
	r.Helper()
	r.fail(holdAfter)
	for range n {
		r.commit()
	}
	b.down.Store(false)
	r.after(probeEvery)
	r.checkHeld(false)
}

// The rate does not depend on how many workers wait for their turn. Q14.
func TestTheFirstSuccessReleasesTheBacklogAtARisingRate(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{Workers: 100}, func(t *testing.T, r *rig, b *backend) {
		r.backlog(b, 4000)
		if len(r.held) != 2 || r.held[1].Held || r.held[1].Failures != holdAfter || !errors.Is(r.held[1].Reason, errAdapter) {
			t.Errorf("told %+v", r.held)
		}
		before, rate := b.n(), 10/math.Ln2 // of what doubles each second and begins at 10
		for second := range 8 {
			r.after(time.Second)
			if got := float64(b.n() - before); math.Abs(got-rate) > 2 {
				t.Errorf("%v attempts in second %d, want about %.0f", got, second+1, rate)
			}
			before, rate = b.n(), 2*rate
		}
		r.after(2 * time.Second)
		if d := r.q.Depth(); d.Ready > 0 {
			t.Errorf("after the ramp %+v", d)
		}
	})
}

// Regression: each failure put the rate back to its beginning, so that a backlog
// with a few bad messages in it came out at 10 a second.
func TestAFailureDoesNotSlowTheBacklog(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, b *backend) {
		r.fail(holdAfter)
		r.put() // the oldest is the probe, and a good one
		r.after(time.Millisecond)
		for i := range 3000 {
			to := a
			if i%10 == 0 {
				to = c
			}
			r.commit(to)
		}
		b.down.Store(false)
		r.after(probeEvery + 12*time.Second)
		if d := r.q.Depth(); d.Ready > 0 {
			t.Errorf("12 s after the hold %d messages are still waiting for their turn", d.Ready)
		}
	})
}

func TestAHoldMayBeginAgainWhileTheBacklogComesOut(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, b *backend) {
		r.backlog(b, 1000)
		b.down.Store(true)
		n := b.n()
		r.after(5 * time.Second)
		r.checkHeld(true)
		if got := b.n() - n; got < holdAfter || got > 2*holdAfter {
			t.Errorf("%d attempts until it was held again", got)
		}
		b.down.Store(false)
		r.after(time.Minute)
		if d := r.q.Depth(); d.Ready > 0 || d.Leased > 0 {
			t.Errorf("%+v", d)
		}
	})
}

func TestDeliverIsNotProbedWith(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, b *backend) {
		r.fail(holdAfter)
		l := r.leased()
		if err := r.pool.Deliver(t.Context(), l); !errors.Is(err, delivery.ErrHeld) || !errors.Is(err, errAdapter) {
			t.Errorf("Deliver answers %v", err)
		}
		r.is(l.Message().ID, queue.StateReady, 0)
		if b.n() != holdAfter {
			t.Errorf("%d calls", b.n())
		}
	})
}

// A success of what was in hand when the hold began is a success too.
func TestASuccessInHandEndsTheHold(t *testing.T) {
	t.Parallel()
	var s *stuck
	onRigOf(t, func(*rig) delivery.Config {
		s = newStuck()
		return delivery.Config{Deadline: -1, Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
			if err := s.Deliver(ctx, m); m.Envelope.RcptTo[0].Address == b {
				return err
			}
			return errAdapter
		})}
	}, func(t *testing.T, r *rig) {
		r.start()
		r.put(b)
		r.fail(holdAfter)
		r.checkHeld(true)
		s.answer <- nil
		r.after(0)
		r.checkHeld(false)
	})
}

func TestADrainInAHoldGivesBackWhatWasProbed(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, _ *backend) {
		r.fail(holdAfter)
		var ids []queue.ID
		for range 5 {
			ids = append(ids, r.put())
		}
		r.after(5 * probeEvery)
		r.drained()
		for _, id := range ids {
			r.is(id, queue.StateReady, 0)
		}
		if d := r.q.Depth(); d.Leased > 0 {
			t.Errorf("%+v", d)
		}
	})
}
