package diskqueue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// start begins the work; close ends it when all that was asked for is done. To
// close what was never started does nothing.
func (j *journal) start() {
	j.done = make(chan struct{})
	go j.run()
}

func (j *journal) close() {
	if j == nil {
		return
	}
	if j.done == nil {
		_ = j.closeFiles() // only read from
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
	j.lastWords()
	if j.timer != nil {
		j.timer.Stop()
	}
	close(j.stock)
	j.hurryUp()
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
	j.reqMu.Lock()
	due := j.syncDue
	j.syncDue = false
	j.reqMu.Unlock()
	if due {
		j.armed = false
		maps.Copy(j.checked, j.draining)
	}
	j.now = time.Now()
	j.told = nil
	if slices.ContainsFunc(asked, func(q *request) bool { return q.kind == 0 }) {
		j.lookAgain()
		due = true
	}
	if len(j.again) > 0 && (due || j.spares() > 0) {
		again := j.again
		j.again = nil
		for _, q := range again {
			j.append(q)
		}
	}
	var wantSaid []*request
	for _, q := range asked {
		switch {
		case q.kind != 0:
			j.append(q)
		case q.waits:
			wantSaid = append(wantSaid, q)
		}
	}
	clear(asked)
	j.taken = asked[:0]
	written := j.flush(due)
	for _, q := range wantSaid {
		q.done <- j.unsaid(q.id, written)
	}
	if len(j.again) > 0 && !j.isSick() { // else poke comes when all is well
		j.wakeLater()
	}
}

// isSick is whether the last thing that could not be done tells of a sick storage.
func (j *journal) isSick() bool { return kindOf(j.why) == queue.ErrSick }

// unsaid is why something that was said of a message may not be on the disk: it was
// not written now, waits to be written again, or lies in a segment of which a
// sync has failed.
func (j *journal) unsaid(id queue.ID, written bool) error {
	waits := slices.ContainsFunc(j.again, func(q *request) bool { return q.id == id })
	if first := j.first(); written && !waits && (first == nil || !first.uncertain) {
		return nil
	}
	return fmt.Errorf("what was said of it before: %w", cmp.Or[error](j.why, syscall.EAGAIN))
}

// lookAgain is for when the disk is well again: what has not failed often is
// tried at once.
func (j *journal) lookAgain() {
	j.why = nil
	for s := range j.lives {
		if s.failures < 3 {
			s.notBefore = time.Time{}
		}
	}
}

// append puts a record into the batch, having written that before if it has
// grown big, and having gone over to another segment if it does not fit.
func (j *journal) append(q *request) {
	if q.kind == kindRemoved && !j.aim(q) || !j.worth(q) {
		if q.waits {
			q.done <- nil
		}
		return
	}
	if q.kind == kindRemoved && !q.waits && j.told != nil {
		j.postpone(q, j.why) // there was no room for another a moment ago
		return
	}
	n := frameLen(q.id, int64(len(q.meta)), q.textLen())
	if len(j.buf) > mostBatch {
		j.flush(false)
	}
	var err error
	if j.active == nil || !j.active.room(q.id, int64(len(j.buf))+n) {
		j.flush(false)
		err = j.rotate(q.mayFail())
	} else if q.mayFail() {
		err = j.keepSpare()
	}
	if err != nil {
		j.refuse(q, fmt.Errorf("segment: %w", err))
		return
	}
	at := len(j.buf)
	j.buf = beginFrame(j.buf, q.kind, j.active.salt, uint32(j.active.synced), q.id, q.meta, n)
	if q.body != nil {
		j.buf = q.body.appendTo(j.buf)
	}
	j.buf = append(j.buf, q.text...)
	j.buf = endFrame(j.buf, at)
	q.off, q.n = uint32(j.active.off+int64(at)), uint32(n)
	j.active.footer += footedLen(q.id)
	j.batch = append(j.batch, q)
}

// aim lets a record of kindRemoved name the life that the message lies in. When
// that is over there is nothing to say, and it reports false, unless a segment
// is half moved: an older copy of the message may lie there, which would count
// again after the next open.
func (j *journal) aim(q *request) bool {
	if q.sp.seg != nil {
		q.target, q.life = q.sp.seg, q.sp.seg.seq
	}
	if !j.goesOn(q.target, q.life) && len(j.halfMoved()) == 0 {
		return false
	}
	q.meta = binary.LittleEndian.AppendUint64(nil, q.life)
	q.received = int64(q.life) // for the footer
	return true
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

// worth is whether a record says anything, and is worth its room. That a
// message is in delivery is not when there is no other room than the spare's: a
// crash then counts no attempt. That it is not is not when that was never said.
func (j *journal) worth(q *request) bool {
	switch {
	case q.kind == kindLeased && j.short.Load():
		spares := j.spares()
		return spares > 1 || spares == 1 && j.active != nil && j.active.room(q.id, int64(len(j.buf))+frameLen(q.id, 0, 0))
	case q.isRelease():
		said := func(b *request) bool { return b.kind == kindLeased && b.id == q.id }
		return j.leased[q.id] != nil || slices.ContainsFunc(j.batch, said)
	}
	return true
}

// isRelease tells what ends a delivery, and changes nothing, from a retry.
func (q *request) isRelease() bool { return q.kind == kindRetried && !q.waits }

// mayFail tells a message that comes in and what has changed of one from what
// makes room, or is part of that.
func (q *request) mayFail() bool {
	return !q.moves && (q.isNew() || q.kind == kindLeased || q.kind == kindRetried || q.kind == kindUpdate)
}

// isNew tells a message that comes in from one that is moved.
func (q *request) isNew() bool { return q.kind == kindMessage && q.sp.seg == nil }

func (q *request) textLen() int64 {
	if q.body == nil {
		return int64(len(q.text))
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

// flush writes the batch. It syncs when something is to be durable, and when it
// is told to. It reports false when it could not.
func (j *journal) flush(sync bool) bool {
	durable := slices.ContainsFunc(j.batch, func(q *request) bool { return q.durable })
	sync = (sync && (j.unsynced || len(j.buf) > 0) || durable) && !j.noSync
	if len(j.buf) == 0 && !sync {
		return true
	}
	var err error
	if len(j.buf) > 0 {
		err = j.active.write(j.buf, j.active.off, false)
	}
	if err == nil && sync {
		err = j.active.sync()
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
		j.wakeLater()
	}
	return err == nil
}

// wakeLater sees to it that what was written is synced soon, whatever comes,
// and that what could not be done is tried again.
func (j *journal) wakeLater() {
	if j.armed {
		return
	}
	j.armed = true
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
	if q.sp != nil {
		j.unstick(q.sp.seg)
		j.unstick(q.sp.metaSeg)
	}
	switch q.kind {
	case kindMessage:
		if q.sp.seg != nil { // it is a copy, with the latest meta in it
			j.ease(q.sp.seg, q.sp.n)
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
	}
}

// unstick has a segment looked at again of which something counts less: that
// may be what could not be read.
func (j *journal) unstick(s *segment) {
	if s != nil && s.stuck {
		s.stuck = false
		j.checked[s] = struct{}{}
	}
}

func (j *journal) applyRemoved(q *request, n int64) {
	a := j.active
	switch {
	case q.target == a && q.sp.seg == a && !a.copied[q.sp.off]:
		a.ended = append(a.ended, q.id)
	case q.target != a && j.goesOn(q.target, q.life):
		a.owe(q.target, n)
	default: // an older copy may be left
		j.oweHalfMoved(a, n)
	}
	j.drop(q.sp)
}

// drop is called with mu held, when a message is no more.
func (j *journal) drop(sp *spot) {
	if sp.seg == nil {
		return
	}
	j.ease(sp.seg, sp.n)
	j.forgetMeta(sp)
	sp.seg = nil
}

// forgetMeta is called with mu held, when an update does not count any more.
func (j *journal) forgetMeta(sp *spot) {
	if sp.metaSeg != nil {
		j.ease(sp.metaSeg, sp.metaN)
		sp.metaSeg = nil
	}
}

// ease notes that a record of so many octets does not count any more.
func (j *journal) ease(s *segment, n uint32) {
	s.alive -= aligned(int64(n))
	s.eased = j.now
	j.checked[s] = struct{}{}
}

// fail is for a batch that was not written, or not synced. Nothing more is
// written to a segment of which that is so: nobody knows what it holds. Who
// waits is told; that the messages refused are no more is written to another
// segment, for they may be there.
func (j *journal) fail(batch []*request, err error) {
	failed := j.active
	failed.uncertain = true
	j.retire()
	j.unsynced = false
	j.why = err
	if len(batch) == 0 { // a sync that nobody waits for
		j.report("journal", "", err)
	}
	for _, q := range batch {
		switch {
		case !q.waits:
			j.postpone(q, err)
			continue
		case q.isNew():
			j.again = append(j.again, &request{kind: kindRemoved, id: q.id, sp: q.sp, target: failed, life: failed.seq})
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
	j.files.pin(nil)
}

// refuse is for one record for which there is no segment.
func (j *journal) refuse(q *request, err error) {
	j.why = err
	if q.waits {
		q.done <- err
		return
	}
	j.postpone(q, err)
}

// postpone is for what could not be written and nobody waits for. A message that
// is no more counts no more, and that is written when it can be. That one is in
// delivery, or is not any more, is left out: after a crash an attempt is
// counted, or not, that was none, or one.
func (j *journal) postpone(q *request, err error) {
	if j.told == nil || kindOf(j.told) != kindOf(err) {
		j.told = err
		j.report("journal", q.id, err)
	}
	if q.kind != kindRemoved {
		return
	}
	j.mu.Lock()
	if at := q.sp.metaSeg; at != nil && at != q.sp.seg {
		q.last, q.lastLife = at, at.seq
	}
	j.drop(q.sp)
	j.mu.Unlock()
	delete(j.leased, q.id)
	j.again = append(j.again, q)
}

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

// lastWords writes what a full disk had no room for, once segments are free of
// which nothing counts any more: without it messages that had an ack before a
// close would be delivered again after the next open.
func (j *journal) lastWords() {
	j.moving = nil // as a crash would leave it
	for n := len(j.again); n > 0; n = len(j.again) {
		for _, s := range slices.SortedFunc(maps.Keys(j.lives), byLife) {
			if s.weight() == 0 {
				s.notBefore = time.Time{} // there is no later
				j.look(s)
			}
		}
		j.write(nil)
		if len(j.again) == n {
			return
		}
	}
}

// finish is the end of the journal's work: what counts is sealed.
func (j *journal) finish() {
	j.flush(true)
	if a := j.active; a != nil {
		counts := a.weight() > 0 || j.first() != nil
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
		errs = append(errs, j.files.close(s))
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
