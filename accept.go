package incoming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// acceptor takes connections from one listener until it is closed. Errors do
// not end it: it waits, longer each time, and goes on. That they began is told
// once, and that they are over when none has come for a while.
type acceptor struct {
	s      *Server
	ep     *endpoint
	failed int       // in a row
	last   time.Time // when it failed last; zero: no trouble
}

// acceptCalm is how long nothing must have failed for the trouble to be over.
// Between full and not quite full it would begin and end with each session.
const acceptCalm = 2 * time.Second

// accept is the goroutine of one listener. ctx is the sessions': it ends when the
// drain begins.
func (s *Server) accept(ctx context.Context, ep *endpoint) {
	a := &acceptor{s: s, ep: ep}
	for {
		nc, err := ep.net.Accept()
		switch {
		case err == nil:
			a.failed = 0
			a.perhapsOver()
			s.admit(ctx, ep, nc)
		case s.draining.Err() != nil || s.isStopped():
			return
		case errors.Is(err, net.ErrClosed):
			s.breakOff(fmt.Errorf("incoming: listener %q was closed: %w", ep.name, err))
			return
		case errors.Is(err, syscall.ECONNABORTED):
			// The peer gave up while it waited: no fault of ours.
		case errors.Is(err, os.ErrDeadlineExceeded) && !a.last.IsZero():
			a.perhapsOver()
		case !a.fail(err):
			return
		}
	}
}

// fail deals with a failure, and reports false when the server drains
// meanwhile.
func (a *acceptor) fail(err error) bool {
	if a.last.IsZero() {
		telemetry.Emit(a.s.hooks.Trouble, telemetry.Trouble{Kind: "accept", Listener: a.ep.name, Err: err,
			Text: "connections cannot be accepted for now"})
	}
	a.failed++
	outOfFiles := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	turnedAway := outOfFiles && a.s.reserve.spend(a.turnOneAway)
	a.last = time.Now()
	a.wakeAt(a.last.Add(acceptCalm))
	if turnedAway {
		a.failed = 0
		return true
	}
	return a.s.pause(acceptBackoff(a.failed))
}

// reserveTime is how long a connection is waited for with the reserve given up:
// the kernel says that there are no descriptors before it looks whether there is
// a connection.
const reserveTime = 10 * time.Millisecond

// turnOneAway accepts a connection while there is a descriptor for it, says so,
// and closes it: better than to let it wait for nothing.
func (a *acceptor) turnOneAway() bool {
	if !a.wakeAt(time.Now().Add(reserveTime)) {
		return false
	}
	nc, err := a.ep.net.Accept()
	if err != nil {
		return false // there was none, or somebody else took the descriptor
	}
	a.s.turnAway(a.ep, nc, peerOf(nc), overLimit{})
	return true
}

// perhapsOver tells the end of a trouble when it has ended.
func (a *acceptor) perhapsOver() {
	if a.last.IsZero() || time.Since(a.last) < acceptCalm {
		return
	}
	a.last = time.Time{}
	a.wakeAt(time.Time{})
	telemetry.Emit(a.s.hooks.Trouble, telemetry.Trouble{Kind: "accept", Listener: a.ep.name, Over: true,
		Text: "connections are accepted again"})
}

// wakeAt makes Accept give up at t; the zero Time: never. It reports whether it
// will: a listener of the application's may not know how to.
func (a *acceptor) wakeAt(t time.Time) bool {
	l, ok := a.ep.net.(interface{ SetDeadline(time.Time) error })
	return ok && l.SetDeadline(t) == nil
}

// acceptBackoff is how long to wait after a failure: 5 ms, doubling to 1 s.
func acceptBackoff(failed int) time.Duration {
	return min(5*time.Millisecond<<min(failed-1, 10), time.Second)
}

// pause waits, and reports false when the server drains meanwhile.
func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !s.isStopped()
	case <-s.draining.Done():
		return false
	}
}

// hurryEvery is how soon those who only hold connections lose them once
// connections run out.
const hurryEvery = time.Second

// hurry sees to it, until the drain, that the shorter deadlines of a busy server
// hold for those too who wait already. What it costs does not depend on how much
// mail comes.
func (s *Server) hurry() {
	for s.pause(hurryEvery) {
		if s.admission.busy() {
			s.sessions.hurry()
		}
	}
}

func (s *Server) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// reserve is a file descriptor for the moment when the process has no other.
type reserve struct {
	mu   sync.Mutex
	file *os.File // nil: there is none
}

// fill takes a descriptor. Without one connections wait in the kernel until
// there are others: that is all it costs when there is none.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take()
}

func (r *reserve) take() {
	if r.file == nil {
		r.file, _ = os.Open(os.DevNull)
	}
}

func (r *reserve) drop() {
	if r.file != nil {
		_ = r.file.Close() // nothing was written: it is free whatever this says
		r.file = nil
	}
}

// spend gives the descriptor up while use is at work, and is what that says;
// false when there is none.
func (r *reserve) spend(use func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take() // somebody else may have had it
	if r.file == nil {
		return false
	}
	r.drop()
	defer r.take()
	return use()
}

// empty gives it up for good.
func (r *reserve) empty() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
}
