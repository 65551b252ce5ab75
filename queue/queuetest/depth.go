package queuetest

import (
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// depths is the contract of Depth, Check and the bound on Begin.
var depths = []check{
	{"DepthCountsByState", depthCounts},
	{"OldestIsTheOldestLiveMessage", oldest},
	{"BeginIsFullAtTheDepth", fullAtDepth},
	{"EachStateButDeadTakesAPlace", placesByState},
}

func depthCounts(s *suite) {
	s.depth("empty", queue.Depth{})
	d := s.begin()
	s.depth("drafted", queue.Depth{Drafts: 1})
	s.write(d, plain)
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	s.depth("committed", queue.Depth{Ready: 1})
	l := s.lease()
	s.depth("leased", queue.Depth{Leased: 1})
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	s.depth("due again", queue.Depth{Ready: 1})
	l = s.lease()
	s.must("Release", l.Release(s.ctx))
	s.depth("released", queue.Depth{Ready: 1})
	l = s.lease()
	s.must("Bury", l.Bury(s.ctx, errTest))
	s.depth("buried", queue.Depth{Dead: 1})

	s.put(plain)
	s.must("Retry", s.lease().Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	s.depth("waiting", queue.Depth{Dead: 1, Waiting: 1})
	s.put(plain)
	s.must("Ack", s.lease().Ack(s.ctx))
	s.depth("acked", queue.Depth{Dead: 1, Waiting: 1})
	l, err = s.begin().CommitLeased(s.ctx, queue.Final{})
	s.must("CommitLeased", err)
	s.depth("committed leased", queue.Depth{Dead: 1, Waiting: 1, Leased: 1})
	s.must("Ack", l.Ack(s.ctx))
}

func oldest(s *suite) {
	is := func(when string, want time.Time) {
		s.Helper()
		if got := s.q.Depth().Oldest; !got.Equal(want) {
			s.Errorf("%s: Oldest is %v, want %v", when, got, want)
		}
	}
	t0 := now().Add(-time.Hour)
	is("empty", time.Time{})
	second := s.putAt(t0.Add(time.Minute))
	is("one", t0.Add(time.Minute))
	first := s.putAt(t0)
	is("an older one", t0)
	l := s.leaseOf(first)
	is("leased", t0)
	s.must("Retry", l.Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	is("waiting", t0)
	l = s.leaseOf(second)
	s.must("Bury", l.Bury(s.ctx, errTest))
	is("the younger is dead", t0)
	l, err := s.begin().CommitLeased(s.ctx, queue.Final{})
	s.must("CommitLeased", err)
	is("a third is leased", t0)
	s.must("Ack", l.Ack(s.ctx))
	s.must("Delete", s.inspector().Delete(s.ctx, first))
	is("only a dead one is left", time.Time{})
}

func fullAtDepth(s *suite) {
	for range Depth - 2 {
		s.put(plain)
	}
	is := func(what string, want error) {
		s.Helper()
		d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
		if want == nil {
			s.must(what+": Begin", err)
			s.must("Discard", d.Discard())
		} else {
			s.mustBe(what+": Begin", err, want)
		}
		s.mustBe(what+": Check", s.q.Check(0), want)
		s.mustBe(what+": Check of a size", s.q.Check(100), want)
	}
	is("n-2 held", nil)
	draft := s.begin()
	is("n-1 held", nil)
	last := s.begin()
	is("n held", queue.ErrFull)
	s.write(last, plain)
	_, err := last.Commit(s.ctx, queue.Final{})
	s.must("the last Commit", err)
	is("n held, the last committed", queue.ErrFull)
	s.must("Discard", draft.Discard())
	is("a draft discarded", nil)
	if live := s.q.Depth().Live(); live != Depth-1 {
		s.Errorf("%d live, want %d", live, Depth-1)
	}
}

func placesByState(s *suite) {
	for range Depth {
		s.put(plain)
	}
	taken := func(what string) {
		s.Helper()
		if _, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()}); err == nil {
			s.Fatalf("%s: Begin found a place", what)
		} else {
			s.mustBe(what+": Begin", err, queue.ErrFull)
		}
	}
	free := func(what string) {
		s.Helper()
		d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
		s.must(what+": Begin", err)
		s.write(d, plain)
		_, err = d.Commit(s.ctx, queue.Final{})
		s.must(what+": Commit", err)
		taken(what + ", refilled")
	}
	l := s.lease()
	taken("leased")
	s.must("Release", l.Release(s.ctx))
	taken("released")
	s.must("Retry", s.lease().Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	taken("waiting")
	s.must("Ack", s.lease().Ack(s.ctx))
	free("acked")
	s.must("Bury", s.lease().Bury(s.ctx, errTest))
	free("buried")
}
