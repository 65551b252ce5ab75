package queuetest

import (
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// closing is the contract of Close.
var closing = []check{
	{"CloseEndsEverything", closeEnds},
	{"CloseWakesLease", closeWakes},
	{"CloseBesideEverything", closeBeside},
}

func closeEnds(s *suite) {
	s.put(plain)
	l := s.lease()
	s.put(plain)
	draft, leased := s.begin(), s.begin()
	s.must("Close", s.q.Close())
	s.must("a second Close", s.q.Close())
	_, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
	s.mustBe("Begin after Close", err, queue.ErrClosed)
	_, err = s.q.Lease(s.ctx)
	s.mustBe("Lease after Close", err, queue.ErrClosed)
	s.mustBe("Check after Close", s.q.Check(0), queue.ErrClosed)
	_, err = draft.Commit(s.ctx, queue.Final{})
	s.mustBe("Commit after Close", err, queue.ErrClosed)
	_, err = leased.CommitLeased(s.ctx, queue.Final{})
	s.mustBe("CommitLeased after Close", err, queue.ErrClosed)
	if l.Ack(s.ctx) == nil {
		s.Error("a lease was acked after Close")
	}
	s.must("Discard after Close", draft.Discard())
}

func closeWakes(s *suite) {
	const waiting = 4
	woken := make(chan error)
	for range waiting {
		go func() { _, err := s.q.Lease(s.ctx); woken <- err }()
	}
	<-time.After(quiet) // until they wait
	s.must("Close", s.q.Close())
	for range waiting {
		s.mustBe("a waiting Lease", <-woken, queue.ErrClosed)
	}
}

// closeBeside closes while all else goes on: no deadlock, no race, no panic.
func closeBeside(s *suite) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
				if err != nil {
					s.mustEnd("Begin", err)
					return
				}
				_, err = d.Write([]byte(plain))
				if err == nil {
					_, err = d.Commit(s.ctx, queue.Final{})
				}
				if err != nil {
					s.mustEnd("Write or Commit", err)
					if err := d.Discard(); err != nil {
						s.Errorf("Discard: %v", err)
					}
					return
				}
			}
		})
		wg.Go(func() {
			for {
				l, err := s.q.Lease(s.ctx)
				if err != nil {
					s.mustEnd("Lease", err)
					return
				}
				_ = l.Ack(s.ctx) // fails when Close came first
			}
		})
	}
	wg.Go(func() { s.q.Depth() })
	wg.Go(func() {
		if err := s.q.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	wg.Wait()
}

// mustEnd reports an error that is not ErrClosed, from any goroutine.
func (s *suite) mustEnd(what string, err error) {
	s.Helper()
	if !isClosed(err) {
		s.Errorf("%s beside Close: %v", what, err)
	}
}
