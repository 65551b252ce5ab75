package diskqueue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// later is a schedule with entries due in an hour, and takers that wait for
// them; the timer is late: whoever looks at the clock comes first.
func later(entries, takers int) (s *schedule, taken chan *entry) {
	s, taken = newSchedule(), make(chan *entry, entries)
	due := time.Now().Add(time.Hour)
	for i := range entries {
		e := newEntry(queue.ID(rune('A'+i)), due)
		e.state, e.at = waiting, due.UnixMilli()
		s.admit(e)
	}
	for range takers {
		go func() {
			if e, err := s.take(context.Background()); err == nil {
				taken <- e
			}
		}()
	}
	synctest.Wait()
	s.timer.Stop()
	time.Sleep(time.Hour + time.Millisecond)
	return s, taken
}

// TestALookAtTheClockStrandsNoTaker: what makes a due message ready, and with it
// stops the timer that would have called for it, must call for it itself. With
// every worker waiting the message lay there until the next commit.
func TestALookAtTheClockStrandsNoTaker(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]func(*schedule){
		"Depth":     func(s *schedule) { s.now() },
		"Get":       func(s *schedule) { s.find("A") },
		"List":      func(s *schedule) { s.snapshot(queue.Filter{}) },
		"a commit":  func(s *schedule) { s.admit(newEntry("Z", time.Now())) },
		"a removal": func(s *schedule) { s.forget(s.get("B")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s, taken := later(2, 1)
			look(s)
			synctest.Wait()
			select {
			case <-taken:
			default:
				t.Errorf("%s: a due message, and a taker that waits for it", name)
			}
			s.shut()
		})
	}
}

// TestATakerLeavesNoneStrandedThatWaited: another Lease that comes when two are due
// takes one and calls for the other.
func TestATakerLeavesNoneStrandedThatWaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, taken := later(2, 1)
		if _, err := s.take(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(taken) != 1 {
			t.Error("the other is due, and nobody called for it")
		}
		s.shut()
	})
}

// TestATakerThatGivesUpPassesItsCallOn: a call that came as its context ended.
func TestATakerThatGivesUpPassesItsCallOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule()
		ctx, cancel := context.WithCancel(context.Background())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := s.take(ctx); first <- err }()
		synctest.Wait()
		go func() { _, err := s.take(context.Background()); second <- err }()
		synctest.Wait()
		s.mu.Lock() // so that the call and the end of ctx come at once
		s.add(newEntry("A", time.Now()))
		s.settle()
		cancel()
		s.mu.Unlock()
		synctest.Wait()
		if len(first)+len(second) == 0 || s.now().Ready != 0 {
			t.Errorf("the message lies there: %+v", s.now())
		}
		s.shut()
	})
}

// Q16.
func TestNothingIsHandedOutWhilePausedOrSick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, taken := later(1, 1)
		s.setPaused(true)
		s.now()
		synctest.Wait()
		s.setSick(queue.ErrSick)
		s.setPaused(false)
		synctest.Wait()
		if len(taken) != 0 {
			t.Error("handed out")
		}
		s.setSick(nil)
		synctest.Wait()
		if len(taken) != 1 {
			t.Error("not handed out when well")
		}
		s.shut()
	})
}
