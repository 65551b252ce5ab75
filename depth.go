package incoming

import (
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// depthEvery is how often the queue's depth is told.
const depthEvery = 5 * time.Second

// tellDepth tells the queue's depth until the drain.
func (s *Server) tellDepth() {
	tick := time.NewTicker(depthEvery)
	defer tick.Stop()
	for {
		s.hooks.QueueDepth(s.depth())
		select {
		case <-tick.C:
		case <-s.draining.Done():
			return
		}
	}
}

func (s *Server) depth() telemetry.QueueDepth {
	d := s.cfg.Queue.Depth()
	e := telemetry.QueueDepth{Ready: d.Ready, Waiting: d.Waiting, Leased: d.Leased, Dead: d.Dead, Drafts: d.Drafts}
	if !d.Oldest.IsZero() {
		e.OldestAge = max(0, time.Since(d.Oldest))
	}
	return e
}
