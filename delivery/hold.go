package delivery

import (
	"fmt"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// tally is what an attempt tells of the adapter.
type tally int

const (
	untold tally = iota // nothing: it was not asked, or was cut short
	works
	fails
)

// finish gives back the place of an attempt and counts how it went. turned is
// set when it began or ended a hold; back is the messages then to be released.
func (g *gate) finish(probe bool, t tally, why error, stored bool) (turned *turn, back []queue.Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	wake := g.busy >= g.workers || probe
	g.busy--
	if probe {
		g.probing = false
	}
	switch t {
	case works:
		turned, back = g.worked(now)
	case fails:
		turned = g.failed(now, why)
	}
	g.store(now, stored)
	if wake || turned != nil {
		g.wake()
	}
	return turned, back
}

// turn is the beginning or the end of a hold.
type turn struct {
	held     bool
	failures int
	why      error
}

func (g *gate) worked(now time.Time) (*turn, []queue.Lease) {
	failures, why := g.failures, g.why
	g.failures, g.why = 0, nil
	if !g.held {
		return nil, nil
	}
	back := g.aside
	g.held, g.aside = false, nil
	g.rampFrom, g.turns = now, 0
	return &turn{failures: failures, why: why}, back
}

func (g *gate) failed(now time.Time, why error) *turn {
	g.failures++
	g.why = why
	if g.held {
		return nil
	}
	if g.failures >= holdAfter {
		g.held = true
		g.nextProbe = now.Add(probeEvery)
		g.rampFrom = time.Time{}
		g.close()
		return &turn{held: true, failures: g.failures, why: why}
	}
	return nil
}

// store counts whether the end of a lease, or a lease, could be had from the
// queue, and pauses when it could not. Those in hand when a pause begins may fail
// as well, and count once together.
func (g *gate) store(now time.Time, ok bool) {
	switch {
	case ok:
		g.storeFailures = 0
		return
	case now.Before(g.storeUntil):
		return
	}
	pause := min(storePause<<min(g.storeFailures, 10), storePauseCap)
	g.storeFailures++
	g.storeUntil = now.Add(pause)
	g.close()
}

// storeFailed is for what fails outside an attempt.
func (g *gate) storeFailed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.store(time.Now(), false)
}

// putAside keeps a message that failed as a probe until the hold ends. What is
// returned is to be released at once: the oldest of too many, or the message
// itself when the hold has ended.
func (g *gate) putAside(l queue.Lease) queue.Lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		return l
	}
	g.aside = append(g.aside, l)
	if len(g.aside) <= maxAside {
		return nil
	}
	first := g.aside[0]
	g.aside = g.aside[1:]
	return first
}

// takeAside empties what is kept aside.
func (g *gate) takeAside() []queue.Lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	ls := g.aside
	g.aside = nil
	return ls
}

// abandon counts a call that is given up, and returned one that came back after
// all.
func (g *gate) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned++; g.abandoned >= g.workers {
		g.close()
	}
}

func (g *gate) returned() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.abandoned--
	g.wake()
}

// closed is why no attempt begins, or nil.
func (g *gate) closed() error {
	if g.abandoned >= g.workers {
		return fmt.Errorf("%w: %d calls do not return", ErrHeld, g.abandoned)
	}
	if g.held {
		return fmt.Errorf("%w after %d failures in a row, the last: %w", ErrHeld, g.failures, g.why)
	}
	return nil
}
