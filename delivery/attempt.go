package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

var (
	errExited = errors.New("the adapter ended its goroutine")
	errForced = errors.New("cut off by force before it was done; the message stays in the queue")
)

// deadlineError is the cause of an attempt's context that reached its deadline.
type deadlineError time.Duration

func (d deadlineError) Error() string {
	return fmt.Sprintf("not done within the deadline of %v", time.Duration(d))
}

func (deadlineError) Unwrap() error { return context.DeadlineExceeded }

// An attempt's verdict is carried out by the adapter's own goroutine when it
// returns, or by a timer's when it does not: whoever changes state first.
const (
	running int32 = iota
	returned
	abandoned
)

// attempt is one message on its way through the adapter.
type attempt struct {
	pool     *Pool
	lease    queue.Lease
	probe    bool
	decision *decision  // of Decide; else nil
	verdict  chan error // Deliver and Decide wait for it; else nil
	handOn   func()     // gives the goroutine's place on when it is abandoned

	state  atomic.Int32
	asked  bool // the adapter is called: false when nobody is owed, or all is over
	msg    *queue.Message
	to     []queue.Recipient // owed when it began
	began  time.Time
	cancel context.CancelFunc
	timer  *time.Timer
}

// answer tells the sender who waits for it the verdict, and lets him run first: else he
// waits for all that comes after, 40 µs more than for a commit in place of 16.
func (a *attempt) answer(verdict error) {
	a.verdict <- verdict
	runtime.Gosched()
}

// wasAbandoned is false for no attempt.
func (a *attempt) wasAbandoned() bool { return a != nil && a.state.Load() == abandoned }

// run calls the adapter and lands its verdict. ctx carries values only. It does
// not return when the adapter ends the goroutine.
func (a *attempt) run(ctx context.Context) {
	p := a.pool
	a.msg = a.lease.Message()
	a.to = a.msg.Envelope.RcptTo
	a.began = time.Now()
	if len(a.to) == 0 { // settled in full before a crash
		a.state.Store(returned)
		p.land(ctx, a, nil)
		return
	}
	ctx, ok := a.start(ctx)
	if !ok {
		a.state.Store(returned)
		p.land(ctx, a, errForced)
		return
	}
	err := errExited
	defer func() {
		a.cancel()
		if a.timer != nil {
			a.timer.Stop()
		}
		if !a.state.CompareAndSwap(running, returned) {
			p.late(a, err)
			return
		}
		p.forget(a)
		p.land(ctx, a, err)
	}()
	if before := p.cfg.Before; before != nil {
		p.guard("before", a, func() { before(ctx, a.msg) })
	}
	err = p.call(ctx, a.msg)
}

// start sets the deadline, and what happens past it. It is false once the pool was
// closed by force.
func (a *attempt) start(ctx context.Context) (context.Context, bool) {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forced.Load() {
		return ctx, false
	}
	a.asked = true
	if d, whole := a.deadline(); d > 0 {
		ctx, a.cancel = context.WithTimeoutCause(ctx, d, deadlineError(whole))
		a.timer = time.AfterFunc(d+abandonAfter, a.abandon)
	} else {
		ctx, a.cancel = context.WithCancel(ctx)
	}
	p.attempts[a] = struct{}{}
	return ctx, true
}

// deadline is the adapter's time; 0 is none. A sender in mode Sync waits no longer
// than he does: whole is then his time, a part of which may have gone by.
func (a *attempt) deadline() (left, whole time.Duration) {
	d := a.pool.cfg.Deadline
	if a.decision != nil && a.decision.Mode == Sync {
		if left := max(time.Until(a.decision.until), time.Nanosecond); d <= 0 || left < d {
			return left, a.decision.Within
		}
	}
	return d, d
}

// abandon lands the message without its adapter, and gives its worker's place
// to another.
func (a *attempt) abandon() {
	if !a.state.CompareAndSwap(running, abandoned) {
		return
	}
	p := a.pool
	p.forget(a)
	p.gate.abandon()
	err := errForced
	if !p.forced.Load() {
		err = fmt.Errorf("abandoned: the adapter has not returned %v past its deadline", abandonAfter)
	}
	p.land(context.Background(), a, err)
	a.handOn()
}

// late is what an abandoned adapter has to say: nobody waits for it.
func (p *Pool) late(a *attempt, err error) {
	p.gate.returned()
	p.tell(a, "late", reasonOf(err), time.Time{}, isPanic(err))
}

func (p *Pool) forget(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.attempts, a)
}

// call is the adapter's verdict; a panic is one.
func (p *Pool) call(ctx context.Context, m *queue.Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
			p.panicked("adapter", m.ID, err.(*panicError))
		}
	}()
	return p.cfg.Adapter.Deliver(ctx, m)
}

// guard calls a func of the application that changes nothing, not even by a
// panic. A goroutine of its own lets it end that, as testing.T's FailNow does.
func (p *Pool) guard(where string, a *attempt, f func()) {
	done := make(chan error, 1)
	go func() {
		err := error(&panicError{"the goroutine was ended", nil})
		defer func() { done <- err }()
		err = recovered(func() error { f(); return nil })
	}()
	if pe, ok := (<-done).(*panicError); ok {
		p.panicked(where, a.msg.ID, pe)
	}
}

func (p *Pool) panicked(where string, id queue.ID, e *panicError) {
	telemetry.Emit(p.cfg.Hooks.Panic, telemetry.Panic{Where: where, ID: string(id), Value: e.value, Stack: e.stack})
}

func isPanic(err error) bool {
	_, ok := err.(*panicError)
	return ok
}
