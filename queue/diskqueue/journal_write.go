package diskqueue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// start begins the work; close ends it when all that was asked for is done. To
// close what was never started does nothing.
func (j *journal) start() {
	j.done = make(chan struct{})
	go j.run()
}

func (j *journal) close() {
	if j == nil || j.done == nil {
		return
	}
	j.reqMu.Lock()
	j.closing = true
	j.asked.Signal()
	j.reqMu.Unlock()
	<-j.done
}

// run is the journal's goroutine.
func (j *journal) run() {
	defer close(j.done)
	stocked := make(chan struct{})
	go func() {
		defer close(stocked)
		j.keepStock()
	}()
	for {
		batch, last := j.take()
		j.write(batch)
		if last {
			break
		}
		j.tidy()
	}
	if j.timer != nil {
		j.timer.Stop()
	}
	close(j.stock)
	<-stocked
	j.finish()
}

// take waits for something to do. The last time is when all is done that was
// asked for before close.
func (j *journal) take() (batch []*request, last bool) {
	j.reqMu.Lock()
	defer j.reqMu.Unlock()
	for len(j.pending) == 0 && !j.closing && !j.syncDue && j.moving == nil {
		j.asked.Wait()
	}
	// Who can run now asks first, so that more share a sync: with 20 and with
	// 100 sessions on two processors it takes a quarter fewer syncs.
	j.reqMu.Unlock()
	runtime.Gosched()
	j.reqMu.Lock()
	batch, j.pending = j.pending, j.taken
	return batch, j.closing
}

// write writes what was asked for, in order, and tells those who wait.
func (j *journal) write(asked []*request) {
	again := j.again
	j.again = nil
	for _, q := range again {
		j.append(q)
	}
	for _, q := range asked {
		if q.kind != 0 {
			j.append(q)
		}
	}
	clear(asked)
	j.taken = asked[:0]
	j.reqMu.Lock()
	due := j.syncDue
	j.syncDue = false
	j.reqMu.Unlock()
	j.flush(due)
}

// append puts a record into the batch, having written that before if it has
// grown big, and having gone over to another segment if it does not fit.
func (j *journal) append(q *request) {
	n := frameLen(q.id, int64(len(q.meta)), q.textLen())
	if q.kind == kindRemoved {
		if q.target == nil {
			q.target = q.sp.seg
		}
		if q.target == nil {
			return // removed before: it lay in what was never written
		}
		q.meta = removedMeta(q.target)
		n += int64(len(q.meta))
	}
	if len(j.buf) > mostBatch {
		j.flush(false)
	}
	if j.active == nil || !j.active.room(q.id, int64(len(j.buf))+n) {
		j.flush(false)
		if err := j.rotate(q.isNew()); err != nil {
			j.refuse(q, fmt.Errorf("segment: %w", err))
			return
		}
	}
	at := len(j.buf)
	j.buf = beginFrame(j.buf, q.kind, j.active.salt, uint32(j.active.synced), q.id, q.meta, n)
	if q.body != nil {
		j.buf = q.body.appendTo(j.buf)
	}
	j.buf = endFrame(j.buf, at)
	q.off, q.n = uint32(j.active.off+int64(at)), uint32(n)
	j.active.footer += footedLen(q.id)
	j.batch = append(j.batch, q)
}

// isNew tells a message that comes in from one that is moved.
func (q *request) isNew() bool { return q.kind == kindMessage && q.sp.seg == nil }

func (q *request) textLen() int64 {
	if q.body == nil {
		return 0
	}
	return q.body.size
}

// appendTo appends the text, which is in memory.
func (b *body) appendTo(to []byte) []byte {
	left := b.size
	for _, c := range b.chunks {
		n := min(left, chunk)
		to = append(to, c[:n]...)
		left -= n
	}
	return to
}

// flush writes the batch. It syncs when something is to be durable, and when it is told to.
func (j *journal) flush(sync bool) {
	durable := slices.ContainsFunc(j.batch, func(q *request) bool { return q.durable })
	sync = (sync && j.unsynced || durable) && !j.noSync
	if len(j.buf) == 0 && !sync {
		return
	}
	var err error
	if len(j.buf) > 0 {
		err = j.active.write(j.buf, j.active.off, false)
	}
	if err == nil && sync {
		err = j.sync()
	}
	batch := j.batch
	j.batch = nil
	if err != nil {
		j.fail(batch, err)
	} else {
		j.active.off += int64(len(j.buf))
		if sync {
			j.active.synced = j.active.off
		}
		j.unsynced = !sync && !j.noSync
		j.settle(batch)
	}
	j.batch = batch[:0]
	if cap(j.buf) > 2*mostBatch {
		j.buf = nil
	}
	j.buf = j.buf[:0]
	if j.unsynced {
		j.syncLater()
	}
}

func (j *journal) sync() error {
	f, err := j.active.open()
	if err != nil {
		return err
	}
	return asSyncError(f.Sync())
}

// syncLater sees to it that what was written is synced soon, whatever comes.
func (j *journal) syncLater() {
	if j.timer == nil {
		j.timer = time.AfterFunc(syncWithin, func() {
			j.reqMu.Lock()
			j.syncDue = true
			j.asked.Signal()
			j.reqMu.Unlock()
		})
		return
	}
	j.timer.Reset(syncWithin)
}

// settle does in memory what the batch did on the disk, and then tells those
// who wait.
func (j *journal) settle(batch []*request) {
	j.mu.Lock()
	for _, q := range batch {
		j.apply(q)
	}
	j.mu.Unlock()
	for _, q := range batch {
		switch {
		case q.waits:
			q.done <- nil // who waits gives it back
		case q.done != nil: // else it is one of our own
			j.requests.Put(q)
		}
	}
}

// apply is called with mu held.
func (j *journal) apply(q *request) {
	a := j.active
	listed := footed{kind: q.kind, id: q.id, off: q.off, n: q.n, received: q.received, next: q.next}
	a.records = append(a.records, listed)
	n := aligned(int64(q.n))
	switch q.kind {
	case kindMessage:
		if q.sp.seg != nil { // it is a copy, with the latest meta in it
			q.sp.seg.alive -= aligned(int64(q.sp.n))
			j.checked[q.sp.seg] = struct{}{}
			j.forgetMeta(q.sp)
			a.markCopied(q.off)
		}
		q.sp.seg, q.sp.off, q.sp.n = a, q.off, q.n
		a.alive += n
		a.spots = append(a.spots, q.sp)
	case kindUpdate, kindRetried:
		if q.kind == kindRetried {
			delete(j.leased, q.id)
		}
		if q.sp.seg == nil {
			return
		}
		j.forgetMeta(q.sp)
		q.sp.metaSeg, q.sp.metaOff, q.sp.metaN = a, q.off, q.n
		a.alive += n
		a.spots = append(a.spots, q.sp)
	case kindRemoved:
		delete(j.leased, q.id)
		j.applyRemoved(q, n)
	case kindLeased:
		j.leased[q.id] = a
	case kindReleased:
		delete(j.leased, q.id)
	}
}

func (j *journal) applyRemoved(q *request, n int64) {
	a, target := j.active, q.target
	if _, lives := j.lives[target]; !lives {
		target = nil
	}
	switch {
	case target == a && !a.copied[q.sp.off] && q.sp.seg == a:
		a.ended = append(a.ended, q.id)
	case target != nil && target != a:
		a.owes[target] += n
	}
	if q.sp.seg == nil {
		return
	}
	q.sp.seg.alive -= aligned(int64(q.sp.n))
	j.checked[q.sp.seg] = struct{}{}
	j.forgetMeta(q.sp)
	q.sp.seg = nil
}

// forgetMeta is called with mu held, when an update does not count any more.
func (j *journal) forgetMeta(sp *spot) {
	if sp.metaSeg != nil {
		sp.metaSeg.alive -= aligned(int64(sp.metaN))
		j.checked[sp.metaSeg] = struct{}{}
		sp.metaSeg = nil
	}
}

// fail is for a batch that was not written, or not synced. Nothing more is
// written to a segment of which that is so: nobody knows what it holds. Who
// waits is told. What nobody waits for is written to another segment, and so is
// that the messages refused are no more, for they may be there.
func (j *journal) fail(batch []*request, err error) {
	failed := j.active
	j.retire()
	j.unsynced = false
	told := false
	for _, q := range batch {
		if !q.waits {
			if !told {
				told = true
				j.report("journal", q.id, err)
			}
			j.again = append(j.again, q)
			continue
		}
		if q.isNew() {
			j.again = append(j.again, &request{kind: kindRemoved, id: q.id, sp: q.sp, target: failed})
		} else if q.kind == kindMessage {
			failed.halfMoved = true // a copy may be there that nobody knows of
		}
		q.done <- err
	}
}

// retire ends the writing to the active segment, as it is.
func (j *journal) retire() {
	if j.active != nil {
		j.checked[j.active] = struct{}{}
		j.active.records, j.active.ended, j.active.copied = nil, nil, nil
	}
	j.active = nil
}

// refuse is for one record for which there is no segment.
func (j *journal) refuse(q *request, err error) {
	if q.waits {
		q.done <- err
		return
	}
	j.report("journal", q.id, err)
	j.again = append(j.again, q)
}

// rotate goes over to another segment.
func (j *journal) rotate(message bool) error {
	next, err := j.fresh(message)
	if err != nil {
		return err
	}
	if j.active != nil {
		if err := j.active.seal(!j.noSync); err != nil {
			// It is read as a whole, then. Records in it that were not synced
			// are of the kind that nobody waits for.
			j.report("journal", "", fmt.Errorf("seal %s: %w", filepath.Base(j.active.path), err))
		}
		j.unsynced = false
		j.retire()
	}
	j.seq++
	if err := next.begin(j.seq, !j.noSync); err != nil {
		j.lives[next] = struct{}{} // whether its life has begun nobody knows
		j.checked[next] = struct{}{}
		return err
	}
	j.lives[next] = struct{}{}
	j.active = next
	return nil
}

// fresh is a segment to begin. One is always kept for what must not fail for
// want of room: that something is no more, and what is moved to make room.
func (j *journal) fresh(message bool) (*segment, error) {
	for {
		j.mu.Lock()
		if n := len(j.free); n > 1 || n == 1 && !message {
			s := j.free[0]
			j.free = slices.Delete(j.free, 0, 1)
			j.mu.Unlock()
			j.restock()
			return s, nil
		}
		j.mu.Unlock()
		if err := j.make(); err != nil {
			j.pressed = true
			return nil, err
		}
	}
}

func (j *journal) restock() {
	select {
	case j.stock <- struct{}{}:
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
	s := &segment{fs: j.fs, path: filepath.Join(j.dir, segmentName(j.number)), size: j.segmentSize}
	if err := s.create(j.dir, !j.noSync); err != nil {
		return err
	}
	j.mu.Lock()
	j.free = append(j.free, s)
	j.mu.Unlock()
	return nil
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
			if err := errors.Join(s.close(), j.fs.Remove(s.path)); err != nil {
				j.report("remove segment", "", err)
			}
		}
	}
}

// tidy ends the lives of segments in which nothing counts any more, and empties
// those in which little does, a part at a time.
func (j *journal) tidy() {
	if j.moving != nil {
		j.move()
	}
	for progress := true; progress; {
		progress = false
		for _, s := range slices.SortedFunc(maps.Keys(j.checked), byLife) { // the oldest first
			progress = j.look(s) || progress
		}
	}
	if j.pressed && j.moving == nil {
		j.relieve()
	}
}

func byLife(a, b *segment) int { return cmp.Compare(a.seq, b.seq) }

// look decides on a segment in which less counts than before, and reports
// whether it did anything. One that has to wait for another is looked at again.
func (j *journal) look(s *segment) bool {
	if _, lives := j.lives[s]; !lives || s == j.active {
		delete(j.checked, s) // when it is retired it is looked at
		return false
	}
	if j.moving != nil {
		return false
	}
	if half := j.halfMoved(); half != nil && half != s {
		j.checked[half] = struct{}{}
		return false
	}
	switch {
	case s.alive == 0 && s.owed() == 0:
		return j.end(s)
	case s.weight() < s.size/4 && !s.stuck, s.halfMoved && !s.stuck:
		delete(j.checked, s)
		j.moving, j.moved = s, 0
		return true
	}
	delete(j.checked, s)
	return false
}

// halfMoved is the segment that must go before any other.
func (j *journal) halfMoved() *segment {
	var first *segment
	for s := range j.lives {
		if s.halfMoved && (first == nil || s.seq < first.seq) {
			first = s
		}
	}
	return first
}

// relieve empties, when there is no room for another segment, the one that is
// least work, if what it holds fits where we are.
func (j *journal) relieve() {
	j.pressed = false
	var least *segment
	for s := range j.lives {
		if s != j.active && !s.stuck && (least == nil || s.weight() < least.weight()) {
			least = s
		}
	}
	if half := j.halfMoved(); half != nil && half != j.active {
		least = half
	}
	if least != nil && j.active != nil && j.active.off+least.weight()+least.weight()/2+trailerSize < j.active.size {
		j.moving, j.moved = least, 0
	}
}

// end ends the life of a segment in which nothing counts, and reports whether
// it could.
func (j *journal) end(s *segment) bool {
	for id, at := range j.leased {
		if at == s { // that it is in delivery must be said elsewhere first
			j.append(&request{kind: kindLeased, id: id})
		}
	}
	j.flush(true)
	if len(j.again) > 0 {
		return false
	}
	if err := s.end(!j.noSync); err != nil {
		j.report("journal", "", fmt.Errorf("end %s: %w", filepath.Base(s.path), err))
		return false
	}
	delete(j.lives, s)
	delete(j.checked, s)
	for other := range j.lives {
		if _, owes := other.owes[s]; owes || s.halfMoved {
			delete(other.owes, s)
			j.checked[other] = struct{}{}
		}
	}
	s.spots, s.owes, s.halfMoved = nil, nil, false
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
		var q *request
		if q, err = j.copyOf(s, sp); q != nil {
			n += frameLen(q.id, int64(len(q.meta)), q.textLen())
			batch = append(batch, q)
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
	if err != nil {
		j.report("journal", "", fmt.Errorf("empty %s: %w", filepath.Base(s.path), err))
		_, s.stuck = isBroken(err) // whoever leases the message sets it aside
		return
	}
	s.owes = nil
	j.checked[s] = struct{}{}
}

// copyOf is a record to be written elsewhere; nil when it does not count here.
func (j *journal) copyOf(s *segment, sp *spot) (*request, error) {
	if sp.seg == nil || sp.seg != s && sp.metaSeg != s {
		return nil, nil
	}
	f, err := sp.seg.readFrame(int64(sp.off), int64(sp.n))
	if err != nil {
		return nil, err
	}
	meta := f.meta
	if sp.metaSeg != nil {
		u, err := sp.metaSeg.readFrame(int64(sp.metaOff), int64(sp.metaN))
		if err != nil {
			return nil, err
		}
		meta = u.meta
	}
	r, err := decode(f.id, meta)
	if err != nil {
		return nil, &brokenError{err.Error()}
	}
	q := &request{kind: kindUpdate, id: f.id, sp: sp, meta: meta,
		received: r.ReceivedAt.UnixMilli(), next: dueMilli(r.NextAttempt)}
	if sp.seg == s {
		q.kind, q.body = kindMessage, bodyOf(f.text)
	}
	return q, nil
}

// bodyOf is a text in memory.
func bodyOf(text []byte) *body {
	b := &body{size: int64(len(text))}
	for len(text) > 0 {
		c := new([chunk]byte)
		text = text[copy(c[:], text):]
		b.chunks = append(b.chunks, c)
	}
	return b
}

// writeMoved writes copies, durably. From the first of them on, what is said of
// these messages names the place of the copy, and the older one must go first.
func (j *journal) writeMoved(s *segment, batch []*request) error {
	if len(batch) == 0 {
		return nil
	}
	s.halfMoved = true
	for _, q := range batch {
		q.done, q.waits, q.durable = make(chan error, 1), true, true
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
// the life that they lay in goes on.
func (j *journal) moveOwed(s *segment) error {
	if s.owed() == 0 {
		return nil
	}
	targets := make(map[uint64]*segment)
	for t := range s.owes {
		targets[t.seq] = t
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
		if t := targets[lifeOf(r.meta)]; t != nil {
			batch = append(batch, &request{kind: kindRemoved, id: r.id, sp: new(spot), target: t})
		}
	}
	return j.writeMoved(s, batch)
}

// finish is the end of the journal's work: what counts is sealed.
func (j *journal) finish() {
	if a := j.active; a != nil {
		counts := a.weight() > 0 || j.halfMoved() != nil
		for _, at := range j.leased {
			counts = counts || at == a
		}
		var err error
		if counts {
			err = a.seal(!j.noSync)
		} else if err = a.end(!j.noSync); err == nil {
			delete(j.lives, a)
			j.free = append(j.free, a)
		}
		if err != nil {
			j.report("journal", "", fmt.Errorf("close %s: %w", filepath.Base(a.path), err))
		}
	}
	if err := j.closeFiles(); err != nil {
		j.report("journal", "", err)
	}
	if !j.commits && len(j.lives) == 0 {
		j.removeFiles()
	}
}

func (j *journal) closeFiles() error {
	var errs []error
	for _, s := range slices.Concat(slices.Collect(maps.Keys(j.lives)), j.free) {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// removeFiles ends a journal that is empty and of no use any more.
func (j *journal) removeFiles() {
	for _, s := range j.free {
		if err := j.fs.Remove(s.path); err != nil {
			j.report("remove segment", "", err)
		}
	}
	if err := j.fs.Remove(j.dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		j.report("remove journal", "", err)
	}
}
