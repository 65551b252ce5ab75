package delivery_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// verdicts is an adapter whose n-th verdict is the n-th of a list, the last one
// for ever.
func verdicts(vs ...error) delivery.Adapter {
	n := -1
	return delivery.AdapterFunc(func(context.Context, *queue.Message) error {
		n = min(n+1, len(vs)-1)
		return vs[n]
	})
}

func TestWhatIsPostponedCostsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		verdict  error
		outcome  string
		attempts int
		next     time.Duration
	}{
		"told when":              {delivery.Postpone(time.Hour, errAdapter), "postponed", 0, time.Hour},
		"not told when":          {delivery.Postpone(0, nil), "postponed", 0, time.Second},
		"at once":                {delivery.Postpone(1, nil), "postponed", 0, 100 * time.Millisecond},
		"all, each":              {delivery.PerRecipient(map[string]error{a: delivery.Postpone(time.Hour, nil), b: delivery.Postpone(time.Minute, nil)}), "postponed", 0, time.Minute},
		"one, the other done":    {delivery.PerRecipient(map[string]error{a: delivery.Postpone(time.Hour, nil), b: nil}), "partial", 0, time.Hour},
		"one, the other failed":  {delivery.PerRecipient(map[string]error{a: delivery.Postpone(time.Hour, nil), b: delivery.RetryAfter(time.Minute, nil)}), "retry", 1, time.Minute},
		"one, the other missing": {delivery.PerRecipient(map[string]error{a: delivery.Postpone(time.Hour, nil)}), "retry", 1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{Adapter: verdicts(tc.verdict), MaxAttempts: 2}, func(t *testing.T, r *rig) {
				r.start()
				e := r.get(r.put(a, b))
				if got := r.last().Outcome; got != tc.outcome || e.Attempts != tc.attempts {
					t.Errorf("outcome %s after %d attempts, want %s after %d", got, e.Attempts, tc.outcome, tc.attempts)
				}
				if next := time.Until(e.NextAttempt); tc.next >= 0 && next != tc.next {
					t.Errorf("again in %v, want %v", next, tc.next)
				}
			})
		})
	}
}

func TestWhatIsPostponedForTooLongIsSpent(t *testing.T) {
	t.Parallel()
	onRig(t, delivery.Config{Adapter: verdicts(delivery.Postpone(time.Minute, errors.New("no room there"))), GiveUp: time.Hour, MaxAttempts: 1},
		func(t *testing.T, r *rig) {
			r.start()
			id := r.put(a)
			r.after(2 * time.Hour)
			if e := r.get(id); e.State != queue.StateDead || e.Dead.Kind != queue.KindSpent || e.Dead.Reason != "no room there" {
				t.Errorf("after two hours %+v", e)
			}
		})
}

func TestSpentIsOfTheKindSpentUnlessAnotherIsRejected(t *testing.T) {
	t.Parallel()
	spent, no := delivery.Spent(errAdapter), delivery.Reject(errAdapter)
	for name, tc := range map[string]struct {
		verdict error
		kind    queue.Kind
	}{
		"the message":        {spent, queue.KindSpent},
		"nothing said":       {delivery.Spent(nil), queue.KindSpent},
		"all":                {delivery.PerRecipient(map[string]error{a: spent, b: spent}), queue.KindSpent},
		"one, another done":  {delivery.PerRecipient(map[string]error{a: spent, b: nil}), queue.KindSpent},
		"one, another not":   {delivery.PerRecipient(map[string]error{a: spent, b: no}), queue.KindRejected},
		"joined with reject": {errors.Join(no, spent), queue.KindSpent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{Adapter: verdicts(tc.verdict)}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put(a, b)
				if e := r.get(id); e.State != queue.StateDead || e.Dead.Kind != tc.kind || r.last().Outcome != string(tc.kind) {
					t.Errorf("%s, %+v, told %s; want dead, %s", e.State, e.Dead, r.last().Outcome, tc.kind)
				}
			})
		})
	}
}

func TestNeitherWhatIsPostponedNorWhatIsContainedHoldsTheAdapter(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{
		"postponed": delivery.Postpone(time.Hour, nil),
		"contained": &delivery.RetryError{After: time.Hour, Err: errAdapter, Contained: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{Adapter: verdicts(verdict)}, func(t *testing.T, r *rig) {
				r.start()
				r.fail(2 * holdAfter)
				if s := r.pool.Status(); s.Held || s.Failures > 0 {
					t.Errorf("the pool is %+v", s)
				}
			})
		})
	}
}

func TestAPanicWithinAVerdictIsTold(t *testing.T) {
	t.Parallel()
	bad := delivery.AdapterFunc(func(context.Context, *queue.Message) error { panic("bad part") })
	adapter := delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
		return delivery.PerRecipient(map[string]error{a: delivery.RetryAfter(time.Hour, delivery.Call(ctx, bad, m)), b: nil})
	})
	onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
		r.start()
		r.put(a, b)
		if got := r.last(); !got.Panicked || got.Outcome != "partial" {
			t.Errorf("told %+v", got)
		}
	})
}
