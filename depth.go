package incoming

import (
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// gaugesEvery is how often it is told how much there is of what comes and goes.
const gaugesEvery = 5 * time.Second

// tellGauges tells the queue's depth and the connections until the drain.
func (s *Server) tellGauges() {
	tick := time.NewTicker(gaugesEvery)
	defer tick.Stop()
	for {
		if s.hooks.QueueDepth != nil {
			s.hooks.QueueDepth(s.depth())
		}
		if s.hooks.SessionCrowd != nil {
			s.hooks.SessionCrowd(s.crowd())
		}
		s.tellSpace()
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

// tellSpace says nothing when the storage cannot tell: that it fails is told
// where mail comes in.
func (s *Server) tellSpace() {
	spacer, ok := s.cfg.Queue.(queue.Spacer)
	if !ok || s.hooks.SpoolSpace == nil {
		return
	}
	if left, err := spacer.Space(); err == nil {
		s.hooks.SpoolSpace(telemetry.SpoolSpace{Bytes: left.Bytes, Inodes: left.Inodes})
	}
}
