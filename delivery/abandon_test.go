package delivery_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// stuck is an adapter that keeps the messages to b until it is told what to
// return for them, whatever their ctx.
type stuck struct {
	calls
	answer chan error
	ctx    context.Context
	msg    *queue.Message
}

func newStuck() *stuck { return &stuck{answer: make(chan error)} }

func (s *stuck) Deliver(ctx context.Context, m *queue.Message) error {
	s.add(m)
	if m.Envelope.RcptTo[0].Address != b {
		return nil
	}
	s.ctx, s.msg = ctx, m
	err := <-s.answer
	if pe, ok := err.(panics); ok {
		panic(string(pe))
	}
	return err
}

// panics is an answer that is a panic.
type panics string

func (p panics) Error() string { return string(p) }

// onStuck runs test with such an adapter, the default deadline and workers.
func onStuck(t *testing.T, workers int, test func(t *testing.T, r *rig, s *stuck)) {
	t.Helper()
	var s *stuck
	onRigOf(t, func(*rig) delivery.Config {
		s = newStuck()
		return delivery.Config{Adapter: s, Workers: workers, Backoff: time.Hour, BackoffCap: time.Hour}
	}, func(t *testing.T, r *rig) { test(t, r, s) })
}

const instant = time.Nanosecond

// D01.
func TestADeliveryIsAbandonedTenSecondsPastItsDeadline(t *testing.T) {
	t.Parallel()
	onStuck(t, 2, func(t *testing.T, r *rig, s *stuck) {
		defer close(s.answer)
		r.start()
		id := r.put(b)
		if v := s.ctx.Value(key{}); v != "value" {
			t.Errorf("the adapter's ctx carries %v", v)
		}
		r.after(time.Minute - instant)
		if s.ctx.Err() != nil {
			t.Error("ctx ended before the deadline")
		}
		reader, err := s.msg.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		r.after(instant)
		if !errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("at the deadline ctx is %v", s.ctx.Err())
		}
		if why := context.Cause(s.ctx); !errors.Is(why, context.DeadlineExceeded) || why.Error() != "not done within the deadline of 1m0s" {
			t.Errorf("and its cause %v", why)
		}
		r.after(10*time.Second - instant)
		r.is(id, queue.StateLeased, 0)
		if !readable(s.msg) {
			t.Error("the message cannot be read before it is abandoned")
		}
		r.after(instant)
		r.is(id, queue.StateWaiting, 1)
		if got := r.last(); got.Outcome != "abandoned" || got.Duration != 70*time.Second || got.Reason == nil || got.Next.IsZero() {
			t.Errorf("told %+v", got)
		}
		if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, queue.ErrLeaseEnded) {
			t.Errorf("a reader kept for longer answers %v", err)
		}
		if s := r.pool.Status(); s.Abandoned != 1 || s.Busy != 0 || r.pool.Ready() != nil {
			t.Errorf("%+v, Ready %v", s, r.pool.Ready())
		}
		r.gone(r.put(a)) // a worker goes on
	})
}

// Q18.
func TestALateVerdictIsDroppedAndTold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		verdict  error
		panicked bool
	}{{"nil", nil, false}, {"reject", delivery.Reject(errAdapter), false}, {"panic", panics("at last"), true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onStuck(t, 2, func(t *testing.T, r *rig, s *stuck) {
				r.start()
				id := r.put(b)
				r.after(2 * time.Minute)
				s.answer <- tc.verdict
				r.after(0)
				r.is(id, queue.StateWaiting, 1)
				got := r.last()
				if got.Outcome != "late" || got.ID != string(id) || got.Attempt != 1 || got.Duration != 2*time.Minute ||
					(got.Reason == nil) != (tc.verdict == nil) || got.Panicked != tc.panicked || !got.Next.IsZero() {
					t.Errorf("told %+v", got)
				}
				if len(r.panics) != map[bool]int{true: 1}[tc.panicked] {
					t.Errorf("told %+v", r.panics)
				}
				if st := r.pool.Status(); st.Abandoned != 0 {
					t.Errorf("%+v", st)
				}
				// It comes again, and this time in time.
				r.after(time.Until(r.get(id).NextAttempt))
				s.answer <- nil
				r.after(0)
				r.gone(id)
			})
		})
	}
}

func TestAnAnswerBetweenDeadlineAndAbandonmentCounts(t *testing.T) {
	t.Parallel()
	onStuck(t, 1, func(t *testing.T, r *rig, s *stuck) {
		r.start()
		id := r.put(b)
		r.after(70*time.Second - instant)
		s.answer <- nil
		r.after(0)
		r.gone(id)
		if got := r.last().Outcome; got != "acked" {
			t.Errorf("told %s", got)
		}
		r.after(time.Hour)
		if got := len(r.results); got != 1 {
			t.Errorf("%d results told", got)
		}
	})
}

func TestNothingStartsWhileAsManyCallsAsWorkersAreAbandoned(t *testing.T) {
	t.Parallel()
	onStuck(t, 3, func(t *testing.T, r *rig, s *stuck) {
		defer close(s.answer)
		r.start()
		for range 3 {
			r.put(b)
		}
		r.after(70*time.Second - instant)
		if err := r.pool.Ready(); err != nil {
			t.Errorf("before they are abandoned: %v", err)
		}
		r.after(instant)
		waiting := r.put(a)
		r.after(30 * time.Minute)
		if n := s.n(); n != 3 {
			t.Errorf("%d calls, want the 3 that hang", n)
		}
		r.is(waiting, queue.StateReady, 0)
		if err := r.pool.Ready(); !errors.Is(err, delivery.ErrHeld) {
			t.Errorf("Ready is %v", err)
		}
		l := r.leased()
		if err := r.pool.Deliver(t.Context(), l); !errors.Is(err, delivery.ErrHeld) {
			t.Errorf("Deliver answers %v", err)
		}
		r.is(l.Message().ID, queue.StateReady, 0)

		s.answer <- nil // one comes back
		r.after(0)
		if err := r.pool.Ready(); err != nil {
			t.Errorf("after one came back: %v", err)
		}
		r.gone(waiting)
		if st := r.pool.Status(); st.Abandoned != 2 || st.Busy != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAnAbandonedCallThatEndsItsGoroutineIsCountedBack(t *testing.T) {
	t.Parallel()
	onRigOf(t, func(*rig) delivery.Config {
		return delivery.Config{Workers: 1, Backoff: time.Hour, Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error {
			<-time.After(2 * time.Minute)
			return errExit()
		})}
	}, func(t *testing.T, r *rig) {
		r.start()
		r.put()
		r.after(100 * time.Second)
		if st := r.pool.Status(); st.Abandoned != 1 {
			t.Errorf("%+v", st)
		}
		r.after(time.Minute)
		if st := r.pool.Status(); st.Abandoned != 0 || r.pool.Ready() != nil || r.last().Outcome != "late" {
			t.Errorf("%+v, told %s", st, r.last().Outcome)
		}
	})
}

func TestWithoutADeadlineNothingIsAbandoned(t *testing.T) {
	t.Parallel()
	var s *stuck
	onRigOf(t, func(*rig) delivery.Config {
		s = newStuck()
		return delivery.Config{Adapter: s, Deadline: -1}
	}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put(b)
		r.after(1000 * time.Hour)
		if _, ok := s.ctx.Deadline(); ok || s.ctx.Err() != nil {
			t.Errorf("ctx: %v, a deadline %v", s.ctx.Err(), ok)
		}
		r.is(id, queue.StateLeased, 0)
		s.answer <- nil
		r.after(0)
		r.gone(id)
	})
}

// A message whose last attempt is abandoned is spent, like any that fails.
func TestAnAbandonedMessageMayBeSpent(t *testing.T) {
	t.Parallel()
	var s *stuck
	var dead int
	onRigOf(t, func(*rig) delivery.Config {
		s = newStuck()
		return delivery.Config{Adapter: s, MaxAttempts: 1, OnDead: func(_ context.Context, m *queue.Message, _ error) {
			if rc, err := m.Open(); err == nil {
				dead++
				_, err = io.Copy(io.Discard, rc)
				_ = errors.Join(err, rc.Close())
			}
		}}
	}, func(t *testing.T, r *rig) {
		defer close(s.answer)
		r.start()
		id := r.put(b)
		r.after(2 * time.Minute)
		if e := r.get(id); e.State != queue.StateDead || e.Dead.Kind != queue.KindSpent || dead != 1 {
			t.Errorf("%s, %+v, OnDead got %d", e.State, e.Dead, dead)
		}
	})
}
