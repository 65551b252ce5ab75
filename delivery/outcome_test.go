package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

const (
	a, b, c = "a@y.example", "b@y.example", "c@y.example"
)

// asRejected has a method As, as errors.As allows.
type asRejected struct{ error }

func (e asRejected) As(target any) bool {
	if t, ok := target.(**delivery.RejectError); ok {
		*t = &delivery.RejectError{Err: e.error}
		return true
	}
	return false
}

// loop is its own cause.
type loop struct{}

func (loop) Error() string   { return "loop" }
func (l loop) Unwrap() error { return l }

// tree is its own parts.
type tree struct{}

func (tree) Error() string     { return "tree" }
func (t tree) Unwrap() []error { return []error{delivery.Reject(nil), t, t} }

// nobody's methods panic for nil.
type nobody struct{ text string }

func (n *nobody) Error() string { return n.text }

func TestVerdictByRecipients(t *testing.T) {
	t.Parallel()
	no, later := delivery.Reject(errors.New("no such user")), delivery.RetryAfter(time.Hour, errAdapter)
	each := func(results ...any) error {
		m := map[string]error{}
		for i := 0; i < len(results); i += 2 {
			err, _ := results[i+1].(error)
			m[results[i].(string)] = err
		}
		return delivery.PerRecipient(m)
	}
	const backoff = time.Duration(-1)
	for _, tc := range []struct {
		name    string
		verdict error
		outcome string
		state   queue.State // "" is acked
		owed    []string
		settled string
		next    time.Duration // backoff: between half a second and one
		reason  string        // part of the dead letter's, or of the last error
	}{
		{"nil", nil, "acked", "", nil, "", 0, ""},
		{"plain", errAdapter, "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "away"},
		{"reject", no, "rejected", queue.StateDead, []string{a, b, c}, "", 0, "no such user"},
		{"reject nothing", delivery.Reject(nil), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "rejected"},
		{"reject, wrapped", fmt.Errorf("app: %w", no), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "app: no such user"},
		{"reject, by a method As", asRejected{errAdapter}, "rejected", queue.StateDead, []string{a, b, c}, "", 0, "away"},
		{"retry after", later, "retry", queue.StateWaiting, []string{a, b, c}, "", time.Hour, "away"},
		{"retry after, wrapped", fmt.Errorf("app: %w", later), "retry", queue.StateWaiting, []string{a, b, c}, "", time.Hour, "app: the backend"},
		{"retry after nothing", delivery.RetryAfter(time.Hour, nil), "retry", queue.StateWaiting, []string{a, b, c}, "", time.Hour, "retry"},
		{"retry after 0", delivery.RetryAfter(0, errAdapter), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "away"},
		{"retry after less than 0", delivery.RetryAfter(-time.Hour, errAdapter), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "away"},
		{"the outermost wins: retry", delivery.RetryAfter(time.Hour, no), "retry", queue.StateWaiting, []string{a, b, c}, "", time.Hour, "no such user"},
		{"the outermost wins: reject", delivery.Reject(later), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "away"},
		{"joined with a plain part", errors.Join(no, errAdapter), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "no such user"},
		{"joined deeper with a plain part", errors.Join(no, fmt.Errorf("x: %w", errors.Join(no, errAdapter))), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, ""},
		{"joined rejects", errors.Join(no, delivery.Reject(errors.New("twice"))), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "twice"},
		{"joined reject and retry after", errors.Join(no, later), "retry", queue.StateWaiting, []string{a, b, c}, "", time.Hour, ""},
		{"joined per recipient with a plain part", errors.Join(each(a, nil, b, nil, c, nil), errAdapter), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, ""},
		{"an error that is its own cause", loop{}, "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "loop"},
		{"an error that is its own parts", tree{}, "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "tree"},
		{"an error that panics", (*nobody)(nil), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "cannot be shown"},
		{"a reject of an error that panics", delivery.Reject((*nobody)(nil)), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "cannot be shown"},
		{"a nil pointer to a refusal", (*delivery.RejectError)(nil), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "cannot be shown"},
		{"a nil pointer to a retry", (*delivery.RetryError)(nil), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "cannot be shown"},
		{"a nil pointer to results", (*delivery.RecipientsError)(nil), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "cannot be shown"},
		{"a reject without a word", delivery.Reject(errors.New("")), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "no reason given"},
		{"a plain error without a word", errors.New(""), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "no reason given"},
		{"per recipient within reject", delivery.Reject(each(a, nil)), "rejected", queue.StateDead, []string{a, b, c}, "", 0, "per recipient"},
		{"reject within per recipient, wrapped", fmt.Errorf("app: %w", each(a, fmt.Errorf("x: %w", no), b, nil, c, nil)), "rejected", queue.StateDead, nil, "a-b+c+", 0, "x: no such user"},
		{"an error of a megabyte", errors.New(strings.Repeat("x", 1<<20)), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "xxx…"},

		{"each delivered", each(a, nil, b, nil, c, nil), "acked", "", nil, "", 0, ""},
		{"each delivered, wrapped", fmt.Errorf("app: %w", each(a, nil, b, nil, c, nil)), "acked", "", nil, "", 0, ""},
		{"none named", delivery.PerRecipient(nil), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, "per recipient: 3 recipients were left out"},
		{"one missing", each(a, nil, c, nil), "partial", queue.StateWaiting, []string{b}, "a+c+", backoff, ""},
		{"one plain", each(a, nil, b, errAdapter, c, nil), "partial", queue.StateWaiting, []string{b}, "a+c+", backoff, "b@y.example: the backend is away"},
		{"one rejected, one plain", each(a, nil, b, errAdapter, c, no), "partial", queue.StateWaiting, []string{b}, "a+c-", backoff, ""},
		{"one rejected, the rest plain", each(a, errAdapter, b, errAdapter, c, no), "partial", queue.StateWaiting, []string{a, b}, "c-", backoff, ""},
		{"one rejected without a word, one plain", each(a, nil, b, errAdapter, c, delivery.Reject(errors.New(""))), "partial", queue.StateWaiting, []string{b}, "a+c-", backoff, ""},
		{"one joined rejects, one plain", each(a, errors.Join(no, no), b, errAdapter, c, nil), "partial", queue.StateWaiting, []string{b}, "a-c+", backoff, ""},
		{"one whose error panics", each(a, (*nobody)(nil), b, nil, c, nil), "partial", queue.StateWaiting, []string{a}, "b+c+", backoff, "cannot be shown"},
		{"one rejected, the rest delivered", each(a, nil, b, no, c, nil), "rejected", queue.StateDead, nil, "a+b-c+", 0, "b@y.example: no such user"},
		{"each rejected", each(a, no, b, no, c, no), "rejected", queue.StateDead, nil, "a-b-c-", 0, "c@y.example: no such user"},
		{"all plain", each(a, errAdapter, b, errAdapter, c, errAdapter), "retry", queue.StateWaiting, []string{a, b, c}, "", backoff, ""},
		{"of two times the earlier", each(a, later, b, delivery.RetryAfter(time.Minute, nil), c, later), "retry", queue.StateWaiting, []string{a, b, c}, "", time.Minute, ""},
		{"of a time and the back-off the earlier", each(a, later, b, errAdapter, c, nil), "partial", queue.StateWaiting, []string{a, b}, "c+", backoff, ""},
		{"of a time and a missing one the earlier", each(a, later, c, nil), "partial", queue.StateWaiting, []string{a, b}, "c+", backoff, ""},
		{"a stranger", each(a, nil, b, nil, c, nil, "x@y.example", no), "acked", "", nil, "", 0, ""},
		{"per recipient within is plain", each(a, each(a, nil), b, nil, c, nil), "partial", queue.StateWaiting, []string{a}, "b+c+", backoff, ""},
		{"a recipient's verdict is joined with a plain part", each(a, errors.Join(no, errAdapter), b, nil, c, nil), "partial", queue.StateWaiting, []string{a}, "b+c+", backoff, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			adapter := delivery.AdapterFunc(func(context.Context, *queue.Message) error { return tc.verdict })
			onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put(a, b, c)
				if got := r.last(); got.Outcome != tc.outcome || got.ID != string(id) || got.Attempt != 1 || !slices.Equal(got.Rcpts, []string{a, b, c}) {
					t.Errorf("told %+v, want outcome %s", got, tc.outcome)
				}
				if tc.state == "" {
					r.gone(id)
					return
				}
				e := r.get(id)
				if e.State != tc.state || !slices.Equal(e.Envelope.Addresses(), tc.owed) && len(tc.owed)+len(e.Envelope.RcptTo) > 0 {
					t.Errorf("%s, owed %v; want %s, %v", e.State, e.Envelope.Addresses(), tc.state, tc.owed)
				}
				settled := ""
				for _, o := range e.Settled {
					settled += o.Recipient[:1] + map[bool]string{true: "+", false: "-"}[o.Rejected == ""]
				}
				if settled != tc.settled {
					t.Errorf("settled %v, want %s", e.Settled, tc.settled)
				}
				why := e.LastError
				if e.Dead != nil {
					why = e.Dead.Reason
					if e.Dead.Kind != queue.KindRejected {
						t.Errorf("kind %s", e.Dead.Kind)
					}
				}
				if !strings.Contains(why, tc.reason) || len(why) > 5000 {
					t.Errorf("reason %.5000q, want %q in it", why, tc.reason)
				}
				next := time.Until(e.NextAttempt)
				switch {
				case tc.next == backoff && (next < time.Second/2 || next > time.Second):
					t.Errorf("again in %v, want by the back-off", next)
				case tc.next > 0 && next != tc.next:
					t.Errorf("again in %v, want %v", next, tc.next)
				case tc.state == queue.StateWaiting && !r.last().Next.Equal(e.NextAttempt):
					t.Errorf("told again at %v, is %v", r.last().Next, e.NextAttempt)
				}
			})
		})
	}
}

func TestAStrangerInTheVerdictIsLogged(t *testing.T) {
	t.Parallel()
	adapter := delivery.AdapterFunc(func(context.Context, *queue.Message) error {
		results := map[string]error{a: nil}
		for i := range 1000 {
			results[fmt.Sprintf("%03d@%s.example", i, strings.Repeat("x", 1000))] = nil
		}
		return delivery.PerRecipient(results)
	})
	onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
		r.start()
		r.gone(r.put(a))
		why := r.last().Reason
		if why == nil || !strings.Contains(why.Error(), "000@xxx") || !strings.Contains(why.Error(), "1000 who are not owed") || len(why.Error()) > 5000 {
			t.Errorf("told %.5000v", why)
		}
	})
}

// Who is settled is not offered again, and a message of which somebody was ever
// rejected ends dead when none is owed.
func TestOnlyThoseOwedAreOfferedAgain(t *testing.T) {
	t.Parallel()
	var asked []string
	adapter := delivery.Each(func(_ context.Context, m *queue.Message, rcpt string) error {
		asked = append(asked, fmt.Sprintf("%d:%s", m.Attempt, rcpt[:1]))
		switch {
		case rcpt == a && m.Attempt == 1:
			return delivery.Reject(errors.New("no a"))
		case rcpt == b && m.Attempt < 3:
			return errAdapter
		case rcpt == c && m.Attempt < 2:
			return delivery.RetryAfter(time.Minute, errAdapter)
		}
		return nil
	})
	onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put(a, b, c)
		r.after(time.Hour)
		if got := strings.Join(asked, " "); got != "1:a 1:b 1:c 2:b 2:c 3:b" {
			t.Errorf("asked %s", got)
		}
		if got := r.outcomes(); !slices.Equal(got, []string{"partial", "partial", "rejected"}) {
			t.Errorf("told %v", got)
		}
		e := r.get(id)
		if e.State != queue.StateDead || e.Dead.Reason != a+": no a" || len(e.Envelope.RcptTo) != 0 {
			t.Errorf("%s, %+v, owed %v", e.State, e.Dead, e.Envelope.RcptTo)
		}
		// Requeued, the one rejected is owed again.
		asked = nil
		if err := r.q.Requeue(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		r.after(time.Second)
		if got := strings.Join(asked, " "); got != "1:a" {
			t.Errorf("after Requeue asked %s", got)
		}
	})
}

func TestAMessageOfWhichAllWasSettledIsFinishedWithoutItsAdapter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rejected string
		outcome  string
	}{{"", "acked"}, {"no", "rejected"}} {
		var n calls
		adapter := delivery.AdapterFunc(func(_ context.Context, m *queue.Message) error { n.add(m); return errAdapter })
		onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
			l, err := r.draft(a).CommitLeased(t.Context(), queue.Final{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Settle(t.Context(), []queue.Outcome{{Recipient: a, Rejected: tc.rejected}}), l.Release(t.Context())); err != nil {
				t.Fatal(err)
			}
			r.start()
			if n.n() != 0 || r.last().Outcome != tc.outcome {
				t.Errorf("%d calls, told %v", n.n(), r.outcomes())
			}
		})
	}
}

// Q15.
func TestPanicsAreRetriedAndSpentAsSuch(t *testing.T) {
	t.Parallel()
	whole := delivery.AdapterFunc(func(context.Context, *queue.Message) error { panic("whole") })
	one := delivery.Each(func(_ context.Context, _ *queue.Message, rcpt string) error {
		if rcpt == b {
			panic("one")
		}
		return nil
	})
	exit := delivery.AdapterFunc(func(context.Context, *queue.Message) error { runtime.Goexit(); return nil })
	for _, tc := range []struct {
		name    string
		adapter delivery.Adapter
		panics  int
		kind    queue.Kind
		owed    []string
	}{
		{"whole", whole, 2, queue.KindPanic, []string{a, b}},
		{"one", one, 2, queue.KindPanic, []string{b}},
		{"exit", exit, 0, queue.KindSpent, []string{a, b}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRig(t, delivery.Config{Adapter: tc.adapter, MaxAttempts: 2, Workers: 1}, func(t *testing.T, r *rig) {
				r.start()
				id := r.put(a, b)
				r.after(time.Minute)
				e := r.get(id)
				if e.State != queue.StateDead || e.Dead.Kind != tc.kind || !slices.Equal(e.Envelope.Addresses(), tc.owed) {
					t.Errorf("%s, %+v, owed %v", e.State, e.Dead, e.Envelope.Addresses())
				}
				if len(r.panics) != tc.panics {
					t.Errorf("%d panics told, want %d", len(r.panics), tc.panics)
				}
				for _, p := range r.panics {
					if p.Where != "adapter" || p.ID != string(id) || len(p.Stack) == 0 {
						t.Errorf("told %q %q, %d octets of stack", p.Where, p.ID, len(p.Stack))
					}
				}
				if got := r.last(); got.Outcome != "spent" || got.Panicked != (tc.panics > 0) {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	adapter := delivery.AdapterFunc(func(context.Context, *queue.Message) error { return nil })
	onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
		for _, cfg := range []delivery.Config{{Queue: r.q}, {Adapter: adapter}, {Queue: r.q, Adapter: adapter, Workers: -1}} {
			if _, err := delivery.New(cfg); err == nil {
				t.Errorf("New(%+v) succeeded", cfg)
			}
		}
		r.start()
		if err := r.pool.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		if s := r.pool.Status(); s != (delivery.Status{Workers: 16}) {
			t.Errorf("Status %+v", s)
		}
	})
}
