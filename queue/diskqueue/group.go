package diskqueue

import "sync"

// group lets many callers share one sync of a directory: whoever comes first
// leads, waits for the sync under way to end, and then syncs for all who have
// joined by then. What a caller did before it called is so covered by a sync
// that began after.
//
// A sync that failed may have thrown away whatever had been done by then, also
// what others had done and wait to have synced; their own sync may then report
// success for what is lost. So it fails for all of them.
type group struct {
	sync func() error

	lead sync.Mutex // held while syncing

	mu       sync.Mutex
	next     *batch // not begun; nil when nobody waits
	failures int    // syncs that have failed
	failure  error  // the last of them
}

// batch is the callers of one sync. What follows done is set when it closes.
type batch struct {
	done     chan struct{}
	err      error // of this sync
	failures int   // of the group, this sync included
	failure  error
}

// mark is to be taken before the change that do is then called for.
func (g *group) mark() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures
}

// do returns when a sync that began after the call has ended: nil when that and
// all since the mark have succeeded. None is repeated.
func (g *group) do(mark int) error {
	b, leads := g.join()
	if leads {
		g.run(b)
	}
	<-b.done
	if b.err != nil {
		return b.err
	}
	if b.failures != mark {
		return b.failure
	}
	return nil
}

// join takes part in the next sync. The first to join leads it.
func (g *group) join() (b *batch, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next != nil {
		return g.next, false
	}
	g.next = &batch{done: make(chan struct{})}
	return g.next, true
}

func (g *group) run(b *batch) {
	g.lead.Lock()
	defer g.lead.Unlock()
	g.mu.Lock()
	g.next = nil // from here on it is too late to join
	g.mu.Unlock()
	err := g.sync()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !failedToOpen(err) { // else nothing was tried, nor thrown away
		g.failures++
		g.failure = err
	}
	b.err, b.failures, b.failure = err, g.failures, g.failure
	close(b.done)
}
