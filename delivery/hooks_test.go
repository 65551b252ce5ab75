package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// steps is what happened, in order.
type steps struct{ all []string }

func (s *steps) add(format string, args ...any) { s.all = append(s.all, fmt.Sprintf(format, args...)) }

func readable(m *queue.Message) bool {
	rc, err := m.Open()
	if err != nil {
		return false
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	return err == nil && int64(len(got)) == m.Size
}

func TestBeforeAndAfterStandAroundEachAttempt(t *testing.T) {
	t.Parallel()
	var s steps
	onRig(t, delivery.Config{
		Adapter: delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error {
			s.add("deliver %d", m.Attempt)
			if m.Attempt == 1 {
				<-ctx.Done() // the hooks' time is their own
				return errAdapter
			}
			return nil
		}),
		Before: func(ctx context.Context, m *queue.Message) {
			s.add("before %d %v %v %v", m.Attempt, ctx.Err(), ctx.Value(key{}), readable(m))
		},
		After: func(ctx context.Context, m *queue.Message, verdict error) {
			s.add("after %d %v %v %v %v", m.Attempt, ctx.Err(), ctx.Value(key{}), readable(m), verdict)
		},
	}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put()
		r.after(time.Hour)
		r.gone(id)
		if want := []string{
			"before 1 <nil> value true", "deliver 1", "after 1 <nil> value true " + errAdapter.Error(),
			"before 2 <nil> value true", "deliver 2", "after 2 <nil> value true <nil>",
		}; !slices.Equal(s.all, want) {
			t.Errorf("happened\n%q, want\n%q", s.all, want)
		}
	})
}

// D17.
func TestOnDeadComesBeforeEachBuryAndAgainWhenThatFailed(t *testing.T) {
	t.Parallel()
	var s steps
	full := errors.New("input/output error")
	q := &faulty{}
	onRigOf(t, func(r *rig) delivery.Config {
		fails := 2
		q.Queue, q.fail = r.q, func(op string, _ *queue.Message) error {
			if op != "bury" {
				return nil
			}
			if fails--; fails >= 0 {
				s.add("bury fails")
				return full
			}
			s.add("bury")
			return nil
		}
		return delivery.Config{
			Queue:   q,
			Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return delivery.Reject(errAdapter) }),
			OnDead: func(ctx context.Context, m *queue.Message, reason error) {
				s.add("dead %v %v %v %s %s %v", ctx.Err(), ctx.Value(key{}), readable(m), r.get(m.ID).State, queue.KindOf(reason), reason)
				if !errors.Is(reason, errAdapter) {
					s.add("the reason hides the adapter's error")
				}
			},
		}
	}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put(a, b)
		r.after(time.Minute)
		dead := "dead <nil> value true leased rejected " + errAdapter.Error()
		if want := []string{dead, "bury fails", dead, "bury fails", dead, "bury"}; !slices.Equal(s.all, want) {
			t.Errorf("happened\n%q, want\n%q", s.all, want)
		}
		r.is(id, queue.StateDead, 0)
		if len(r.spool) != 2 || r.spool[0].Op != "bury" || r.spool[0].ID != string(id) || !errors.Is(r.spool[0].Err, full) {
			t.Errorf("told %+v", r.spool)
		}
		if len(r.dead) != 1 {
			t.Fatalf("%d dead letters told, want 1", len(r.dead))
		}
		got := r.dead[0]
		if got.ID != string(id) || got.Kind != "rejected" || got.Reason != errAdapter.Error() || got.Attempt != 1 ||
			got.MailFrom != "from@x.example" || !slices.Equal(got.Rcpts, []string{a, b}) {
			t.Errorf("told %+v", got)
		}
	})
}

func TestOnDeadKnowsTheKind(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind    queue.Kind
		verdict func() error
	}{
		{queue.KindRejected, func() error { return delivery.Reject(errAdapter) }},
		{queue.KindSpent, func() error { return errAdapter }},
		{queue.KindPanic, func() error { panic("poison") }},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			t.Parallel()
			var kind queue.Kind
			onRig(t, delivery.Config{
				Adapter:     delivery.AdapterFunc(func(context.Context, *queue.Message) error { return tc.verdict() }),
				MaxAttempts: 1,
				OnDead:      func(_ context.Context, _ *queue.Message, reason error) { kind = queue.KindOf(reason) },
			}, func(t *testing.T, r *rig) {
				r.start()
				e := r.get(r.put())
				if kind != tc.kind || e.Dead == nil || e.Dead.Kind != tc.kind || r.dead[0].Kind != string(tc.kind) {
					t.Errorf("OnDead got %s, the queue %+v", kind, e.Dead)
				}
			})
		})
	}
}

func TestAPanicInAHookChangesNothing(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"before", "after", "on_dead"} {
		for _, verdict := range []error{nil, delivery.Reject(errAdapter)} {
			t.Run(fmt.Sprint(where, verdict), func(t *testing.T) {
				t.Parallel()
				at := func(hook string) {
					if hook == where {
						panic(hook + " panics")
					}
				}
				onRig(t, delivery.Config{
					Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return verdict }),
					Before:  func(context.Context, *queue.Message) { at("before") },
					After:   func(context.Context, *queue.Message, error) { at("after") },
					OnDead:  func(context.Context, *queue.Message, error) { at("on_dead") },
				}, func(t *testing.T, r *rig) {
					r.start()
					id := r.put()
					if verdict == nil {
						r.gone(id)
					} else {
						r.is(id, queue.StateDead, 0)
					}
					if where == "on_dead" && verdict == nil {
						if len(r.panics) > 0 {
							t.Errorf("told %+v", r.panics)
						}
						return
					}
					if len(r.panics) != 1 || r.panics[0].Where != where || r.panics[0].ID != string(id) ||
						r.panics[0].Value != where+" panics" || len(r.panics[0].Stack) == 0 {
						t.Errorf("told %+v", r.panics)
					}
					if r.last().Panicked {
						t.Error("the attempt is told as a panic of the adapter")
					}
				})
			})
		}
	}
}

// A hook of a test that calls t.FailNow does so. The message must not stay leased
// for that.
func TestAHookThatEndsItsGoroutineChangesNothing(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"before", "after", "on_dead"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			at := func(hook string) {
				if hook == where {
					runtime.Goexit()
				}
			}
			onRig(t, delivery.Config{
				Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return delivery.Reject(errAdapter) }),
				Before:  func(context.Context, *queue.Message) { at("before") },
				After:   func(context.Context, *queue.Message, error) { at("after") },
				OnDead:  func(context.Context, *queue.Message, error) { at("on_dead") },
			}, func(t *testing.T, r *rig) {
				r.start()
				r.is(r.put(), queue.StateDead, 0)
				if len(r.panics) != 1 || r.panics[0].Where != where {
					t.Errorf("told %+v", r.panics)
				}
			})
		})
	}
}

func TestResultSaysWhatItsDocSays(t *testing.T) {
	t.Parallel()
	onRig(t, delivery.Config{
		Adapter: delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error {
			<-time.After(3 * time.Second)
			switch m.Attempt {
			case 1:
				panic("poison")
			case 2:
				return delivery.PerRecipient(map[string]error{a: nil, b: delivery.RetryAfter(time.Minute, errAdapter)})
			}
			return nil
		}),
	}, func(t *testing.T, r *rig) {
		r.start()
		began := time.Now()
		id := r.put(a, b)
		r.after(5 * time.Minute)
		r.gone(id)
		if len(r.results) != 3 {
			t.Fatalf("told %+v", r.results)
		}
		for i, want := range []telemetry.DeliveryResult{
			{Outcome: "retry", Rcpts: []string{a, b}, Panicked: true},
			{Outcome: "partial", Rcpts: []string{a, b}},
			{Outcome: "acked", Rcpts: []string{b}},
		} {
			got := r.results[i]
			if got.Outcome != want.Outcome || got.ID != string(id) || got.Attempt != i+1 || got.Panicked != want.Panicked ||
				got.MailFrom != "from@x.example" || !slices.Equal(got.Rcpts, want.Rcpts) || got.Duration != 3*time.Second {
				t.Errorf("told %+v, want %+v", got, want)
			}
			if last := i == 2; (got.Reason == nil) != last || got.Next.IsZero() != last {
				t.Errorf("attempt %d: reason %v, next %v", i+1, got.Reason, got.Next)
			}
		}
		if next := r.results[1].Next.Sub(r.results[0].Next); next != time.Minute+3*time.Second {
			t.Errorf("the second Next is %v after the first", next)
		}
		if age, want := r.results[2].Age, r.results[1].Next.Add(3*time.Second).Sub(began); age != want {
			t.Errorf("age %v, want %v", age, want)
		}
	})
}
