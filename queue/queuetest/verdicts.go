package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// verdicts is the contract of Settle and of the ends of a lease.
var verdicts = []check{
	{"SettleNarrowsForEver", settleNarrows},
	{"SettleIgnoresWhoIsNotOwed", settleIgnores},
	{"SettleLeavesEarlierMessagesAlone", settleLeavesEarlier},
	{"SettledAloneIsNotTheEnd", settledAlone},
	{"BuryKeepsWhy", buryKeepsWhy},
	{"RequeueBeginsAgain", requeueBegins},
	{"RequeueMakesTheRejectedOwedAgain", requeueRejected},
}

func owed(m *queue.Message) []string { return m.Envelope.Addresses() }

func (s *suite) owes(when string, m *queue.Message, want ...string) {
	s.Helper()
	if !slices.Equal(owed(m), want) {
		s.Fatalf("%s: owed %v, want %v", when, owed(m), want)
	}
}

func settleNarrows(s *suite) {
	id := s.putAs(to("a@y.example", "b@y.example", "c@y.example", "d@y.example"), queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "b@y.example"}}))
	s.owes("settled", l.Message(), "a@y.example", "c@y.example", "d@y.example")
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "d@y.example", Rejected: "unknown"}}))
	s.owes("settled twice", l.Message(), "a@y.example", "c@y.example")
	want := []queue.Outcome{{Recipient: "b@y.example"}, {Recipient: "d@y.example", Rejected: "unknown"}}
	s.equal("Settled", l.Message().Settled, want)
	s.sameText("the message", s.text(l.Message()), plain)

	s.must("Release", l.Release(s.ctx))
	l = s.leaseOf(id)
	s.owes("after Release", l.Message(), "a@y.example", "c@y.example")
	if l.Message().Attempt != 1 {
		s.Errorf("Settle and Release cost an attempt: %d", l.Message().Attempt)
	}
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	l = s.leaseOf(id)
	s.owes("after Retry", l.Message(), "a@y.example", "c@y.example")
	s.equal("Settled after Retry", l.Message().Settled, want)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	l = s.leaseOf(id)
	s.owes("after a second Retry", l.Message(), "c@y.example")
	if len(l.Message().Settled) != 3 {
		s.Errorf("Settled after a second Retry: %v", l.Message().Settled)
	}
	if in, ok := s.q.(queue.Inspector); ok {
		e, err := in.Get(s.ctx, id)
		s.must("Get", err)
		s.equal("Entry.Envelope", e.Envelope.Addresses(), []string{"c@y.example"})
		s.equal("Entry.Settled", e.Settled, l.Message().Settled)
	}
}

func settleIgnores(s *suite) {
	id := s.putAs(to("a@y.example", "b@y.example"), queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	s.must("Settle of nobody", l.Settle(s.ctx, nil))
	s.must("Settle of a stranger", l.Settle(s.ctx, []queue.Outcome{{Recipient: "x@y.example"}, {Recipient: "A@y.example"}, {Recipient: ""}}))
	s.owes("strangers settled", l.Message(), "a@y.example", "b@y.example")
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example"}, {Recipient: "a@y.example", Rejected: "no"}}))
	s.must("Settle again", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example", Rejected: "no"}}))
	s.owes("settled", l.Message(), "b@y.example")
	s.equal("Settled", l.Message().Settled, []queue.Outcome{{Recipient: "a@y.example"}})
}

// settleLeavesEarlier: an abandoned adapter still looks at its message while
// the next one's is narrowed.
func settleLeavesEarlier(s *suite) {
	id := s.putAs(to("a@y.example", "b@y.example", "c@y.example"), queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	earlier := l.Message()
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	looked := make(chan string)
	go func() { looked <- fmt.Sprint(owed(earlier), earlier.Settled) }()
	l = s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "b@y.example"}}))
	if got := <-looked; got != "[b@y.example c@y.example] [{a@y.example }]" {
		s.Errorf("the earlier message says %s", got)
	}
	s.owes("the earlier message", earlier, "b@y.example", "c@y.example")
	if l.Message() == earlier {
		s.Error("two leases share one Message")
	}
}

func settledAlone(s *suite) {
	id := s.put(plain)
	l := s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "to@y.example"}}))
	s.owes("all settled", l.Message())
	s.depth("all settled", queue.Depth{Leased: 1})
	s.must("Release", l.Release(s.ctx))
	l = s.leaseOf(id)
	s.owes("all settled and released", l.Message())
	s.must("Ack", l.Ack(s.ctx))
	s.depth("acked", queue.Depth{})
}

func buryKeepsWhy(s *suite) {
	in := s.inspector()
	for want, cause := range map[queue.Kind]error{
		queue.KindRejected: fmt.Errorf("said: %w", errTest),
		queue.KindSpent:    &queue.Cause{Kind: queue.KindSpent, Err: errTest},
		queue.KindPanic:    fmt.Errorf("wrapped: %w", &queue.Cause{Kind: queue.KindPanic, Err: errTest}),
		queue.KindCorrupt:  &queue.Cause{Kind: queue.KindCorrupt, Err: errTest, Keep: 36 * time.Hour},
	} {
		id := s.put(plain)
		before := now()
		s.must("Bury", s.leaseOf(id).Bury(s.ctx, cause))
		e, err := in.Get(s.ctx, id)
		s.must("Get", err)
		if e.State != queue.StateDead || e.Dead == nil {
			s.Fatalf("buried: %s, Dead %v", e.State, e.Dead)
		}
		if e.Dead.Kind != want || e.Dead.Reason != cause.Error() {
			s.Errorf("dead: %s %q, want %s %q", e.Dead.Kind, e.Dead.Reason, want, cause.Error())
		}
		if keep := queue.KeepOf(cause); e.Dead.Keep != keep {
			s.Errorf("dead: kept for %v, want %v", e.Dead.Keep, keep)
		}
		if e.Dead.RejectedAt.Before(before) || e.Dead.RejectedAt.After(time.Now()) {
			s.Errorf("RejectedAt %v is not now", e.Dead.RejectedAt)
		}
		s.equal("owed of a dead letter", e.Envelope.Addresses(), []string{"to@y.example"})
	}
	s.nothing("all are dead")
}

func requeueBegins(s *suite) {
	in := s.inspector()
	id := s.put(plain)
	for range 3 {
		s.must("Retry", s.leaseOf(id).Retry(s.ctx, time.Now(), errTest))
	}
	s.must("Bury", s.leaseOf(id).Bury(s.ctx, &queue.Cause{Kind: queue.KindSpent, Err: errTest}))
	got := s.leaseLater()
	before := now()
	s.must("Requeue", in.Requeue(s.ctx, id))
	l := s.wokenFor(id, got)
	m := l.Message()
	if m.Attempt != 1 {
		s.Errorf("requeued: Attempt %d, want 1", m.Attempt)
	}
	if m.RequeuedAt.Before(before) || m.RequeuedAt.After(time.Now()) {
		s.Errorf("RequeuedAt %v is not now", m.RequeuedAt)
	}
	s.sameText("the message", s.text(m), plain)
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	e := s.get(id)
	if e.Dead != nil || e.State != queue.StateReady || !e.RequeuedAt.Equal(m.RequeuedAt) {
		s.Errorf("after a Retry: %s, Dead %v, RequeuedAt %v", e.State, e.Dead, e.RequeuedAt)
	}
	s.mustBe("Requeue of what is not dead", in.Requeue(s.ctx, id), queue.ErrNotFound)
	s.mustBe("Requeue of nothing", in.Requeue(s.ctx, "nothing"), queue.ErrNotFound)
	s.depth("after Requeue", queue.Depth{Ready: 1})
}

func requeueRejected(s *suite) {
	in := s.inspector()
	env := to("a@y.example", "b@y.example", "c@y.example")
	env.RcptTo[1].Notify, env.RcptTo[1].ORcpt = "NEVER", "rfc822;b@old.example"
	id := s.putAs(env, queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example"}, {Recipient: "b@y.example", Rejected: "no"}}))
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	l = s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "c@y.example", Rejected: "no, too"}}))
	s.must("Bury", l.Bury(s.ctx, errTest))
	s.equal("owed of a dead letter", len(s.get(id).Envelope.RcptTo), 0)

	s.must("Requeue", in.Requeue(s.ctx, id))
	l = s.leaseOf(id)
	got := slices.SortedFunc(slices.Values(l.Message().Envelope.RcptTo), func(a, b queue.Recipient) int {
		if a.Address < b.Address {
			return -1
		}
		return 1
	})
	s.equal("owed again", got, env.RcptTo[1:])
	s.equal("Settled", l.Message().Settled, []queue.Outcome{{Recipient: "a@y.example"}})
}
