package diskqueue

import (
	"slices"
	"sync"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// mostOpen is how many of the journal's files are open at once, but for what is
// in use at that very moment: a journal may have thousands.
const mostOpen = 64

// openFiles is the files of segments that are open. The one opened longest ago
// is closed when there are too many.
type openFiles struct {
	fs vfs.FS
	// readOnly: nothing will be written.
	readOnly bool

	mu     sync.Mutex
	opened []*segment // the first one first
	pinned *segment   // is written to, and stays open so that every sync of it is told of every failure
}

// open opens a segment's file, unless it is open.
func (o *openFiles) open(s *segment) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if s.file != nil {
		return nil
	}
	open := o.fs.Reopen
	if o.readOnly {
		open = o.fs.Open
	}
	f, err := open(s.path)
	if err != nil {
		return err
	}
	s.file = f
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = append(o.opened, s)
	o.closeSome(s)
	return nil
}

// closeSome is called with mu held.
func (o *openFiles) closeSome(but *segment) {
	for range len(o.opened) {
		if len(o.opened) <= mostOpen {
			return
		}
		s := o.opened[0]
		o.opened = append(o.opened[1:], s)
		if s == but || s == o.pinned || !s.fileMu.TryLock() {
			continue // in use
		}
		_ = s.file.Close() // all that was written there was synced, or given up
		s.file = nil
		s.fileMu.Unlock()
		o.opened = o.opened[:len(o.opened)-1]
	}
}

// pin keeps the file of a segment open until another is pinned; nil is none.
func (o *openFiles) pin(s *segment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pinned = s
}

// close closes a segment's file, if it is open.
func (o *openFiles) close(s *segment) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if s.file == nil {
		return nil
	}
	o.mu.Lock()
	o.opened = slices.DeleteFunc(o.opened, func(other *segment) bool { return other == s })
	o.mu.Unlock()
	err := s.file.Close()
	s.file = nil
	return err
}
