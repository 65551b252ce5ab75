package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// decided is what a sender is told: "accepted", "refused" or "deferred".
func decided(t *testing.T, err error) string {
	t.Helper()
	var no *delivery.RefusedError
	switch {
	case err == nil:
		return "accepted"
	case !errors.As(err, &no):
		t.Fatalf("Decide returned %v, which is no *RefusedError", err)
	case no.Final:
		return "refused"
	}
	return "deferred"
}

// state is "gone", or where a message is.
func (r *rig) state(id queue.ID) string {
	e, err := r.q.Get(r.Context(), id)
	if errors.Is(err, queue.ErrNotFound) {
		return "gone"
	}
	if err != nil {
		r.Fatal(err)
	}
	return fmt.Sprint(e.State)
}

// D03: where verdicts differ, nothing is refused that somebody has.
func TestASenderIsToldTheVerdict(t *testing.T) {
	t.Parallel()
	no, later := delivery.Reject(errors.New("no")), errAdapter
	for name, c := range map[string]struct {
		verdict error
		keep    bool
		told    string
		state   string
		owed    []string // where it is not gone
	}{
		"taken":                     {nil, false, "accepted", "gone", nil},
		"rejected":                  {no, false, "refused", "gone", nil},
		"rejected, kept":            {no, true, "refused", "dead", []string{a, b}},
		"failed":                    {later, false, "deferred", "gone", nil},
		"failed, kept":              {later, true, "deferred", "dead", []string{a, b}},
		"told when to come again":   {delivery.RetryAfter(time.Hour, nil), false, "deferred", "gone", nil},
		"postponed":                 {delivery.Postpone(time.Hour, nil), false, "deferred", "gone", nil},
		"all rejected, each":        {delivery.PerRecipient(map[string]error{a: no, b: no}), false, "refused", "gone", nil},
		"all failed, each":          {delivery.PerRecipient(map[string]error{a: later, b: later}), false, "deferred", "gone", nil},
		"all taken, each":           {delivery.PerRecipient(map[string]error{a: nil, b: nil}), false, "accepted", "gone", nil},
		"one taken, one failed":     {delivery.PerRecipient(map[string]error{a: nil, b: later}), false, "accepted", "waiting", []string{b}},
		"one taken, one rejected":   {delivery.PerRecipient(map[string]error{a: nil, b: no}), false, "accepted", "dead", nil},
		"one rejected, one failed":  {delivery.PerRecipient(map[string]error{a: no, b: later}), false, "accepted", "waiting", []string{b}},
		"one failed, one left out":  {delivery.PerRecipient(map[string]error{a: later}), false, "deferred", "gone", nil},
		"one taken, one left out":   {delivery.PerRecipient(map[string]error{a: nil}), false, "accepted", "waiting", []string{b}},
		"failed, a place has it":    {&delivery.RetryError{Err: later, Begun: true}, false, "accepted", "waiting", []string{a, b}},
		"postponed, a place has it": {&delivery.PostponeError{Err: later, Begun: true}, false, "accepted", "waiting", []string{a, b}},
		"begun for one, each":       {delivery.PerRecipient(map[string]error{a: later, b: &delivery.RetryError{Err: later, Begun: true}}), false, "accepted", "waiting", []string{a, b}},
		"an attempt too many":       {delivery.Spent(errors.New("too often")), false, "refused", "gone", nil},
		"the adapter ends in panic": {nil, false, "deferred", "gone", nil},
	} {
		for _, mode := range []delivery.Mode{delivery.Sync, delivery.Hybrid} {
			adapter := delivery.AdapterFunc(func(context.Context, *queue.Message) error {
				if name == "the adapter ends in panic" {
					panic("boom")
				}
				return c.verdict
			})
			onDead := 0
			onRig(t, delivery.Config{Adapter: adapter, Backoff: time.Hour, MaxAttempts: -1,
				OnDead: func(context.Context, *queue.Message, error) { onDead++ }}, func(t *testing.T, r *rig) {
				r.start()
				l := r.leased(a, b)
				id := l.Message().ID
				got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: mode, Keep: c.keep}))
				// A message that is refused is where it belongs before its sender is told.
				if got == "accepted" {
					synctest.Wait()
				}
				told, wanted := c.told, c.state
				if name == "postponed" && mode == delivery.Hybrid { // no verdict is none in time
					told, wanted = "accepted", "waiting"
				}
				if state := r.state(id); got != told || state != wanted {
					t.Errorf("%s, %s: told %s, the message is %s; want %s, %s", name, mode, got, state, told, wanted)
				}
				if c.keep && (len(r.dead) != 1 || r.dead[0].ID != string(id) || onDead != 1) {
					t.Errorf("%s, %s: told of the dead letter %+v, OnDead was called %d times", name, mode, r.dead, onDead)
				}
				if c.owed != nil && !slices.Equal(r.get(id).Envelope.Addresses(), c.owed) {
					t.Errorf("%s, %s: owed %v, want %v", name, mode, r.get(id).Envelope.Addresses(), c.owed)
				}
				synctest.Wait()
				if want := map[string]string{"refused": "refused", "deferred": "deferred"}[got]; want != "" && r.last().Outcome != want {
					t.Errorf("%s, %s: outcome %s", name, mode, r.last().Outcome)
				}
			})
		}
	}
}

// D02.
func TestASenderWaitsNoLongerThanHeShould(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode     delivery.Mode
		takes    time.Duration // of the adapter
		stubborn bool          // it does not look at its context
		told     string
		after    time.Duration
		state    string // an hour later
	}{
		"sync, in time":            {delivery.Sync, 4 * time.Second, false, "accepted", 4 * time.Second, "gone"},
		"sync, too late":           {delivery.Sync, 30 * time.Second, false, "deferred", 5 * time.Second, "gone"},
		"sync, stubborn":           {delivery.Sync, 30 * time.Second, true, "deferred", 15 * time.Second, "gone"},
		"sync, late and in grace":  {delivery.Sync, 8 * time.Second, true, "accepted", 8 * time.Second, "gone"},
		"hybrid, in time":          {delivery.Hybrid, 4 * time.Second, false, "accepted", 4 * time.Second, "gone"},
		"hybrid, too late":         {delivery.Hybrid, 30 * time.Second, false, "accepted", 5 * time.Second, "gone"},
		"hybrid, later than it is": {delivery.Hybrid, 2 * time.Minute, false, "accepted", 5 * time.Second, "waiting"},
	} {
		adapter := delivery.AdapterFunc(func(ctx context.Context, _ *queue.Message) error {
			if c.stubborn {
				ctx = context.Background()
			}
			select {
			case <-time.After(c.takes):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		onRig(t, delivery.Config{Adapter: adapter, Backoff: 24 * time.Hour, BackoffCap: 24 * time.Hour}, func(t *testing.T, r *rig) {
			r.start()
			l := r.leased()
			id, began := l.Message().ID, time.Now()
			got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: c.mode, Within: 5 * time.Second}))
			if took := time.Since(began); got != c.told || took != c.after {
				t.Errorf("%s: %s after %v, want %s after %v", name, got, took, c.told, c.after)
			}
			if got == "deferred" && r.state(id) != "gone" {
				t.Errorf("%s: the message was %s when the sender was told", name, r.state(id))
			}
			r.after(time.Hour)
			if s := r.state(id); s != c.state {
				t.Errorf("%s: then the message is %s, want %s", name, s, c.state)
			}
		})
	}
}

func TestWithoutAPlaceForTheAttemptSyncIsANoAndHybridIsNot(t *testing.T) {
	t.Parallel()
	for mode, want := range map[delivery.Mode][2]string{delivery.Sync: {"deferred", "gone"}, delivery.Hybrid: {"accepted", "ready"}} {
		onRigOf(t, func(*rig) delivery.Config {
			hang := make(chan struct{})
			return delivery.Config{Workers: 1, Deadline: -1, Adapter: delivery.AdapterFunc(func(ctx context.Context, _ *queue.Message) error {
				select {
				case <-hang:
				case <-ctx.Done():
				}
				return ctx.Err()
			})}
		}, func(t *testing.T, r *rig) {
			r.start()
			r.put()
			l := r.leased()
			id, began := l.Message().ID, time.Now()
			got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: mode}))
			if took := time.Since(began); got != want[0] || r.state(id) != want[1] || took != delivery.DefaultWithin {
				t.Errorf("%s: %s after %v, the message is %s; want %v", mode, got, took, r.state(id), want)
			}
		})
		// After the end of the pool too.
		onRig(t, delivery.Config{Adapter: delivery.AdapterFunc(func(context.Context, *queue.Message) error { return nil })}, func(t *testing.T, r *rig) {
			r.start()
			r.drained()
			l := r.leased()
			id := l.Message().ID
			if got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: mode})); got != want[0] || r.state(id) != want[1] {
				t.Errorf("%s: %s, the message is %s; want %v", mode, got, r.state(id), want)
			}
		})
	}
}

func TestNobodyIsAskedWhileTheQueueIsPaused(t *testing.T) {
	t.Parallel()
	for mode, want := range map[delivery.Mode][2]string{delivery.Sync: {"deferred", "gone"}, delivery.Hybrid: {"accepted", "ready"}} {
		calls := &backend{}
		onRig(t, delivery.Config{Adapter: calls}, func(t *testing.T, r *rig) {
			r.start()
			if err := r.q.Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
			l := r.leased()
			id := l.Message().ID
			got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: mode}))
			if state := r.state(id); got != want[0] || state != want[1] || calls.n() > 0 {
				t.Errorf("%s: %s, the message is %s after %d calls; want %v and none", mode, got, state, calls.n(), want)
			}
		})
	}
}

// Where every message that fails is gone the workers have none to try a held
// adapter with.
func TestAHeldAdapterIsTriedWithTheMessagesOfThoseWhoWait(t *testing.T) {
	t.Parallel()
	onBackend(t, delivery.Config{}, func(t *testing.T, r *rig, b *backend) {
		decide := func() string {
			got := decided(t, r.pool.Decide(t.Context(), r.leased(), delivery.Acceptance{Mode: delivery.Sync}))
			synctest.Wait() // the sender does not wait until it is counted
			return got
		}
		for range holdAfter {
			decide()
		}
		r.checkHeld(true)
		if decide(); b.n() != holdAfter {
			t.Errorf("it was asked %d times, the last after it was held", b.n())
		}
		r.after(probeEvery)
		if decide(); b.n() != holdAfter+1 {
			t.Errorf("it was asked %d times after 10 s", b.n())
		}
		if decide(); b.n() != holdAfter+1 {
			t.Errorf("it was asked %d times, two within 10 s", b.n())
		}
		b.down.Store(false)
		r.after(probeEvery)
		if got := decide(); got != "accepted" {
			t.Errorf("%s when it is well again", got)
		}
		r.checkHeld(false)
	})
}

// keeper says how long its dead letters are kept, by their recipients.
type keeper struct{ delivery.Adapter }

func (keeper) Keep(m *queue.Message) time.Duration {
	return time.Duration(len(m.Envelope.RcptTo)) * time.Hour
}

// front stands in front of it.
type front struct{ delivery.Adapter }

func (f front) Unwrap() delivery.Adapter { return f.Adapter }

func TestAnAdapterSaysHowLongItsDeadLettersAreKept(t *testing.T) {
	t.Parallel()
	first := true
	adapter := front{front{keeper{delivery.AdapterFunc(func(context.Context, *queue.Message) error {
		if first {
			first = false
			return delivery.PerRecipient(map[string]error{a: delivery.Reject(nil), b: errAdapter})
		}
		return delivery.PerRecipient(map[string]error{b: delivery.Reject(nil)})
	})}}}
	onRig(t, delivery.Config{Adapter: adapter, Workers: 1, Backoff: time.Second}, func(t *testing.T, r *rig) {
		r.start()
		id := r.put(a, b)
		r.after(time.Minute)
		if e := r.get(id); e.Dead == nil || e.Dead.Keep != 2*time.Hour {
			t.Errorf("%s %+v", e.State, e.Dead)
		}
	})
	if _, ok := delivery.Find[delivery.Accepter](front{nil}); ok {
		t.Error("found behind nothing")
	}
}

func TestWhatCannotBeRemovedIsAccepted(t *testing.T) {
	t.Parallel()
	adapter := delivery.AdapterFunc(func(context.Context, *queue.Message) error { return delivery.Reject(nil) })
	onRig(t, delivery.Config{Adapter: adapter}, func(t *testing.T, r *rig) {
		r.start()
		l := sickLease{r.leased()}
		if got := decided(t, r.pool.Decide(t.Context(), l, delivery.Acceptance{Mode: delivery.Sync})); got != "accepted" {
			t.Errorf("%s, and it will be delivered again", got)
		}
		if len(r.spool) != 1 {
			t.Errorf("%d troubles of the spool were told", len(r.spool))
		}
		synctest.Wait()
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// sickLease cannot be acked.
type sickLease struct{ queue.Lease }

func (sickLease) Ack(context.Context) error { return queue.ErrSick }
