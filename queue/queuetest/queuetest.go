// Package queuetest holds a queue backend against the contract in package
// queue, sentence by sentence. A backend's own test calls [Run], and a backend
// that keeps messages over a restart calls [RunDurable] too.
//
// The tests use the wall clock with short times, so that a backend may be
// behind a network; none depends on being fast. Run them with the race
// detector: several are there for its sake.
package queuetest

import (
	"context"
	"testing"

	"github.com/incoming-mx/incoming/queue"
)

// Depth is the depth that a queue under test must be opened with: the number of
// live messages at which Begin answers [queue.ErrFull].
const Depth = 100

// check is one part of the contract.
type check struct {
	name string
	run  func(s *suite)
}

// Run tests the queues that open makes. open is called once for each test, many
// at once, and returns a new, empty queue of [Depth] that takes a message of
// 20 MB; t is the test that uses it. The queue is closed for open.
func Run(t *testing.T, open func(t *testing.T) queue.Queue) {
	for _, checks := range [][]check{drafts, depths, leases, verdicts, closing, inspections, hammers} {
		for _, c := range checks {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				q := open(t)
				t.Cleanup(func() {
					if err := q.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
				c.run(newSuite(t, q))
			})
		}
	}
}

// RunDurable tests that messages outlive their queue. open opens the queue that
// is kept in the directory dir, as Run's open would; each test calls it for a
// new empty directory, and again for the same one after Close.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) queue.Queue) {
	for _, c := range durables {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := newSuite(t, open(t, dir))
			s.reopen = func() {
				s.Helper()
				s.must("Close", s.q.Close())
				s.q = open(t, dir)
			}
			t.Cleanup(func() {
				if err := s.q.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.run(s)
		})
	}
}

// newSuite gives a test what it needs; all its waiting ends after patience.
func newSuite(t *testing.T, q queue.Queue) *suite {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &suite{T: t, q: q, ctx: ctx}
}
