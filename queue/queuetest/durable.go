package queuetest

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// durables is what outlives a Close.
var durables = []check{
	{"WhatWasCommittedIsThere", committedIsThere},
	{"WhatIsKnownOutlivesClose", knownOutlives},
	{"WhatEndedStaysEnded", endedStaysEnded},
	{"ADraftDoesNotOutliveClose", draftDoesNot},
	{"ALeasedMessageIsOfferedAgain", leasedIsOffered},
	{"RetryTimesOutliveClose", retryTimesOutlive},
	{"SettledOutlivesClose", settledOutlives},
	{"DeadLettersOutliveClose", deadOutlive},
	{"RequeueOutlivesClose", requeueOutlives},
	{"PauseOutlivesClose", pauseOutlives},
	{"CommitBesideCloseTellsTheTruth", commitBesideClose},
}

func committedIsThere(s *suite) {
	want := map[queue.ID]string{}
	for _, text := range oddTexts {
		want[s.put(text)] = text
	}
	s.reopen()
	s.depth("reopened", queue.Depth{Ready: len(want)})
	var last *queue.Message
	for range oddTexts {
		l := s.lease()
		m := l.Message()
		s.sameText("after reopen", s.text(m), want[m.ID])
		if last != nil && (m.ReceivedAt.Before(last.ReceivedAt) || m.ReceivedAt.Equal(last.ReceivedAt) && m.ID < last.ID) {
			s.Errorf("%s (%v) came after %s (%v)", m.ID, m.ReceivedAt, last.ID, last.ReceivedAt)
		}
		last = m
		s.must("Ack", l.Ack(s.ctx))
	}
	s.reopen()
	s.depth("reopened, all acked", queue.Depth{})
}

func knownOutlives(s *suite) {
	env, o, f := full()
	f.Prepend = []byte("R: 0\r\n")
	f.Skip = []queue.Range{{Start: 0, End: 12}}
	id := s.putAs(env, o, plain, f)
	s.reopen()
	l := s.leaseOf(id)
	s.checkFull("after reopen", l.Message())
	s.sameText("after reopen", s.text(l.Message()), "R: 0\r\n"+plain[12:])
	if l.Message().Attempt != 1 || !l.Message().RequeuedAt.IsZero() {
		s.Errorf("after reopen: Attempt %d, RequeuedAt %v", l.Message().Attempt, l.Message().RequeuedAt)
	}
}

func endedStaysEnded(s *suite) {
	s.put(plain)
	s.must("Ack", s.lease().Ack(s.ctx))
	deleted := s.put(plain)
	if in, ok := s.q.(queue.Inspector); ok {
		s.must("Delete", in.Delete(s.ctx, deleted))
	} else {
		s.must("Ack", s.lease().Ack(s.ctx))
	}
	s.must("Discard", s.begin().Discard())
	s.reopen()
	s.depth("reopened", queue.Depth{})
	s.nothing("reopened")
}

func draftDoesNot(s *suite) {
	d := s.begin()
	s.write(d, plain)
	empty := s.begin()
	s.reopen()
	if n := s.q.Depth().Live(); n != 0 {
		s.Errorf("%d live after reopen", n)
	}
	s.nothing("drafts")
	for _, d := range []queue.Draft{d, empty} {
		if _, err := d.Commit(s.ctx, queue.Final{}); err == nil {
			s.Error("a draft of the closed queue was committed")
		}
	}
	s.nothing("drafts of the closed queue")
}

func leasedIsOffered(s *suite) {
	id := s.put(plain)
	held := s.leaseOf(id)
	r, err := held.Message().Open()
	s.must("Open", err)
	s.reopen()
	if held.Ack(s.ctx) == nil {
		s.Error("a lease of the closed queue was acked")
	}
	s.must("close of a reader", r.Close())
	l := s.leaseOf(id)
	s.sameText("the message", s.text(l.Message()), plain)
	s.must("Ack", l.Ack(s.ctx))
}

func retryTimesOutlive(s *suite) {
	far, near := s.put(plain), s.put(plain)
	farAt, nearAt := now().Add(time.Hour), now().Add(10*soon)
	for range 2 {
		l := s.lease()
		at := farAt
		if l.Message().ID == near {
			at = nearAt
		}
		s.must("Retry", l.Retry(s.ctx, at, errTest))
	}
	s.reopen()
	s.depth("reopened", queue.Depth{Waiting: 2})
	s.nothing("not due yet")
	if _, ok := s.q.(queue.Inspector); ok {
		e := s.get(far)
		if e.State != queue.StateWaiting || !e.NextAttempt.Equal(farAt) || e.LastError != errTest.Error() || e.Attempts != 1 {
			s.Errorf("after reopen: %s, NextAttempt %v (want %v), LastError %q, Attempts %d", e.State, e.NextAttempt, farAt, e.LastError, e.Attempts)
		}
	}
	l := s.leaseOf(near)
	if t := time.Now(); t.Before(nearAt) {
		s.Errorf("offered %v before its time", nearAt.Sub(t))
	}
	if l.Message().Attempt != 2 {
		s.Errorf("Attempt %d, want 2", l.Message().Attempt)
	}
}

func settledOutlives(s *suite) {
	env := to("a@y.example", "b@y.example", "c@y.example")
	env.RcptTo[2].Notify = "NEVER"
	id := s.putAs(env, queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	done := []queue.Outcome{{Recipient: "a@y.example"}, {Recipient: "b@y.example", Rejected: "no"}}
	s.must("Settle", l.Settle(s.ctx, done[:1]))
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	s.reopen()
	l = s.leaseOf(id)
	s.owes("after reopen", l.Message(), "b@y.example", "c@y.example")
	s.must("Settle", l.Settle(s.ctx, done[1:]))
	s.reopen() // with the lease in hand: what Settle wrote stays
	l = s.leaseOf(id)
	s.owes("after a second reopen", l.Message(), "c@y.example")
	s.equal("Settled", l.Message().Settled, done)
	s.equal("the recipient owed", l.Message().Envelope.RcptTo, env.RcptTo[2:])
}

func deadOutlive(s *suite) {
	s.inspector()
	id := s.put(plain)
	s.must("Bury", s.leaseOf(id).Bury(s.ctx, &queue.Cause{Kind: queue.KindPanic, Err: errTest}))
	before := s.get(id)
	s.reopen()
	s.depth("reopened", queue.Depth{Dead: 1})
	s.equal("the dead letter", s.get(id), before)
	s.sameText("its text", s.read(func() (io.ReadCloser, error) { return s.inspector().Open(s.ctx, id) }), plain)
	s.nothing("only a dead letter")
	s.must("Delete", s.inspector().Delete(s.ctx, id))
	s.reopen()
	s.depth("reopened, deleted", queue.Depth{})
}

func requeueOutlives(s *suite) {
	s.inspector()
	id := s.putAs(to("a@y.example", "b@y.example"), queue.Origin{ReceivedAt: now()}, plain, queue.Final{})
	l := s.leaseOf(id)
	s.must("Settle", l.Settle(s.ctx, []queue.Outcome{{Recipient: "a@y.example"}, {Recipient: "b@y.example", Rejected: "no"}}))
	s.must("Bury", l.Bury(s.ctx, errTest))
	s.reopen()
	s.must("Requeue", s.inspector().Requeue(s.ctx, id))
	at := s.get(id).RequeuedAt
	s.reopen()
	e := s.get(id)
	if e.State != queue.StateReady || e.Dead != nil || e.Attempts != 0 || at.IsZero() || !e.RequeuedAt.Equal(at) {
		s.Errorf("after reopen: %s, Dead %v, Attempts %d, RequeuedAt %v (want %v)", e.State, e.Dead, e.Attempts, e.RequeuedAt, at)
	}
	l = s.leaseOf(id)
	s.owes("after reopen", l.Message(), "b@y.example")
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	s.reopen()
	if l = s.leaseOf(id); !l.Message().RequeuedAt.Equal(at) || l.Message().Attempt != 2 {
		s.Errorf("after a Retry and reopen: RequeuedAt %v (want %v), Attempt %d", l.Message().RequeuedAt, at, l.Message().Attempt)
	}
}

func pauseOutlives(s *suite) {
	id := s.put(plain)
	s.must("Pause", s.inspector().Pause(s.ctx))
	s.reopen()
	if !s.inspector().Paused() {
		s.Error("not paused after reopen")
	}
	s.nothing("paused")
	s.must("Resume", s.inspector().Resume(s.ctx))
	s.reopen()
	if s.inspector().Paused() {
		s.Error("paused after Resume and reopen")
	}
	s.leaseOf(id)
}

// commitBesideClose: whether a Commit that races with Close succeeds is open;
// what it says is what is there.
func commitBesideClose(s *suite) {
	var mu sync.Mutex
	var said []queue.ID
	begun := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
				if err != nil {
					s.mustEnd("Begin", err)
					return
				}
				once.Do(func() { close(begun) })
				if _, err := d.Write([]byte(plain)); err != nil {
					s.mustEnd("Write", err)
					return
				}
				if _, err := d.Commit(s.ctx, queue.Final{}); err != nil {
					s.mustEnd("Commit", err)
					return
				}
				mu.Lock()
				said = append(said, d.ID())
				mu.Unlock()
			}
		})
	}
	<-begun
	s.must("Close", s.q.Close())
	wg.Wait()
	s.reopen()
	var there []queue.ID
	for range s.q.Depth().Ready {
		there = append(there, s.lease().Message().ID)
	}
	slices.Sort(there)
	slices.Sort(said)
	s.equal("what is there, by what Commit said", there, said)
}
