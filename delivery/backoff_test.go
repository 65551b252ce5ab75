package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// oneEach delivers one recipient an attempt and fails the others, so that the
// adapter is never held.
func oneEach(n *calls) delivery.Adapter {
	return delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
		n.add(m)
		results := map[string]error{}
		for i, rcpt := range m.Envelope.RcptTo {
			if i > 0 {
				results[rcpt.Address] = errAdapter
			} else {
				results[rcpt.Address] = nil
			}
		}
		return delivery.PerRecipient(results)
	})
}

func many(n int) []string {
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("%02d@y.example", i))
	}
	return to
}

// Q14.
func TestBackOffDoublesUpToItsCap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		backoff, cap time.Duration
		want         func(i int) time.Duration
	}{
		{"default", 0, 0, func(i int) time.Duration { return min(time.Second<<i, 10*time.Minute) }},
		{"given", 3 * time.Second, 20 * time.Second, func(i int) time.Duration { return min(3*time.Second<<i, 20*time.Second) }},
		{"longer than its cap", time.Hour, time.Minute, func(int) time.Duration { return time.Minute }},
		{"without a cap", time.Second, -1, func(i int) time.Duration { return time.Second << i }},
		{"none", -1, 0, func(int) time.Duration { return 20 * time.Millisecond }}, // a least time, lest it spin
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const attempts = 20
			var n calls
			onRig(t, delivery.Config{Adapter: oneEach(&n), Backoff: tc.backoff, BackoffCap: tc.cap, GiveUp: -1}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put(many(attempts)...)
				r.after(2 << attempts * time.Second)
				r.gone(id)
				if n.n() != attempts {
					t.Fatalf("%d attempts, want %d", n.n(), attempts)
				}
				for i := range attempts - 1 {
					want := tc.want(i)
					if got := n.at[i+1].Sub(n.at[i]); got < want/2 || got > want {
						t.Errorf("attempt %d came after %v, want %v to %v", i+2, got, want/2, want)
					}
				}
			})
		})
	}
}

// Q14.
func TestBackOffIsJittered(t *testing.T) {
	t.Parallel()
	var n calls
	onRig(t, delivery.Config{Adapter: oneEach(&n), Backoff: 10 * time.Second}, func(t *testing.T, r *rig) {
		r.start()
		var next []time.Duration
		for range 50 {
			next = append(next, time.Until(r.get(r.put(a, b)).NextAttempt))
		}
		slices.Sort(next)
		// Chance alone breaks this once in 10^27 runs.
		if low, high := next[0], next[len(next)-1]; low < 5*time.Second || high > 10*time.Second || low > 6500*time.Millisecond || high < 8500*time.Millisecond {
			t.Errorf("what failed together comes back in %v to %v", low, high)
		}
	})
}

// D17.
func TestAMessageIsSpentByItsAge(t *testing.T) {
	t.Parallel()
	const giveUp = time.Hour
	for _, tc := range []struct {
		age  time.Duration
		dead bool
	}{{giveUp - time.Millisecond, false}, {giveUp, true}, {giveUp + time.Millisecond, true}} {
		t.Run(tc.age.String(), func(t *testing.T) {
			t.Parallel()
			adapter := delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
				return delivery.RetryAfter(tc.age, errAdapter)
			})
			onRig(t, delivery.Config{Adapter: adapter, GiveUp: giveUp}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put()
				// The second life of a dead letter is as long as the first.
				for range 3 {
					r.is(id, queue.StateWaiting, 1)
					r.after(tc.age)
					if !tc.dead {
						r.is(id, queue.StateWaiting, 2)
						return
					}
					e := r.get(id)
					if e.State != queue.StateDead || e.Dead.Kind != queue.KindSpent || e.Dead.Reason != errAdapter.Error() || r.last().Outcome != "spent" {
						t.Fatalf("%s, %+v, told %s", e.State, e.Dead, r.last().Outcome)
					}
					if err := r.q.Requeue(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					r.after(0)
				}
			})
		})
	}
}

func TestAMessageIsSpentByItsAttempts(t *testing.T) {
	t.Parallel()
	const most = 3
	for fails := most - 1; fails <= most+1; fails++ {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			t.Parallel()
			var n calls
			adapter := delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
				if n.add(m); m.Attempt <= fails {
					return errAdapter
				}
				return nil
			})
			onRig(t, delivery.Config{Adapter: adapter, MaxAttempts: most}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put()
				r.after(time.Hour)
				if n.n() != most {
					t.Errorf("%d attempts, want %d", n.n(), most)
				}
				if fails < most {
					r.gone(id)
				} else if e := r.get(id); e.State != queue.StateDead || e.Dead.Kind != queue.KindSpent {
					t.Errorf("%s, %+v", e.State, e.Dead)
				}
			})
		})
	}
}

// A retry waits on its message: the only worker goes on. Q15.
func TestTheMessageWaitsAndNotTheWorker(t *testing.T) {
	t.Parallel()
	var n calls
	adapter := delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
		n.add(m)
		switch m.Envelope.RcptTo[0].Address {
		case b:
			return delivery.RetryAfter(time.Hour, errors.New("busy"))
		case c:
			return errAdapter
		}
		return nil
	})
	onRig(t, delivery.Config{Adapter: adapter, Workers: 1, Backoff: time.Hour}, func(t *testing.T, r *rig) {
		r.start()
		began := time.Now()
		retrying := []queue.ID{r.put(b), r.put(c)}
		for range 100 {
			r.gone(r.put(a))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("others waited %v", took)
		}
		for _, id := range retrying {
			r.is(id, queue.StateWaiting, 1)
		}
		if s := r.pool.Status(); s.Busy != 0 {
			t.Errorf("%d workers are busy with nothing", s.Busy)
		}
	})
}
