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
