package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// leases is a queue that knows which of its messages are leased, and how often
// they were.
type leases struct {
	*faulty
	mu    sync.Mutex
	live  map[queue.ID]bool
	taken map[queue.ID]int
}

func (q *leases) Lease(ctx context.Context) (queue.Lease, error) {
	l, err := q.faulty.Lease(ctx)
	if err == nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.live[l.Message().ID] = true
		q.taken[l.Message().ID]++
	}
	return l, err
}

// ended is called before a lease ends, whether that can be written or not.
func (q *leases) ended(m *queue.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.live, m.ID)
}

// Promise 3: an adapter is given leased messages only, each lease once, no message
// twice at a time, and a message until a verdict on it was written down; its ID is
// the same at each attempt.
func TestAtLeastOnceByOnePath(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			// Guards what follows; the pool's goroutines use it all.
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(seed, 1))
			chance := func(percent int) bool { return rnd.IntN(100) < percent }
			asked, inHand, yes := map[queue.ID]int{}, map[queue.ID]bool{}, map[queue.ID]bool{}
			q := &leases{live: map[queue.ID]bool{}, taken: map[queue.ID]int{}}
			onRigOf(t, func(r *rig) delivery.Config {
				q.faulty = &faulty{Queue: r.q, fail: func(op string, m *queue.Message) error {
					if m == nil || op == "settle" {
						return nil
					}
					q.ended(m)
					mu.Lock()
					defer mu.Unlock()
					if op == "ack" && chance(10) {
						return errDisk
					}
					return nil
				}}
				return delivery.Config{Queue: q, Workers: 8, Adapter: delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
					mu.Lock()
					q.mu.Lock()
					if !q.live[m.ID] || inHand[m.ID] {
						t.Errorf("%s: leased %v, in hand %v", m.ID, q.live[m.ID], inHand[m.ID])
					}
					q.mu.Unlock()
					asked[m.ID]++
					inHand[m.ID] = true
					took, bad := time.Duration(rnd.IntN(5000))*time.Millisecond, chance(30)
					kind := rnd.IntN(3)
					mu.Unlock()
					<-time.After(took)
					mu.Lock()
					defer mu.Unlock()
					delete(inHand, m.ID)
					if !bad {
						yes[m.ID] = true
						return nil
					}
					switch kind {
					case 0:
						panic("poison")
					case 1:
						return delivery.RetryAfter(time.Duration(rnd.IntN(60))*time.Second, errAdapter)
					}
					return errAdapter
				})}
			}, func(t *testing.T, r *rig) {
				r.start()
				const n = 300
				ids := map[queue.ID]bool{}
				for range n {
					ids[r.put()] = true
					r.after(100 * time.Millisecond)
				}
				r.after(time.Hour)
				if d := r.q.Depth(); d.Live() > 0 || d.Dead > 0 {
					t.Fatalf("%+v", d)
				}
				again := 0
				for id := range ids {
					if !yes[id] {
						t.Errorf("%s is gone, and the adapter never said yes", id)
					}
					if asked[id] != q.taken[id] {
						t.Errorf("%s was leased %d times and given %d times", id, q.taken[id], asked[id])
					}
					again += asked[id] - 1
				}
				if len(asked) != n || again < n/4 {
					t.Errorf("%d messages were given, %d times again", len(asked), again)
				}
			})
		})
	}
}

// Promise 7: each bad thing is set aside with a reason and told, while good
// messages go through without waiting. Q15.
func TestOneBadThingStaysOneBadThing(t *testing.T) {
	t.Parallel()
	hook := func(where string) func(context.Context, *queue.Message) {
		return func(_ context.Context, m *queue.Message) {
			if m.Envelope.RcptTo[0].Address == where {
				panic(where)
			}
		}
	}
	before, after, onDead := hook("before"), hook("after"), hook("ondead")
	var tellUnread bool
	onRigOf(t, func(r *rig) delivery.Config {
		q := &faulty{Queue: r.q, fail: func(op string, m *queue.Message) error {
			if m != nil && op == "ack" && m.Envelope.RcptTo[0].Address == "unwritten" {
				return fmt.Errorf("no room: %w", queue.ErrNoSpace)
			}
			return nil
		}}
		return delivery.Config{
			Queue:       q,
			Workers:     4,
			MaxAttempts: 3,
			Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
				switch m.Envelope.RcptTo[0].Address {
				case "panic":
					panic("poison")
				case "exit":
					return errExit()
				case "hang":
					<-time.After(time.Hour)
				case "slow":
					<-ctx.Done()
					return ctx.Err()
				case "mute":
					return (*nobody)(nil)
				case "loop":
					return loop{}
				case "ondead":
					return delivery.Reject(errAdapter)
				case "kept": // reads on when it must not
					go func() {
						<-time.After(time.Second)
						_, err := m.Open()
						tellUnread = errors.Is(err, queue.ErrLeaseEnded)
					}()
				}
				return nil
			}),
			Before: before,
			After:  func(ctx context.Context, m *queue.Message, _ error) { after(ctx, m) },
			OnDead: func(ctx context.Context, m *queue.Message, _ error) { onDead(ctx, m) },
		}
	}, func(t *testing.T, r *rig) {
		r.start()
		good := func() {
			t.Helper()
			began := time.Now()
			r.gone(r.put())
			if took := time.Since(began); took > 0 {
				t.Errorf("a good message took %v", took)
			}
		}
		bad := map[string]queue.ID{}
		for _, to := range []string{"panic", "exit", "hang", "slow", "mute", "loop", "before", "after", "ondead", "kept", "unwritten"} {
			bad[to] = r.put(to)
			good()
		}
		// Among them only good ones, so that no failures come in a row.
		for range 30 {
			r.after(10 * time.Second)
			good()
		}
		for to, kind := range map[string]queue.Kind{
			"panic": queue.KindPanic, "exit": queue.KindSpent, "slow": queue.KindSpent,
			"mute": queue.KindSpent, "loop": queue.KindSpent, "ondead": queue.KindRejected,
		} {
			if e := r.get(bad[to]); e.Dead == nil || e.Dead.Kind != kind || e.Dead.Reason == "" {
				t.Errorf("%s: %s, %+v", to, e.State, e.Dead)
			}
		}
		for _, to := range []string{"before", "after", "kept"} {
			r.gone(bad[to])
		}
		if e := r.get(bad["unwritten"]); e.State == queue.StateDead || e.Attempts != 0 {
			t.Errorf("unwritten: %s after %d attempts", e.State, e.Attempts)
		}
		r.mu.Lock()
		if len(r.spool) < 30 || r.spool[0].ID != string(bad["unwritten"]) {
			t.Errorf("told %d times of the disk", len(r.spool))
		}
		told := map[string]int{}
		for _, p := range r.panics {
			told[fmt.Sprint(p.Where, " ", p.Value)]++
		}
		if told["adapter poison"] != 3 || told["before before"] != 1 || told["after after"] != 1 || told["on_dead ondead"] != 1 || len(told) != 4 {
			t.Errorf("panics told: %v", told)
		}
		r.mu.Unlock()
		if !tellUnread {
			t.Error("a message could be opened after its delivery")
		}
		// The one that hangs has taken up three places, and has given them up.
		r.after(2 * time.Hour)
		if e := r.get(bad["hang"]); e.Dead == nil || e.Dead.Kind != queue.KindSpent {
			t.Errorf("hang: %s, %+v", e.State, e.Dead)
		}
		if s := r.pool.Status(); s.Abandoned != 0 || s.Held || r.pool.Ready() != nil {
			t.Errorf("%+v", s)
		}
		good()
	})
}
