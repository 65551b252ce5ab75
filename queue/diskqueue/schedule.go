package diskqueue

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// schedule hands out what is due, to one taker each, and lets takers wait. It
// is the index under a mutex, with the takers that wait and one timer, set for
// the next entry due: nothing polls.
type schedule struct {
	mu sync.Mutex
	index
	// idle is signalled when an entry is busy no more.
	idle *sync.Cond

	takers list.List // of chan struct{}; the longest waiting first
	timer  *time.Timer
	set    int64 // what the timer is set for; 0 when it is not
	closed bool
	paused bool
	sick   error // why nothing is handed out; nil when well
}

func newSchedule() *schedule {
	s := &schedule{index: newIndex()}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// take waits for the oldest entry that is due and marks it leased.
func (s *schedule) take(ctx context.Context) (*entry, error) {
	for {
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			s.settle() // it may have been called just now: another must be
			s.mu.Unlock()
			return nil, err
		}
		if s.closed {
			s.mu.Unlock()
			return nil, queue.ErrClosed
		}
		if e := s.next(); e != nil {
			s.change(e, func() { e.state = leased })
			s.settle() // next may have made more ready than this one
			s.mu.Unlock()
			return e, nil
		}
		woken := make(chan struct{})
		place := s.takers.PushBack(woken)
		s.mu.Unlock()

		select {
		case <-woken:
		case <-ctx.Done():
			s.leave(place, woken)
			return nil, ctx.Err()
		}
	}
}

// next is the entry to hand out now; nil when there is none or none may be.
func (s *schedule) next() *entry {
	s.promoteDue()
	if s.paused || s.sick != nil {
		return nil
	}
	return s.ready.first()
}

// leave ends a taker's wait; a call that it got and does not answer goes to the
// one behind it.
func (s *schedule) leave(place *list.Element, woken chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-woken:
		s.wake(1)
	default:
		s.takers.Remove(place)
	}
}

// wake calls n takers.
func (s *schedule) wake(n int) {
	for ; n > 0; n-- {
		first := s.takers.Front()
		if first == nil {
			return
		}
		close(s.takers.Remove(first).(chan struct{}))
	}
}

// settle is called after any change, and after any look at the clock: it makes
// ready what is due, sets the timer for what is next, and calls as many takers
// as there is work for. Whoever makes an entry ready calls takers for it: the
// timer no longer does.
func (s *schedule) settle() {
	s.promoteDue()
	if s.closed || s.paused || s.sick != nil {
		return
	}
	s.wake(min(s.ready.n, s.takers.Len()))
}

func (s *schedule) promoteDue() {
	now := time.Now()
	s.promote(now.UnixMilli())
	first := s.waiting.first()
	switch {
	case s.closed || first == nil:
		if s.set != 0 {
			s.timer.Stop()
			s.set = 0
		}
	case s.set != first.at:
		s.set = first.at
		d := time.UnixMilli(first.at).Sub(now)
		if s.timer == nil {
			s.timer = time.AfterFunc(d, s.ring)
		} else {
			s.timer.Reset(d)
		}
	}
}

// ring is the timer's.
func (s *schedule) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = 0
	s.settle()
}

// admit adds a new entry.
func (s *schedule) admit(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(e)
	s.settle()
}

// put alters an entry by f and offers it as it then stands.
func (s *schedule) put(e *entry, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(e, f)
	s.idle.Broadcast()
	s.settle()
}

// forget drops an entry.
func (s *schedule) forget(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(e)
	s.idle.Broadcast()
	s.settle()
}

// hold finds an entry and makes it the caller's to change, waiting for another
// who does; put with busy false, or forget, ends that. It returns
// queue.ErrNotFound, queue.ErrLeased or queue.ErrClosed.
func (s *schedule) hold(id queue.ID) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		e := s.get(id)
		switch {
		case s.closed:
			return nil, queue.ErrClosed
		case e == nil:
			return nil, queue.ErrNotFound
		case e.state == leased:
			return nil, queue.ErrLeased
		case !e.busy:
			s.change(e, func() { e.busy = true })
			return e, nil
		}
		s.idle.Wait()
	}
}

// find is a copy of an entry as it stands.
func (s *schedule) find(id queue.ID) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	e := s.get(id)
	if e == nil {
		return entry{}, false
	}
	return e.copy(), true
}

// at is the ID of the message that lies at a spot of the journal.
func (s *schedule) at(sp *spot) (queue.ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.byID.all() {
		if e.spot == sp {
			return e.id, true
		}
	}
	return "", false
}

// setPaused and setSick stop and start the handing out.
func (s *schedule) setPaused(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = on
	s.settle()
}

func (s *schedule) setSick(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick = err
	s.settle()
}

// shut ends every wait.
func (s *schedule) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.promoteDue()
	s.wake(s.takers.Len())
	s.idle.Broadcast()
}

// now is the depth, with what is due counted as ready.
func (s *schedule) now() queue.Depth {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.depth()
}

// held is the entries that count towards the depth.
func (s *schedule) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live()
}

// isPaused reports whether takers are held off by an operator.
func (s *schedule) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}
