package delivery

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

const (
	// holdAfter is how many failed attempts in a row hold an adapter.
	holdAfter = 16
	// probeEvery is how far apart the attempts of a held adapter begin.
	probeEvery = 10 * time.Second
	// rampRate is how many attempts a second may begin right after a hold;
	// the rate doubles each second, and there is none after rampTime.
	rampRate = 10
	rampTime = 10 * time.Second
	// maxAside is how many messages that failed as probes are kept aside in
	// a hold, so that each probe is of another message.
	maxAside = 1024
	// storePause is how long nothing begins after the end of a lease could
	// not be written; it doubles up to storePauseCap while that goes on.
	storePause    = time.Second
	storePauseCap = 30 * time.Second
)

// ErrHeld is what Pool.Deliver answers when the pool begins no attempts: its
// adapter has failed too often in a row, or does not come back from as many
// calls as there are workers.
var ErrHeld = errors.New("delivery: the adapter is held")

// gate says when an attempt may begin. It holds the adapter after failures in a
// row, lets the backlog out at a rising rate afterwards, and keeps workers from
// calling an adapter that never comes back.
type gate struct {
	workers int

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew when a waiter should look again
	waiting   int           // on changed
	leasing   map[int]context.CancelFunc
	busy      int // attempts in hand
	abandoned int // calls that were given up and have not returned

	failures  int // in a row
	why       error
	held      bool
	probing   bool
	nextProbe time.Time
	aside     []queue.Lease // failed as probes; released when the hold ends

	rampFrom time.Time // zero: no ramp
	turns    int       // taken on the ramp

	storeFailures int // in a row
	storeUntil    time.Time
}

func newGate(workers int) *gate {
	return &gate{workers: workers, changed: make(chan struct{}), leasing: make(map[int]context.CancelFunc)}
}

// forever is a wait that only a change ends.
const forever = time.Duration(-1)

// pass waits until a message may be leased. probe tells that it is for the one
// attempt that a held adapter is given.
func (g *gate) pass(ctx context.Context) (probe bool, err error) {
	var turn time.Time
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		g.mu.Lock()
		wait, probe := g.look(time.Now(), &turn)
		if wait == 0 {
			g.mu.Unlock()
			return probe, nil
		}
		if err := g.wait(ctx, wait); err != nil { // unlocks
			return false, err
		}
	}
}

// look tells how long to wait before the next lease; 0 grants it. turn is the
// caller's on the ramp.
func (g *gate) look(now time.Time, turn *time.Time) (wait time.Duration, probe bool) {
	if g.held {
		*turn = time.Time{} // of an earlier ramp
	}
	switch {
	case g.abandoned >= g.workers:
		return forever, false
	case now.Before(g.storeUntil):
		return g.storeUntil.Sub(now), false
	case g.held && g.probing:
		return forever, false
	case g.held && now.Before(g.nextProbe):
		return g.nextProbe.Sub(now), false
	case g.held:
		g.probing = true
		return 0, true
	}
	return g.pace(now, turn), false
}

// pace tells how long the ramp asks to wait. The first call takes a turn, which
// is the caller's own, so that one waiter wakes for each turn.
func (g *gate) pace(now time.Time, turn *time.Time) time.Duration {
	if g.rampFrom.IsZero() || now.Sub(g.rampFrom) >= rampTime {
		g.rampFrom = time.Time{}
		return 0
	}
	if turn.IsZero() {
		*turn = g.rampFrom.Add(rampTurn(g.turns))
		g.turns++
	}
	return max(turn.Sub(now), 0)
}

// rampTurn is when turn n comes. The rate is rampRate·2^t, so that by t
// rampRate/ln 2·(2^t-1) turns have come, however early they were taken.
func rampTurn(n int) time.Duration {
	t := math.Log2(1 + float64(n)*math.Ln2/rampRate)
	return min(time.Duration(t*float64(time.Second)), rampTime)
}

// wait is called with the lock held and returns without it.
func (g *gate) wait(ctx context.Context, d time.Duration) error {
	changed := g.changed
	g.waiting++
	g.mu.Unlock()
	var due <-chan time.Time
	if d != forever {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-due:
	case <-changed:
		return ctx.Err() // whoever closed changed has counted us out
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if changed == g.changed {
		g.waiting--
	}
	return ctx.Err()
}

// wake lets all who wait look again.
func (g *gate) wake() {
	if g.waiting == 0 {
		return
	}
	g.waiting = 0
	close(g.changed)
	g.changed = make(chan struct{})
}

// begin takes a place for an attempt of a message leased by a worker. It is
// false when the gate was closed since pass, or ctx has ended.
func (g *gate) begin(ctx context.Context, probe bool) bool {
	for {
		g.mu.Lock()
		closed := g.abandoned >= g.workers || time.Now().Before(g.storeUntil) || g.held && !probe
		if closed || ctx.Err() != nil {
			g.unprobe(probe)
			g.mu.Unlock()
			return false
		}
		if g.busy < g.workers {
			g.busy++
			if probe {
				g.nextProbe = time.Now().Add(probeEvery)
			}
			g.mu.Unlock()
			return true
		}
		// Pool.Deliver has the places: the message waits in hand.
		if g.wait(ctx, forever) != nil {
			g.giveUp(probe)
			return false
		}
	}
}

// admit takes a place for an attempt outside the workers. It does not wait for
// a hold to end. One that may probe is let through a hold once each probeEvery: a
// message that is gone when its verdict was no leaves the workers none to probe
// with.
func (g *gate) admit(ctx context.Context, mayProbe bool) error {
	var turn time.Time
	for {
		g.mu.Lock()
		now := time.Now()
		if g.abandoned >= g.workers || g.held && (!mayProbe || now.Before(g.nextProbe)) {
			err := g.closed()
			g.mu.Unlock()
			return err
		}
		wait := forever
		switch {
		case now.Before(g.storeUntil):
			wait = g.storeUntil.Sub(now)
		case g.busy < g.workers:
			wait = g.pace(now, &turn)
		}
		if wait == 0 {
			g.busy++
			if g.held {
				g.nextProbe = now.Add(probeEvery)
			}
			g.mu.Unlock()
			return nil
		}
		if err := g.wait(ctx, wait); err != nil { // unlocks
			return err
		}
	}
}

// leased keeps the way to end a worker's wait for a message, used when the gate
// closes. left forgets it.
func (g *gate) leased(worker int, cancel context.CancelFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leasing[worker] = cancel
}

func (g *gate) left(worker int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.leasing, worker)
}

// close ends the workers' waiting for messages, so that they come back and wait
// here.
func (g *gate) close() {
	for _, cancel := range g.leasing {
		cancel()
	}
}

// giveUp is for a probe for which there was no message.
func (g *gate) giveUp(probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unprobe(probe)
}

func (g *gate) unprobe(probe bool) {
	if probe {
		g.probing = false
		g.wake()
	}
}
