package diskqueue

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// rotate goes over to another segment.
func (j *journal) rotate(mayFail bool) error {
	next, err := j.fresh(mayFail)
	if err != nil {
		return err
	}
	var records []footed
	if j.active != nil {
		records = j.active.records
	}
	if j.flush(true) && j.active != nil {
		if err := j.active.seal(!j.noSync); err != nil { // it is read as a whole, then
			j.report("journal", "", fmt.Errorf("seal %s: %w", filepath.Base(j.active.path), err))
		}
		j.retire()
	}
	j.seq++
	j.files.pin(next)
	if err := next.begin(j.seq, !j.noSync); err != nil {
		j.lives[next] = struct{}{} // whether its life has begun nobody knows
		j.checked[next] = struct{}{}
		j.files.pin(nil)
		return err
	}
	if cap(records) <= 2*len(records) { // the next segment is likely to have about as many
		next.records = records[:0]
	}
	j.lives[next] = struct{}{}
	j.active = next
	return nil
}

// fresh is a segment to begin. One is always kept for what must not fail for
// want of room: that something is no more, and what is moved to make room.
func (j *journal) fresh(mayFail bool) (*segment, error) {
	for {
		j.mu.Lock()
		if n := len(j.free); n > 1 || n == 1 && !mayFail {
			s := j.free[0]
			j.free = slices.Delete(j.free, 0, 1)
			j.mu.Unlock()
			j.restock()
			return s, nil
		}
		j.mu.Unlock()
		if err := j.makeNow(); err != nil {
			j.pressed = true
			return nil, err
		}
	}
}

// keepSpare is for what may fail and would fit where we are: not when what must
// not fail has no other segment to go to.
func (j *journal) keepSpare() error {
	if j.spares() > 0 {
		return nil
	}
	if err := j.makeNow(); err != nil {
		j.pressed = true
		return err
	}
	return nil
}

func (j *journal) spares() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.free)
}

func (j *journal) restock() {
	select {
	case j.stock <- struct{}{}:
	default:
	}
}

// makeNow adds a free segment, unless there are two, for who waits for it.
func (j *journal) makeNow() error {
	j.hurryUp()
	return j.make()
}

// hurryUp tells who makes a segment, or makes the next one, to do without pauses.
func (j *journal) hurryUp() {
	select {
	case j.hurry <- struct{}{}:
	default:
	}
}

// make adds a free segment, unless there are two.
func (j *journal) make() error {
	j.making.Lock()
	defer j.making.Unlock()
	j.mu.Lock()
	enough := len(j.free) >= 2
	j.mu.Unlock()
	if enough {
		return nil
	}
	j.number++
	s := &segment{files: &j.files, path: filepath.Join(j.dir, segmentName(j.number)), size: j.segmentSize}
	err := s.create(j.dir, !j.noSync, j.pauses())
	j.short.Store(err != nil)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.free = append(j.free, s)
	j.mu.Unlock()
	return nil
}

// blankPause is how long the maker of a segment pauses between its parts, of
// which there are 128. All in all it takes some 150 ms, in which the journal
// fills a segment at 12 000 messages a second.
const blankPause = time.Millisecond

// pauses returns what the maker of a segment does between its parts: it pauses
// until somebody is in a hurry, and from then on does not.
func (j *journal) pauses() func() {
	hurried := false
	return func() {
		if hurried {
			return
		}
		timer := time.NewTimer(blankPause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-j.hurry:
			hurried = true
		}
	}
}

func segmentName(n int) string { return fmt.Sprintf("%08d.seg", n) }

// keepStock makes free segments before they are needed, and removes them when
// they are far too many.
func (j *journal) keepStock() {
	for range j.stock {
		if j.commits {
			// Its error is that of who needs one, and comes up again there.
			_ = j.make()
		}
		for {
			j.mu.Lock()
			if len(j.free) <= mostFree {
				j.mu.Unlock()
				break
			}
			s := j.free[len(j.free)-1]
			j.free = j.free[:len(j.free)-1]
			j.mu.Unlock()
			if err := errors.Join(j.files.close(s), j.fs.Remove(s.path)); err != nil {
				j.report("remove segment", "", err)
			}
		}
	}
}
