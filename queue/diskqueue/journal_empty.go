package diskqueue

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// tidy ends the lives of segments in which nothing counts any more, and empties
// those in which little does, a part at a time.
func (j *journal) tidy() {
	if j.moving != nil {
		j.move()
	}
	for progress := true; progress; {
		progress = false
		for _, s := range slices.SortedFunc(maps.Keys(j.checked), byLife) { // the oldest first
			if !j.look(s) {
				continue
			}
			if progress = true; j.isAsked() {
				return // the rest can wait
			}
		}
	}
	if len(j.checked) > 0 && j.moving == nil && !j.isSick() {
		j.wakeLater() // some could not be done
	}
	if j.moving == nil && (j.pressed || j.short.Load() && j.spares() == 0) {
		j.relieve()
	}
}

func byLife(a, b *segment) int { return cmp.Compare(a.seq, b.seq) }

// isAsked reports whether somebody wants something written.
func (j *journal) isAsked() bool {
	j.reqMu.Lock()
	defer j.reqMu.Unlock()
	return len(j.pending) > 0
}

// look decides on a segment in which less counts than before, and reports
// whether it did anything. One that has to wait for another is looked at again.
func (j *journal) look(s *segment) bool {
	if _, lives := j.lives[s]; !lives || s == j.active {
		delete(j.checked, s) // when it is retired it is looked at
		return false
	}
	if s.unsaved {
		delete(j.checked, s)
		return false
	}
	if j.moving != nil || s.failures > 0 && time.Now().Before(s.notBefore) {
		return false
	}
	first := j.first()
	if first == s {
		first = nil
	}
	if first != nil {
		j.checked[first] = struct{}{}
	}
	switch {
	case first != nil && first.uncertain:
		return false
	case s.alive == 0 && s.owed == 0:
		return j.end(s)
	case first != nil:
		return false
	case s.stuck:
		delete(j.draining, s)
	case s.halfMoved, s.uncertain, s.weight() < s.size/4 && !j.drains(s):
		delete(j.checked, s)
		delete(j.draining, s)
		j.moving, j.moved = s, 0
		return true
	case s.weight() < s.size/4:
		j.draining[s] = struct{}{}
		j.wakeLater()
	}
	delete(j.checked, s)
	return false
}

// drains is whether a segment of which little counts is left to drain by itself.
func (j *journal) drains(s *segment) bool {
	_, does := j.draining[s]
	return j.now.Sub(s.eased) < j.restless && (does || len(j.draining) < mostDraining)
}

// first is the segment that must go before any other: one that may not hold
// what was written to it before one that holds too much.
func (j *journal) first() *segment {
	var first *segment
	for s := range j.lives {
		if s == j.active || !s.halfMoved && !s.uncertain {
			continue
		}
		if first == nil || s.uncertain && !first.uncertain || s.uncertain == first.uncertain && s.seq < first.seq {
			first = s
		}
	}
	return first
}

// goesOn is whether a segment is still in a life.
func (j *journal) goesOn(s *segment, life uint64) bool {
	_, lives := j.lives[s]
	return lives && s.seq == life
}

// halfMoved is the segments of which some has been written elsewhere.
func (j *journal) halfMoved() (all []*segment) {
	for s := range j.lives {
		if s.halfMoved {
			all = append(all, s)
		}
	}
	return all
}

// oweHalfMoved has by owe a record to the segments that are half moved.
func (j *journal) oweHalfMoved(by *segment, n int64) {
	for _, s := range j.halfMoved() {
		if s != by {
			by.owe(s, n)
		}
	}
}

// relieve empties, when there is no room for another segment, the one that is
// least work, if what it holds fits where we are, or into the spare. One that is
// empty, and whose life cannot end yet, is none.
func (j *journal) relieve() {
	j.pressed = false
	least := j.first()
	if least == nil {
		for s := range j.lives {
			if s != j.active && !s.stays() && s.weight() > 0 && (least == nil || s.weight() < least.weight()) {
				least = s
			}
		}
	}
	if least == nil || least.stays() || least.weight() == 0 || time.Now().Before(least.notBefore) {
		return
	}
	room := int64(0)
	if j.active != nil {
		room = j.active.size - j.active.off - j.active.footer - trailerSize
	}
	if j.spares() > 0 { // there is one again when this is done
		room = max(room, j.segmentSize*3/4)
	}
	if least.weight()*3/2 < room { // frames and footers are more than is counted
		j.moving, j.moved = least, 0
		j.did.relieved++
	}
}

// end ends the life of a segment in which nothing counts, and reports whether
// it could. Where another one is half moved, perhaps to here, what is owed to
// this one is owed to that from now on.
func (j *journal) end(s *segment) bool {
	if slices.ContainsFunc(j.again, func(q *request) bool { return q.last == s && q.lastLife == s.seq && j.goesOn(q.target, q.life) }) {
		return false // what comes back if the power goes has its latest meta here
	}
	for id, at := range j.leased {
		if at != s {
			continue
		}
		if q := (&request{kind: kindLeased, id: id}); j.worth(q) { // it must be said elsewhere first
			j.append(q)
		} else {
			delete(j.leased, id)
		}
	}
	if !j.flush(true) {
		return false
	}
	for _, at := range j.leased {
		if at == s {
			return false
		}
	}
	if err := s.end(!j.noSync); err != nil {
		j.report("journal", "", fmt.Errorf("end %s: %w", filepath.Base(s.path), err))
		s.putOff()
		return false
	}
	j.did.ended++
	first := s.halfMoved || s.uncertain
	delete(j.lives, s)
	delete(j.checked, s)
	delete(j.draining, s)
	for other := range j.lives {
		n := other.owes[s]
		if n > 0 {
			other.eased = j.now
		}
		other.forgive(s)
		if n > 0 {
			j.oweHalfMoved(other, n)
		}
		if n > 0 || first {
			j.checked[other] = struct{}{}
		}
	}
	s.spots, s.owes, s.owed = nil, nil, 0
	if err := j.files.close(s); err != nil { // it is opened again for its next life
		j.report("journal", "", fmt.Errorf("close %s: %w", filepath.Base(s.path), err))
	}
	j.mu.Lock()
	j.free = append(j.free, s)
	many := len(j.free) > mostFree
	j.mu.Unlock()
	if many {
		j.restock()
	}
	return true
}

// move moves a part of what counts in the segment that is being emptied. It is
// written and synced before anything that is asked for later.
func (j *journal) move() {
	s := j.moving
	var batch []*request
	var err error
	seen := make(map[*spot]bool) // a message and its updates have one spot
	for n := int64(0); err == nil && j.moved < len(s.spots) && n < mostMoved; j.moved++ {
		sp := s.spots[j.moved]
		if seen[sp] {
			continue
		}
		seen[sp] = true
		q, unread := j.copyOf(s, sp)
		switch {
		case unread != nil && kindOf(unread) == queue.ErrBusy:
			err = unread
		case unread != nil: // it stays, and the others go
			s.stuck = true
			j.doubted.Store(sp, nil)
			j.distrust(sp, unread)
		case q != nil:
			n += frameLen(q.id, int64(len(q.meta)), q.textLen())
			batch = append(batch, q)
			if q.kind == kindMessage && j.leased[q.id] != nil { // its copy says that it is not in delivery
				batch = append(batch, &request{kind: kindLeased, id: q.id, sp: sp})
			}
		}
	}
	if err == nil {
		err = j.writeMoved(s, batch)
	}
	if err == nil && j.moved < len(s.spots) {
		return // more in the next turn
	}
	if err == nil {
		err = j.moveOwed(s)
	}
	j.moving = nil
	j.checked[s] = struct{}{}
	if err != nil {
		j.report("journal", "", fmt.Errorf("empty %s: %w", filepath.Base(s.path), err))
		s.putOff()
		return
	}
	s.owes, s.owed = nil, 0
	if s.failures = 0; !s.stuck {
		j.did.emptied++
	}
}

// copyOf is a record to be written elsewhere; nil when it does not count here.
func (j *journal) copyOf(s *segment, sp *spot) (*request, error) {
	if sp.seg == nil || sp.seg != s && sp.metaSeg != s {
		return nil, nil
	}
	f, err := sp.seg.readFrame(make([]byte, sp.n), int64(sp.off))
	if err != nil {
		return nil, err
	}
	meta := f.meta
	if sp.metaSeg != nil {
		u, err := sp.metaSeg.readFrame(make([]byte, sp.metaN), int64(sp.metaOff))
		if err != nil {
			return nil, err
		}
		meta = u.meta
	}
	r, err := decode(f.id, meta)
	if err != nil {
		return nil, &brokenError{err.Error()}
	}
	q := &request{kind: kindRetried, id: f.id, sp: sp, meta: meta,
		received: r.ReceivedAt.UnixMilli(), next: dueIn(r)}
	switch {
	case sp.seg == s:
		q.kind, q.text = kindMessage, f.text
	case j.leased[f.id] != nil:
		q.kind = kindUpdate
	}
	return q, nil
}

// writeMoved writes copies, durably. From the first of them on, what is said of
// these messages names the place of the copy, and the older one must go first.
func (j *journal) writeMoved(s *segment, batch []*request) error {
	if len(batch) == 0 {
		return nil
	}
	s.halfMoved = true
	for _, q := range batch {
		q.done, q.waits, q.durable, q.moves = make(chan error, 1), true, true, true
		j.append(q)
	}
	j.flush(false)
	var failed error
	for _, q := range batch {
		if err := <-q.done; err != nil {
			failed = err
		}
	}
	return failed
}

// moveOwed says again what the segment says of messages that are no more, where
// the life that they lay in goes on, or an older copy may be left.
func (j *journal) moveOwed(s *segment) error {
	if s.owed == 0 {
		return nil
	}
	targets := make(map[uint64]*segment)
	older := false
	for t := range s.owes {
		targets[t.seq] = t
		older = older || t.halfMoved
	}
	b := make([]byte, s.size)
	if err := s.readAt(b, 0); err != nil {
		return err
	}
	var batch []*request
	for _, r := range scanFrames(b, s.salt).whole {
		if r.kind != kindRemoved {
			continue
		}
		if t := targets[lifeOf(r.meta)]; t != nil || older {
			j.did.owed++
			batch = append(batch, &request{kind: kindRemoved, id: r.id, sp: new(spot), target: t, life: lifeOf(r.meta)})
		}
	}
	return j.writeMoved(s, batch)
}
