package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sharedTime is what a shared counter has for one answer. A MAIL waits for
	// it at most.
	sharedTime = time.Second
	// sharedRest is how long one that failed is not asked again: then by one,
	// while the others go on without it.
	sharedRest = 5 * time.Second
)

// sharedRates asks a counter that others share, and knows when not to.
type sharedRates struct {
	counter RateCounter
	tell    func(error) // nil: the log

	mu    sync.Mutex
	down  bool
	again time.Time // when down: not before
	late  int       // calls that were given up and are still at work
}

// take is the counter's, and false when that cannot be asked.
func (s *sharedRates) take(ctx context.Context, window time.Duration, uses []RateUse) (over int, ok bool) {
	if !s.mayAsk() {
		return 0, false
	}
	within, cancel := context.WithTimeout(ctx, sharedTime)
	defer cancel()
	over, err := s.ask(within, window, uses)
	if err == nil && (over < -1 || over >= len(uses)) {
		err = fmt.Errorf("policy: Take returned %d of %d uses", over, len(uses))
	}
	if err != nil && ctx.Err() != nil {
		return 0, false // the client left, or the policy's time was over: not the counter's fault
	}
	s.note(err)
	return over, err == nil
}

// ask gives up a counter that ignores its ctx: what it says later is dropped.
func (s *sharedRates) ask(ctx context.Context, window time.Duration, uses []RateUse) (int, error) {
	type answer struct {
		over int
		err  error
	}
	done := make(chan answer, 1)
	uses = slices.Clone(uses) // the caller's may be used anew while this goes on
	var state atomic.Int32
	go func() {
		a := answer{err: errors.New("policy: Take ended its goroutine")}
		defer func() {
			if v := recover(); v != nil {
				a.err = fmt.Errorf("policy: panic in Take: %v", v)
			}
			if !state.CompareAndSwap(running, returned) {
				s.isLate(-1)
			}
			done <- a
		}()
		a.over, a.err = s.counter.Take(ctx, window, uses)
	}()
	select {
	case a := <-done:
		return a.over, a.err
	case <-ctx.Done():
		s.isLate(1)
		if !state.CompareAndSwap(running, givenUp) {
			s.isLate(-1)
		}
		return 0, ctx.Err()
	}
}

func (s *sharedRates) isLate(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late += n
}

// mayAsk reports whether the counter is to be asked. Once it failed one session
// is told so by and by, and none as long as it has not come back from what it was
// asked before: a counter that hangs must not collect goroutines.
func (s *sharedRates) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.down {
		return true
	}
	now := time.Now()
	if now.Before(s.again) || s.late > 0 {
		return false
	}
	s.again = now.Add(sharedRest)
	return true
}

// note remembers how it went, and tells when that has changed.
func (s *sharedRates) note(err error) {
	s.mu.Lock()
	changed := s.down != (err != nil)
	s.down = err != nil
	if s.down {
		s.again = time.Now().Add(sharedRest)
	}
	s.mu.Unlock()
	switch {
	case !changed:
	case s.tell != nil:
		s.tell(err)
	case err != nil:
		slog.Warn("rate limit: the shared counter fails; each process counts by itself", "error", err)
	default:
		slog.Info("rate limit: the shared counter is asked again")
	}
}
