package diskqueue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// fewInodes is the floor for files that can still be made.
const fewInodes = 1000

// space keeps a floor of free room under the spool. The system is asked at most
// once a second: what is being received is counted in between.
type space struct {
	fs    vfs.FS
	dir   string
	floor int64 // octets

	drafts atomic.Int64 // octets in drafts

	mu    sync.Mutex
	asked time.Time
	last  vfs.Space
	err   error
}

// check is nil when a message of size octets (0: unknown) fits above the floor.
func (s *space) check(size int64) error {
	free, err := s.free()
	if err != nil {
		return err
	}
	if free.HasInodes && free.Inodes < fewInodes {
		return fmt.Errorf("%w: %d inodes left, %d are kept", queue.ErrNoSpace, free.Inodes, fewInodes)
	}
	if s.floor == 0 {
		return nil
	}
	need := uint64(s.floor) + uint64(max(size, 0)) + uint64(s.drafts.Load())
	if free.Bytes < need {
		return fmt.Errorf("%w: %d octets left, %d are kept for what is being received",
			queue.ErrNoSpace, free.Bytes, need)
	}
	return nil
}

func (s *space) free() (vfs.Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.asked.IsZero() || now.Sub(s.asked) >= time.Second {
		s.last, s.err = s.fs.Space(s.dir)
		s.asked = now
	}
	return s.last, s.err
}

// whatIsFull is a hint for the one who reads of ENOSPC while there are octets
// free.
func (q *Queue) whatIsFull() string {
	free, err := q.space.free()
	if err == nil && free.HasInodes && free.Inodes == 0 {
		return " (no inodes left)"
	}
	return ""
}
