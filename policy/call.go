package policy

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// maxGivenUp bounds how many calls of one chain may be at work after they were
// given up. A policy that hangs for ever then costs no more than that many
// goroutines: at the bound policies that may wait are not asked, and mail is
// answered 451 until some return.
const maxGivenUp = 100

// The states of one call. Whoever leaves running first has the say.
const (
	running int32 = iota
	returned
	givenUp
)

// call runs f in a goroutine of its own and waits for its answer, but not past
// the end of ctx. inTime says whether f has returned: if not, t and what f
// holds are still in use.
func (c *Chain) call(ctx context.Context, l *link, stage Stage, t *Transaction, f func() error) (_ answer, inTime bool) {
	if !c.calls.begin() {
		return broken(nil, fmt.Sprintf("was not asked: %d calls that were given up are still at work", maxGivenUp)), true
	}
	start := time.Now()
	var state atomic.Int32
	done := make(chan answer, 1)
	go func() {
		// What remains when the policy ends its goroutine.
		a := broken(nil, "ended its goroutine without an answer")
		defer func() {
			late := !state.CompareAndSwap(running, returned)
			a.took = time.Since(start)
			done <- a
			if late {
				c.reportLate(l, stage, t, a)
			}
			c.calls.end(late)
		}()
		a = c.guard(l, t, stage, f)
	}()
	select {
	case a := <-done:
		// An answer past the deadline does not count: it may be a pass that
		// the deadline itself brought about.
		if ctx.Err() == nil {
			return a, true
		}
		if a.panicked {
			return a, true
		}
		return outOfTime(ctx, start), true
	case <-ctx.Done():
		if c.calls.giveUp(&state) {
			return outOfTime(ctx, start), false
		}
		if a := <-done; a.panicked {
			return a, true
		}
		return outOfTime(ctx, start), true
	}
}

func outOfTime(ctx context.Context, start time.Time) answer {
	return broken(nil, fmt.Sprintf("no answer in %v: %v", time.Since(start).Round(time.Millisecond), context.Cause(ctx)))
}

// guard calls f and reads its answer; a panic of either is recovered.
func (c *Chain) guard(l *link, t *Transaction, stage Stage, f func() error) (a answer) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		a = broken(nil, fmt.Sprintf("panic: %v", v))
		a.panicked = true
		if c.opts.OnPanic != nil {
			c.opts.OnPanic(t, l.name, v, debug.Stack())
		}
	}()
	return judge(stage, f())
}

// calls counts what is at work.
type calls struct {
	mu   sync.Mutex
	n    int           // at work
	late int           // of these, given up
	idle chan struct{} // closed when n comes to 0; nil when nobody waits
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late >= maxGivenUp {
		return false
	}
	c.n++
	return true
}

// giveUp reports whether the call was still running.
func (c *calls) giveUp(state *atomic.Int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !state.CompareAndSwap(running, givenUp) {
		return false
	}
	c.late++
	return true
}

func (c *calls) end(late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if late {
		c.late--
	}
	if c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

func (c *calls) wait(ctx context.Context) error {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
