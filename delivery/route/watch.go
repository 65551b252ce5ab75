package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/delivery"
)

// The pool's own hold is like this one (see delivery.Pool).
const (
	// holdAfter is how many failed calls in a row hold a destination.
	holdAfter = 16
	// probeEvery is how far apart the calls of a held one begin.
	probeEvery = 10 * time.Second
	// longestPause is the most that a message waits for a hold to end. What
	// waits for long is looked at less often, so that a large backlog costs
	// little.
	longestPause = 5 * time.Minute
	// roomAgain is how long a message waits for a place at a destination.
	roomAgain = time.Second
)

// watched is a destination and how it stands.
type watched struct {
	Destination

	mu        sync.Mutex
	busy      int // calls in hand, those that were given up included
	failures  int // in a row
	heldSince time.Time
	nextProbe time.Time
	probing   bool
	why       error // of the last failure
}

// enter takes a place for a call; without one the error is a verdict. probe is the
// one call that a held destination is given.
func (w *watched) enter(now time.Time) (probe bool, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failures >= holdAfter && (w.probing || now.Before(w.nextProbe)):
		return false, delivery.Postpone(w.wait(now), fmt.Errorf("%s is held after %d failures in a row, the last: %w", w.Name, w.failures, w.why))
	case w.AtOnce > 0 && w.busy >= w.AtOnce:
		return false, delivery.Postpone(roomAgain, fmt.Errorf("%s has %d deliveries in hand, as many as it may", w.Name, w.busy))
	}
	w.busy++
	if w.failures >= holdAfter {
		w.probing, w.nextProbe, probe = true, now.Add(probeEvery), true
	}
	return probe, nil
}

// leave gives the place back and counts how the call went.
func (w *watched) leave(now time.Time, probe, worked, failed bool, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	if probe {
		w.probing = false
	}
	switch {
	case worked:
		w.failures, w.why = 0, nil
	case failed:
		w.why = plain(why)
		if w.failures++; w.failures == holdAfter {
			w.heldSince, w.nextProbe = now, now.Add(probeEvery)
		}
	}
}

// plain is an error's text alone: what is kept must not be a verdict.
func plain(err error) error {
	if err == nil {
		return errors.New("no verdict")
	}
	text := fmt.Sprint(err) // which survives an Error that panics
	if len(text) > 512 {
		text = text[:512] + "…"
	}
	return errors.New(text)
}

// pause is wait for who does not hold the lock.
func (w *watched) pause(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wait(now)
}

// wait is when a message should come again to a held destination.
func (w *watched) wait(now time.Time) time.Duration {
	d := min(max(probeEvery, now.Sub(w.heldSince)/2), longestPause)
	return d + rand.N(d)
}
