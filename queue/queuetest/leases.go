package queuetest

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// leases is the contract of Queue.Lease: who gets which message, when.
var leases = []check{
	{"TheOldestComesFirst", oldestFirst},
	{"LeaseIsExclusive", leaseIsExclusive},
	{"LeaseWaitsForACommit", leaseWaits},
	{"LeaseEndsWithItsContext", leaseEndsWithContext},
	{"AGivenUpLeaseLosesNoMessage", givenUpLease},
	{"RetryIsNotOfferedBeforeItsTime", retryTime},
	{"ALookStrandsNoWaitingLease", lookStrandsNone},
	{"AnEarlierTimeOvertakesALaterOne", earlierTime},
	{"ADueRetryKeepsItsPlaceInTheOrder", retryOrder},
	{"RetryInThePastIsNow", retryPast},
	{"ReleaseOffersAtOnceAndCostsNoAttempt", releaseIsFree},
	{"RetryWithoutACauseCostsNoAttempt", retryIsFree},
	{"ReadersEndWithTheLease", readersEnd},
	{"ALeaseEndsOnce", leaseEndsOnce},
	{"ALeaseIsEndedThoughItsContextEnded", endIgnoresContext},
}

func oldestFirst(s *suite) {
	t0 := now().Add(-time.Hour)
	at := map[queue.ID]time.Time{}
	for _, minutes := range []int{5, 1, 3, 3, 0, 4, 3, 2} {
		t := t0.Add(time.Duration(minutes) * time.Minute)
		at[s.putAt(t)] = t
	}
	want := make([]queue.ID, 0, len(at))
	for id := range at {
		want = append(want, id)
	}
	slices.SortFunc(want, func(a, b queue.ID) int {
		if c := at[a].Compare(at[b]); c != 0 {
			return c
		}
		if a < b {
			return -1
		}
		return 1
	})
	var got []queue.ID
	for range want {
		got = append(got, s.lease().Message().ID)
	}
	s.equal("the order by ReceivedAt, then ID", got, want)
}

func leaseIsExclusive(s *suite) {
	s.put(plain)
	l := s.lease()
	s.nothing("the only message is leased")
	s.must("Settle", l.Settle(s.ctx, nil))
	s.nothing("Settle does not end a lease")
	s.must("Ack", l.Ack(s.ctx))
	s.nothing("the only message is acked")

	const n = 40
	for range n {
		s.put(plain)
	}
	var mu sync.Mutex
	seen := map[queue.ID]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				l, err := s.q.Lease(s.ctx)
				if err != nil {
					s.Errorf("Lease: %v", err)
					return
				}
				mu.Lock()
				seen[l.Message().ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != n {
		s.Errorf("%d messages for %d leases", len(seen), n)
	}
}

func leaseWaits(s *suite) {
	first, second := s.leaseLater(), s.leaseLater()
	ids := []queue.ID{s.put(plain), s.put(plain)}
	got := []queue.ID{(<-first).Message().ID, (<-second).Message().ID}
	slices.Sort(ids)
	slices.Sort(got)
	s.equal("what two waiting Leases got", got, ids)
}

func leaseEndsWithContext(s *suite) {
	s.nothing("an empty queue")
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.q.Lease(ctx)
	s.mustBe("Lease with a context that ended", err, context.Canceled)
	ctx, cancel = context.WithCancel(s.ctx)
	ended := make(chan error)
	go func() { _, err := s.q.Lease(ctx); ended <- err }()
	<-time.After(quiet) // until it waits
	cancel()
	s.mustBe("Lease whose context ends", <-ended, context.Canceled)
	id := s.put(plain)
	s.leaseOf(id)
}

// givenUpLease commits at the very moment that waiting Leases are given up:
// each message must go to one of them or to the next one.
func givenUpLease(s *suite) {
	for range 150 {
		const waiting = 4
		leased := make(chan queue.Lease)
		ctx, cancel := context.WithCancel(s.ctx)
		for range waiting {
			go func() {
				l, err := s.q.Lease(ctx)
				if err != nil {
					l = nil
				}
				leased <- l
			}()
		}
		<-time.After(2 * time.Millisecond) // until they wait
		d := s.begin()
		go cancel()
		_, err := d.Commit(s.ctx, queue.Final{})
		cancel()
		s.must("Commit", err)
		var got queue.Lease
		for range waiting {
			if l := <-leased; l != nil {
				got = l
			}
		}
		if got == nil {
			got = s.lease()
		}
		if got.Message().ID != d.ID() {
			s.Fatalf("leased %s, want %s", got.Message().ID, d.ID())
		}
		s.must("Ack", got.Ack(s.ctx))
	}
}

func retryTime(s *suite) {
	far := s.put(plain)
	hour := now().Add(time.Hour) // a slow disk must not make it due in between
	s.must("Retry", s.leaseOf(far).Retry(s.ctx, hour, errTest))
	s.nothing("not due yet")
	if in, ok := s.q.(queue.Inspector); ok {
		e, err := in.Get(s.ctx, far)
		s.must("Get", err)
		if e.State != queue.StateWaiting || e.Attempts != 1 || !e.NextAttempt.Equal(hour) || e.LastError != errTest.Error() {
			s.Errorf("waiting: %s, Attempts %d, NextAttempt %v (want %v), LastError %q", e.State, e.Attempts, e.NextAttempt, hour, e.LastError)
		}
	}
	id := s.put(plain)
	at := now().Add(soon)
	s.must("Retry", s.leaseOf(id).Retry(s.ctx, at, errTest))
	l := s.leaseOf(id)
	if t := time.Now(); t.Before(at) {
		s.Errorf("offered %v before its time", at.Sub(t))
	}
	if l.Message().Attempt != 2 {
		s.Errorf("Attempt %d after one Retry", l.Message().Attempt)
	}
	s.sameText("the message", s.text(l.Message()), plain)
}

// lookStrandsNone looks at the queue all the time while a message becomes due: a
// look must not take from a waiting Lease what the clock owes it.
func lookStrandsNone(s *suite) {
	id := s.put(plain)
	in, _ := s.q.(queue.Inspector)
	for range 20 {
		l := s.leaseOf(id)
		got := make(chan queue.Lease, 1)
		go func() {
			l, err := s.q.Lease(s.ctx)
			if err != nil {
				s.Errorf("Lease: %v", err)
			}
			got <- l
		}()
		s.must("Retry", l.Retry(s.ctx, now().Add(10*time.Millisecond), errTest))
		for l = nil; l == nil && s.ctx.Err() == nil; {
			s.q.Depth()
			if in != nil {
				_, err := in.Get(s.ctx, id)
				s.must("Get", err)
			}
			select {
			case l = <-got:
			default:
			}
		}
		if l == nil {
			s.Fatal("a message is due, and a Lease waits for it")
		}
		s.must("Release", l.Release(s.ctx))
	}
}

func earlierTime(s *suite) {
	late, early := s.put(plain), s.put(plain)
	ls := map[queue.ID]queue.Lease{}
	for range 2 {
		l := s.lease()
		ls[l.Message().ID] = l
	}
	s.must("Retry", ls[late].Retry(s.ctx, time.Now().Add(time.Hour), errTest))
	got := s.leaseLater()
	at := now().Add(quiet)
	s.must("Retry", ls[early].Retry(s.ctx, at, errTest))
	s.wokenFor(early, got)
	if t := time.Now(); t.Before(at) {
		s.Errorf("offered %v before its time", at.Sub(t))
	}
}

func retryOrder(s *suite) {
	t0 := now().Add(-time.Hour)
	first := s.putAt(t0)
	l := s.leaseOf(first)
	second, third := s.putAt(t0.Add(time.Minute)), s.putAt(t0.Add(2*time.Minute))
	s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	for _, id := range []queue.ID{first, second, third} {
		s.leaseOf(id)
	}
}

func retryPast(s *suite) {
	id := s.put(plain)
	for attempt, at := range []time.Time{time.Now().Add(-time.Hour), {}, time.Now()} {
		l := s.leaseOf(id)
		if l.Message().Attempt != attempt+1 {
			s.Errorf("Attempt %d, want %d", l.Message().Attempt, attempt+1)
		}
		s.must("Retry", l.Retry(s.ctx, at, errTest))
	}
	s.leaseOf(id)
}

func releaseIsFree(s *suite) {
	id := s.put(plain)
	s.must("Retry", s.leaseOf(id).Retry(s.ctx, time.Now(), errTest))
	for range 3 {
		l := s.leaseOf(id)
		if l.Message().Attempt != 2 {
			s.Errorf("Attempt %d, want 2", l.Message().Attempt)
		}
		s.must("Release", l.Release(s.ctx))
	}
	l := s.leaseOf(id)
	got := s.leaseLater()
	s.must("Release", l.Release(s.ctx))
	s.wokenFor(id, got)
}

func retryIsFree(s *suite) {
	id := s.put(plain)
	s.must("Retry", s.leaseOf(id).Retry(s.ctx, time.Now(), errTest))
	at := now().Add(time.Hour) // a slow disk must not make it due in between
	s.must("Retry", s.leaseOf(id).Retry(s.ctx, at, nil))
	s.nothing("not due yet")
	in, ok := s.q.(queue.Inspector)
	if !ok {
		return
	}
	e, err := in.Get(s.ctx, id)
	s.must("Get", err)
	if e.State != queue.StateWaiting || e.Attempts != 1 || !e.NextAttempt.Equal(at) || e.LastError != errTest.Error() {
		s.Errorf("waiting: %s, Attempts %d, NextAttempt %v (want %v), LastError %q", e.State, e.Attempts, e.NextAttempt, at, e.LastError)
	}
	s.must("Retry by an operator", in.Retry(s.ctx, id))
	if l := s.leaseOf(id); l.Message().Attempt != 2 {
		s.Errorf("Attempt %d, want 2", l.Message().Attempt)
	}
}

// ends is every way to end a lease.
var ends = map[string]func(context.Context, queue.Lease) error{
	"Ack": func(ctx context.Context, l queue.Lease) error { return l.Ack(ctx) },
	"Retry": func(ctx context.Context, l queue.Lease) error {
		return l.Retry(ctx, time.Now().Add(time.Hour), errTest)
	},
	"Bury":    func(ctx context.Context, l queue.Lease) error { return l.Bury(ctx, errTest) },
	"Release": func(ctx context.Context, l queue.Lease) error { return l.Release(ctx) },
}

func readersEnd(s *suite) {
	for name, end := range ends {
		d := s.begin()
		s.write(d, plain)
		l, err := d.CommitLeased(s.ctx, queue.Final{Prepend: []byte("R: 0\r\n")})
		s.must("CommitLeased", err)
		m := l.Message()
		r, err := m.Open()
		s.must("Open", err)
		if _, err := io.ReadFull(r, make([]byte, 3)); err != nil {
			s.Fatal(err)
		}
		s.must(name, end(s.ctx, l))
		if n, err := r.Read(make([]byte, 8)); n != 0 || err == nil {
			s.Errorf("after %s a reader gave %d octets, %v", name, n, err)
		} else {
			s.mustBe("read after "+name, err, queue.ErrLeaseEnded)
		}
		s.must("close of a reader", r.Close())
		_, err = m.Open()
		s.mustBe("Open after "+name, err, queue.ErrLeaseEnded)
		_, err = m.Header()
		s.mustBe("Header after "+name, err, queue.ErrLeaseEnded)
	}
}

func leaseEndsOnce(s *suite) {
	for name, end := range ends {
		l, err := s.begin().CommitLeased(s.ctx, queue.Final{})
		s.must("CommitLeased", err)
		m := l.Message()
		s.must(name, end(s.ctx, l))
		before := s.q.Depth()
		for second, again := range ends {
			s.mustBe(second+" after "+name, again(s.ctx, l), queue.ErrLeaseEnded)
		}
		err = l.Settle(s.ctx, []queue.Outcome{{Recipient: "to@y.example"}})
		s.mustBe("Settle after "+name, err, queue.ErrLeaseEnded)
		if l.Message() != m {
			s.Errorf("after %s Message is another", name)
		}
		s.equal("Depth after a second end of "+name, s.q.Depth(), before)
		// What was released would be leased in place of the next one's.
		if name == "Release" {
			s.must("Ack", s.lease().Ack(s.ctx))
		}
	}
}

func endIgnoresContext(s *suite) {
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	want := map[string]queue.Depth{
		"Ack": {}, "Retry": {Waiting: 1}, "Bury": {Waiting: 1, Dead: 1}, "Release": {Waiting: 1, Dead: 1, Ready: 1},
	}
	for _, name := range []string{"Ack", "Retry", "Bury", "Release"} {
		l, err := s.begin().CommitLeased(s.ctx, queue.Final{})
		s.must("CommitLeased", err)
		s.must("Settle with a context that ended", l.Settle(over, nil))
		s.must(name+" with a context that ended", ends[name](over, l))
		s.depth("after "+name, want[name])
	}
}
