package diskqueue

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// segment is a file of the journal, of fixed size, written before it is used so
// that a sync of it need not touch metadata. It lives many lives, one after the
// other; between them it is free.
type segment struct {
	files *openFiles
	path  string
	size  int64

	// mu is held for reading by who reads a record of this life, for writing
	// by who ends it.
	mu sync.RWMutex

	fileMu sync.RWMutex // held for reading by who uses the file
	file   vfs.File     // nil: closed

	// What follows is the journal's goroutine's, and of loading before it runs.
	seq, salt uint64
	off       int64 // where the next record goes
	synced    int64 // up to where it is known to be on the disk
	footer    int64 // octets that the footer will take
	records   []footed
	// ended is the messages that began and ended in this life: the footer
	// leaves them out. copied is the records that are copies, which must not
	// be left out with them: an older copy may lie elsewhere.
	ended  []queue.ID
	copied map[uint32]bool

	// spots is what was written here and may still count.
	spots []*spot
	// alive is the octets of it that count: messages, and the last update of
	// each. owes is the octets of records that say of a message that it is no
	// more, while the life that it lay in goes on: without them it would be
	// found again. owed is their sum.
	alive int64
	owes  map[*segment]int64
	owed  int64
	eased time.Time // when less of that counted than before, last
	// halfMoved: some of what is here was moved elsewhere, and is here still.
	// What says that it is no more names the other place, so that no other
	// life may end before this one.
	halfMoved bool
	// uncertain: a sync failed that should have covered the last records. What
	// they overruled elsewhere must stay until they are written again.
	uncertain bool
	// unsaved: it holds what should have become a dead letter and could not yet, or
	// what the disk did not give back. It stays as it is until the next open.
	unsaved bool
	// stuck: it cannot be emptied, for a record that counts cannot be read.
	stuck bool
	// failures is how often in a row it could not be emptied or ended, and
	// notBefore when that is tried again.
	failures  int
	notBefore time.Time
}

// use returns the file, which is opened when it is not open, and stays open
// until fileMu is let go of.
func (s *segment) use() (vfs.File, error) {
	for {
		s.fileMu.RLock()
		if s.file != nil {
			return s.file, nil
		}
		s.fileMu.RUnlock()
		if err := s.files.open(s); err != nil {
			return nil, err
		}
	}
}

// readAt fills p from off.
func (s *segment) readAt(p []byte, off int64) error {
	f, err := s.use()
	if err != nil {
		return err
	}
	defer s.fileMu.RUnlock()
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF || err == nil {
		return &brokenError{fmt.Sprintf("%s ends at %d", s.path, off+int64(n))}
	}
	return err
}

// block is the unit in which a disk fails to read.
const block = 4096

// salvage fills b with what can be read from off: what the file lacks is zero,
// and so is what the disk does not give back. The error is the process's own,
// in which nothing can be told, or nil; holes is that of the disk.
func (s *segment) salvage(b []byte, off int64) (holes, err error) {
	err = s.readAt(b, off)
	if err == nil {
		return nil, nil
	}
	if _, short := isBroken(err); short {
		holes = err
	}
	clear(b)
	n := int64(len(b))
	for at := int64(0); at < n; {
		next := min((off+at)/block*block+block-off, n)
		err := s.readAt(b[at:next], off+at)
		if _, short := isBroken(err); err != nil && !short {
			if kindOf(err) == queue.ErrBusy {
				return nil, err
			}
			clear(b[at:next])
			holes = err
		}
		at = next
	}
	return holes, nil
}

// owe notes that n octets here are needed as long as the other's life goes on.
func (s *segment) owe(to *segment, n int64) {
	s.owes[to] += n
	s.owed += n
}

// forgive notes that nothing is owed to the other any more.
func (s *segment) forgive(to *segment) {
	s.owed -= s.owes[to]
	delete(s.owes, to)
}

// putOff is called when it could not be emptied or ended, so that a disk that
// says no is not asked without pause.
func (s *segment) putOff() {
	s.notBefore = time.Now().Add(probeEvery << min(s.failures, 8))
	s.failures++
}

// weight is what emptying the segment would have to write elsewhere.
func (s *segment) weight() int64 { return s.alive + s.owed }

// room is whether a record fits, with what the footer needs for it.
func (s *segment) room(id queue.ID, n int64) bool {
	return s.off+aligned(n)+s.footer+footedLen(id)+trailerSize <= s.size
}

// stays is whether the segment cannot be emptied.
func (s *segment) stays() bool { return s.stuck || s.unsaved }

func (s *segment) markCopied(off uint32) {
	if s.copied == nil {
		s.copied = make(map[uint32]bool)
	}
	s.copied[off] = true
}

// newHeader is that of a new life, with a random salt by which no octet of its checksum
// is zero: a header of which one is was torn, and one that was damaged is not taken
// for that.
func newHeader(size int64, seq uint64) segmentHeader {
	for {
		var salt [8]byte
		rand.Read(salt[:]) // never fails: it crashes the program instead
		h := segmentHeader{size: size, seq: seq, salt: binary.LittleEndian.Uint64(salt[:])}
		if sum := h.encode()[headerSize-4 : headerSize]; bytes.IndexByte(sum, 0) < 0 {
			return h
		}
	}
}

// begin starts a life, durably.
func (s *segment) begin(seq uint64, sync bool) error {
	h := newHeader(s.size, seq)
	s.seq, s.salt = seq, h.salt
	s.off, s.synced, s.footer, s.records = firstRecord, firstRecord, 0, nil
	s.ended, s.copied, s.spots, s.alive = nil, nil, nil, 0
	s.owes, s.owed, s.eased = make(map[*segment]int64), 0, time.Time{}
	s.halfMoved, s.uncertain, s.unsaved, s.stuck, s.failures = false, false, false, false, 0
	return s.write(h.encode(), 0, sync)
}

// end ends a life, durably. It waits for readers of this life, and there are no
// more: nothing that is asked for lies here.
func (s *segment) end(sync bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(make([]byte, headersSize), 0, sync)
}

// seal writes the footer, so that opening need not read what it lists: all of
// that must have been synced, or a power cut might leave the footer alone.
func (s *segment) seal(sync bool) error {
	b := encodeFooter(s.listed(), s.salt)
	return s.write(b, s.size-int64(len(b)), sync)
}

// listed is the records that the footer has to tell of.
func (s *segment) listed() []footed {
	ended := make(map[queue.ID]bool, len(s.ended))
	for _, id := range s.ended {
		ended[id] = true
	}
	return slices.DeleteFunc(s.records, func(r footed) bool { return ended[r.id] })
}

func (s *segment) write(b []byte, off int64, sync bool) error {
	f, err := s.use()
	if err != nil {
		return err
	}
	defer s.fileMu.RUnlock()
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return asSyncError(f.Sync())
}

func (s *segment) sync() error {
	f, err := s.use()
	if err != nil {
		return err
	}
	defer s.fileMu.RUnlock()
	return asSyncError(f.Sync())
}

// create makes a segment's file: as long as it will be, and written once, for
// where a file was never written a sync has to change metadata. Between the
// parts that it writes it calls pause.
func (s *segment) create(dir string, sync bool, pause func()) error {
	f, err := s.files.fs.Create(s.path)
	if err != nil {
		return err
	}
	if err = f.Preallocate(s.size); err == nil {
		err = s.blank(f, pause)
	}
	if err == nil && sync {
		err = asSyncError(f.Sync())
	}
	if err == nil && sync {
		err = asSyncError(s.files.fs.SyncDir(dir))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = s.files.fs.Remove(s.path) // a segment that is not whole is removed by the next open at the latest
	}
	return err
}

// blank writes zeros all over a new file, a part at a time, each on its way to
// the disk before the next: messages are synced to the same disk meanwhile, and
// each of these syncs waits for all that the disk was given before.
func (s *segment) blank(f vfs.File, pause func()) error {
	zeros := make([]byte, min(s.size, 64<<10))
	for at := int64(0); at < s.size; at += int64(len(zeros)) {
		if at > 0 {
			pause()
		}
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), s.size-at)], at); err != nil {
			return err
		}
		f.StartSync()
	}
	return nil
}
