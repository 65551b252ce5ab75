package diskqueue

import "sync"

// group lets many callers share one sync of a directory: whoever comes first
// leads, waits for the sync under way to end, and then syncs for all who have
// joined by then. What a caller did before it called is so covered by a sync
// that began after.
type group struct {
	sync func() error

	lead sync.Mutex // held while syncing

	mu   sync.Mutex
	next *batch // not begun; nil when nobody waits
}

type batch struct {
	done chan struct{}
	err  error
}

// do returns when a sync that began after the call has ended, with its result.
// A sync that failed has failed for all its callers and is not repeated.
func (g *group) do() error {
	g.mu.Lock()
	if b := g.next; b != nil {
		g.mu.Unlock()
		<-b.done
		return b.err
	}
	b := &batch{done: make(chan struct{})}
	g.next = b
	g.mu.Unlock()

	g.lead.Lock()
	g.mu.Lock()
	g.next = nil // from here on it is too late to join
	g.mu.Unlock()
	b.err = g.sync()
	g.lead.Unlock()
	close(b.done)
	return b.err
}
