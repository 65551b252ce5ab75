package diskqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// loaded is what the journal's files say.
type loaded struct {
	entries map[queue.ID]*entry
	// found is the entries in the order in which they were found, with some that
	// are no more.
	found []*entry
	// leased is what was in delivery, and where that is said.
	leased map[queue.ID]*segment
	// older is where an older copy of a message lies.
	older map[queue.ID]*segment
	// bad is what is not whole and was not said to be no more.
	bad []badIn
	// unsealed is the segments that had to be read as a whole.
	unsealed []*segment
	// broken is the files whose beginning is damaged, useless those that were
	// never finished, foreign what others left.
	broken, useless, foreign []string
	// holes is what could not be read of a segment that otherwise could.
	holes map[*segment]error
}

type badIn struct {
	badRecord
	seg *segment
}

// load reads the journal's files, the oldest life first, and changes nothing.
// The error is that of what cannot be read at all.
func (j *journal) load() (*loaded, error) {
	l := &loaded{
		entries: make(map[queue.ID]*entry),
		leased:  make(map[queue.ID]*segment),
		older:   make(map[queue.ID]*segment),
		holes:   make(map[*segment]error),
	}
	lives, err := j.list(l)
	if err != nil {
		return nil, err
	}
	for _, s := range lives {
		if err := j.replay(l, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return l, nil
}

// list finds the segments. Those without a life are free.
func (j *journal) list(l *loaded) (lives []*segment, err error) {
	names, err := j.fs.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimSuffix(name.Name(), ".seg"))
		if err != nil || n <= 0 || name.Name() != segmentName(n) {
			l.foreign = append(l.foreign, name.Name())
			continue
		}
		j.number = max(j.number, n)
		s := &segment{files: &j.files, path: filepath.Join(j.dir, name.Name()), owes: make(map[*segment]int64)}
		if lives, err = j.sort(l, lives, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
	}
	slices.SortFunc(lives, byLife)
	return lives, nil
}

func (j *journal) sort(l *loaded, lives []*segment, s *segment) ([]*segment, error) {
	st, err := j.fs.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		l.foreign = append(l.foreign, filepath.Base(s.path))
		return lives, nil
	}
	b := make([]byte, headersSize)
	holes, err := s.salvage(b, 0)
	if err != nil {
		_ = j.files.close(s) // only read from
		return nil, err
	}
	h, state := decodeHeaders(b)
	if _, short := isBroken(holes); holes != nil && !short && state == headerFree {
		state = headerBroken // nobody knows what it held
	}
	switch {
	case state == headerLater:
		err = errors.New("written by a later version than this one")
	case state == headerBroken || state == headerLive && (h.size < 2*firstRecord || h.size > mostSegment):
		l.broken = append(l.broken, s.path)
	case state == headerFree && st.Size() != j.segmentSize:
		l.useless = append(l.useless, s.path)
	case state == headerFree:
		s.size = st.Size()
		j.free = append(j.free, s)
		return lives, nil
	default:
		s.size, s.seq, s.salt = h.size, h.seq, h.salt
		j.seq = max(j.seq, s.seq)
		j.lives[s] = struct{}{}
		j.checked[s] = struct{}{}
		if st.Size() < s.size {
			l.holes[s] = &brokenError{fmt.Sprintf("%s has %d octets in place of %d", s.path, st.Size(), s.size)}
		}
		return append(lives, s), nil
	}
	_ = j.files.close(s) // likewise
	return lives, err
}

// replay does what the records of a segment say.
func (j *journal) replay(l *loaded, s *segment) error {
	records, ok, err := s.readFooter()
	if kindOf(err) == queue.ErrBusy {
		return err
	}
	if !ok { // or not to be read
		if records, err = j.scan(l, s); err != nil {
			return err
		}
	}
	now := time.Now().UnixMilli()
	for i := range records {
		l.apply(s, &records[i], now, ok)
	}
	return nil
}

// readFooter returns what a sealed segment lists; false for one that is not
// sealed.
func (s *segment) readFooter() ([]footed, bool, error) {
	b := make([]byte, trailerSize)
	if err := s.readAt(b, s.size-trailerSize); err != nil {
		return nil, false, err
	}
	t, ok := decodeTrailer(b, s.salt)
	if !ok || t.length < 0 || t.length > s.size-trailerSize-firstRecord {
		return nil, false, nil
	}
	b = make([]byte, t.length)
	if err := s.readAt(b, s.size-trailerSize-t.length); err != nil {
		return nil, false, err
	}
	records, ok := decodeFooter(b, t)
	return records, ok, nil
}

// scan reads all of a segment that can be read.
func (j *journal) scan(l *loaded, s *segment) ([]footed, error) {
	b := make([]byte, s.size)
	holes, err := s.salvage(b, 0)
	if err != nil {
		return nil, err
	}
	if holes != nil {
		l.holes[s] = holes
		_, short := isBroken(holes)
		s.unsaved = !short // what is in them may be read the next time
	}
	l.unsealed = append(l.unsealed, s)
	found := scanFrames(b, s.salt)
	records := make([]footed, 0, len(found.whole))
	for _, f := range found.whole {
		r, err := f.list()
		if err != nil {
			found.bad = append(found.bad, badRecord{frame: f.frame, off: f.off, n: f.n, durable: true})
			continue
		}
		records = append(records, r)
	}
	for _, bad := range found.bad {
		bad.durable = bad.durable || s.unsaved // for all that can be told
		l.bad = append(l.bad, badIn{bad, s})
	}
	s.records = records
	return records, nil
}

// apply does what one record says. Later ones of a message overrule those
// before.
func (l *loaded) apply(s *segment, r *footed, now int64, listed bool) {
	e := l.entries[r.id]
	n := aligned(int64(r.n))
	switch r.kind {
	case kindMessage:
		if e == nil {
			e = newEntry(r.id, unixMilli(r.received))
			e.spot = new(spot)
			e.setPlace(inJournal)
			l.entries[r.id] = e
			l.found = append(l.found, e)
		} else {
			e.spot.leave()
			if e.spot.seg != s {
				e.spot.seg.halfMoved = true
				l.older[r.id] = e.spot.seg
			}
			delete(l.leased, r.id)
		}
		*e.spot = spot{seg: s, off: r.off, n: r.n}
		e.unverified = listed
	case kindUpdate, kindRetried:
		if e == nil {
			return
		}
		e.spot.leaveMeta()
		e.spot.metaSeg, e.spot.metaOff, e.spot.metaN = s, r.off, r.n
		e.unverified = e.unverified || listed
		if r.kind == kindRetried {
			delete(l.leased, r.id)
		}
	case kindRemoved:
		l.bad = slices.DeleteFunc(l.bad, func(b badIn) bool { return b.id == r.id })
		delete(l.leased, r.id)
		if e == nil {
			for hidden := range l.holes { // it may lie there, and be read again the next time
				if hidden.unsaved && hidden.seq == uint64(r.received) {
					s.owe(hidden, n)
				}
			}
			return
		}
		if e.spot.seg != s {
			s.owe(e.spot.seg, n)
		} else if older := l.older[r.id]; older != nil {
			s.owe(older, n)
		}
		if e.spot.seg.seq != uint64(r.received) {
			// The record names the life of another copy: to empty this segment
			// would not say it again.
			e.spot.seg.halfMoved = true
		}
		e.spot.leave()
		*e.spot = spot{}
		delete(l.entries, r.id)
		return
	case kindLeased:
		if e != nil {
			l.leased[r.id] = s
		}
		return
	}
	s.alive += n
	s.spots = append(s.spots, e.spot)
	e.received, e.at, e.state = r.received, r.next, ready
	if r.next > now {
		e.state = waiting
	}
	if r.next == nobodyOwed {
		l.leased[r.id] = s // the end of that was not written
	}
}

// leave and leaveMeta take a spot's octets from what counts.
func (sp *spot) leave() {
	sp.seg.alive -= aligned(int64(sp.n))
	sp.leaveMeta()
}

func (sp *spot) leaveMeta() {
	if sp.metaSeg != nil {
		sp.metaSeg.alive -= aligned(int64(sp.metaN))
		sp.metaSeg = nil
	}
}

// openJournal sets aside what is not whole in the journal, and lets it begin its
// work. The error is that of a disk that fails.
func (r *recovery) openJournal(j *journal, l *loaded) error {
	if err := j.syncFree(); err != nil {
		return err
	}
	for _, name := range l.foreign {
		r.report(inJournal, name, errForeign)
	}
	for s, err := range l.holes {
		r.report(inJournal, filepath.Base(s.path), err)
	}
	for _, path := range l.broken {
		r.setSegmentAside(path)
	}
	for _, path := range l.useless {
		if err := r.d.fs.Remove(path); err != nil {
			r.report(inJournal, filepath.Base(path), err)
		}
	}
	r.setBadAside(j, l)
	if err := j.sealAll(l); err != nil {
		return err
	}
	maps.Copy(j.leased, l.leased)
	j.start()
	return nil
}

// syncFree makes it certain that the lives are over of the segments found free: the
// process that ended them may have been killed before it synced that, and what
// other segments say of those lives is kept no longer.
func (j *journal) syncFree() error {
	if j.noSync {
		return nil
	}
	for _, s := range j.free {
		if err := s.sync(); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return nil
}

// dropStaged removes what a burial that was cut short has left in staging of a
// message that the journal has, and reports whether it is none to be promoted.
// Since then the journal may have come to know more of it, such as a recipient
// settled; and of what is to be set aside it has as much.
func (r *recovery) dropStaged(j *journal, l *loaded, staged *entry) bool {
	if e := l.entries[staged.id]; e != nil {
		what, err := r.compareWithJournal(j, e, staged)
		switch {
		case r.passes(err):
			return true // and the spool is not opened
		case what == unreadable, what == anotherMessage:
			return false // what can be read comes before it
		case err != nil:
			r.report(inIncoming, string(staged.id), err)
		}
	} else if !slices.ContainsFunc(l.bad, func(b badIn) bool { return b.name() == string(staged.id) && b.isLost() }) {
		return false
	}
	r.report(inIncoming, string(staged.id), errors.New("the journal has the message; what was staged to bury it is removed"))
	if err := r.d.trash.take(inIncoming, staged.id); err != nil {
		r.report(inIncoming, string(staged.id), err)
	}
	return true
}

// setSegmentAside makes a dead letter of a file whose beginning is damaged: it
// may hold messages, but not in a way that could be relied on.
func (r *recovery) setSegmentAside(path string) {
	why := &brokenError{"the journal's file has no whole header"}
	id := r.free("journal-" + strings.TrimSuffix(filepath.Base(path), ".seg"))
	r.report(inJournal, filepath.Base(path), why)
	if err := r.buryFile(path, id, "segment", why); err != nil {
		r.report(inJournal, filepath.Base(path), err)
	}
}

// setBadAside makes dead letters of the messages that are not whole. One that
// cannot be made is tried again at the next open: until then its segment is
// neither sealed, nor emptied, nor used again.
func (r *recovery) setBadAside(j *journal, l *loaded) {
	for _, b := range l.bad {
		if l.entries[b.id] != nil {
			// A copy that was torn; or what happened to a message, which then
			// happens again.
			r.report(inJournal, string(b.id), fmt.Errorf("a record at %d of %s is not whole, and is left out", b.off, filepath.Base(b.seg.path)))
			continue
		}
		if !b.isLost() {
			continue
		}
		if err := r.setRecordAside(b); err != nil {
			r.report(inJournal, string(b.id), err)
			b.seg.unsaved = true
		}
	}
}

// isLost is whether what is not whole, and is nowhere else, is to become a dead letter.
func (b *badIn) isLost() bool {
	switch {
	case b.id != "" && b.kind != kindMessage: // of a message that is no more
		return false
	case b.blank && !b.durable: // what was never synced did not reach the disk: nobody was promised it
		return false
	}
	return true
}

// name is what a record is called as a dead letter.
func (b *badIn) name() string {
	if b.id != "" {
		return string(b.id)
	}
	return fmt.Sprintf("journal-%d-%d", b.seg.seq, b.off)
}

func (r *recovery) setRecordAside(b badIn) error {
	id := b.name()
	where := fmt.Sprintf("at %d of %s", b.off, filepath.Base(b.seg.path))
	reason, detail := incomplete, "a record "+where+" is not whole"
	if b.durable {
		reason, detail = "the record "+where+" is not whole", ""
	}
	text := b.text
	var rec *record
	if m, err := decode(b.id, b.meta); b.id != "" && err == nil {
		rec = m
	}
	if r.names[id]&(1<<inDead) != 0 {
		return nil // since an earlier open
	}
	r.report(inJournal, id, fmt.Errorf("%s: %s", reason, detail))
	if err := r.d.entomb(queue.ID(id), rec, text, newNote(queue.KindCorrupt, reason, detail)); err != nil {
		return err
	}
	r.names[id] |= 1 << inDead
	r.found[inDead].dirs = append(r.found[inDead].dirs, id)
	return nil
}

// sealAll lists what is in the segments that had to be read as a whole, so that
// the next open need not. What was bad in them is set aside. The error is that of
// one that can be neither read nor synced: until it is synced all others must stay,
// and it would be there for ever.
func (j *journal) sealAll(l *loaded) error {
	for _, s := range l.unsealed {
		var err error
		if !j.noSync {
			err = s.sync() // the process that wrote it may have been killed before it was synced
		}
		if err != nil && s.unsaved {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		if err == nil && !s.unsaved {
			err = s.seal(!j.noSync)
		}
		if err != nil {
			j.report("journal", "", fmt.Errorf("seal %s: %w", filepath.Base(s.path), err))
			s.uncertain = true
		}
		s.records = nil
	}
	return nil
}

// takeInJournal fills the schedule from the journal. Of a message that lies in
// a directory too, one of the two is removed.
func (r *recovery) takeInJournal(j *journal, l *loaded) {
	for _, id := range slices.Sorted(maps.Keys(l.leased)) {
		if e := l.entries[id]; e != nil {
			r.giveBackInJournal(j, e)
		}
	}
	in := make(map[queue.ID][]place)
	for _, p := range []place{inDead, inCommitted} { // where all have gone by now
		for _, name := range r.found[p].dirs {
			in[queue.ID(name)] = append(in[queue.ID(name)], p)
		}
	}
	for _, e := range l.found {
		if l.entries[e.id] == e && e.place() == inJournal && r.settleDouble(j, e, in[e.id]) {
			r.q.schedule.admit(e)
		}
	}
}

// giveBackInJournal is giveBack for what was in delivery.
func (r *recovery) giveBackInJournal(j *journal, e *entry) {
	rec, err := j.readChecked(e, e.unverified)
	if err != nil {
		r.report(inJournal, string(e.id), err)
		r.passes(err)
		return // it is leased, and then set aside
	}
	if len(rec.Envelope.RcptTo) == 0 {
		r.endInJournal(j, e, rec)
		return
	}
	rec.interrupted()
	if err := j.retry(e, rec); err != nil {
		r.report(inJournal, string(e.id), fmt.Errorf("the attempt is not counted: %w", err))
	}
}

// endInJournal ends a message that nobody is owed any more.
func (r *recovery) endInJournal(j *journal, e *entry, rec *record) {
	refused := rec.rejection()
	if refused == "" {
		if err := j.remove(e); err != nil {
			r.report(inJournal, string(e.id), err)
		}
		return
	}
	if err := j.bury(e, newNote(queue.KindRejected, refused, "")); err != nil {
		r.report(inJournal, string(e.id), err)
		return
	}
	r.found[inDead].dirs = append(r.found[inDead].dirs, string(e.id))
}

// settleDouble decides between a message in the journal and a directory of its
// ID, and reports whether the journal's is the one that stays. What is on its
// way out of the journal is written to dead/ before it is removed here, and
// may be in committed/ since, by a requeue: then the directory is the later
// state. It is not when it is not whole. Another message of that ID gets
// another one.
func (r *recovery) settleDouble(j *journal, e *entry, in []place) bool {
	for _, p := range in {
		d := r.entryAt(p, string(e.id))
		what, err := r.compareWithJournal(j, e, d)
		switch {
		case r.passes(err):
			continue // and the spool is not opened
		case what != unreadable && err != nil:
			r.report(p, string(e.id), err)
			r.renameDouble(p, string(e.id), journalDir) // whatever it is, it is not lost
			continue
		case what == anotherMessage:
			r.renameDouble(p, string(e.id), journalDir)
			continue
		case what == unreadable, what == sameMessage:
			if err != nil {
				r.report(inJournal, string(e.id), err)
			}
			r.report(inJournal, string(e.id), fmt.Errorf("the same message lies in %s/; this copy is removed", p.dir()))
			if err := j.remove(e); err != nil {
				r.report(inJournal, string(e.id), err)
			}
			return false
		}
		r.report(p, string(e.id), errors.New("the journal has the whole message; this one is removed"))
		if err := r.d.trash.take(p, e.id); err != nil {
			r.report(p, string(e.id), err)
		}
		r.drop(p, string(e.id))
	}
	return true
}

// double is what a directory has of a message of its ID that the journal has.
type double int

const (
	notWhole double = iota
	sameMessage
	anotherMessage
	unreadable // what the journal has; the error is why
)

// compareWithJournal holds a directory against the message of its ID in the
// journal. With unreadable the error is that of the journal, else that of a directory
// that cannot be read.
func (r *recovery) compareWithJournal(j *journal, e, d *entry) (double, error) {
	if d.place() == inDead {
		n, err := r.d.readNote(d)
		if err != nil {
			return notWhole, err
		}
		if n.neverAccepted() {
			return notWhole, nil // its way to dead/ was cut short before its reason was there
		}
	}
	rec, err := j.readChecked(e, true)
	if err != nil {
		return unreadable, err
	}
	other, err := r.d.read(d)
	if err == nil {
		err = r.d.check(d, other, true)
	}
	if _, broken := isBroken(err); broken {
		return notWhole, nil
	}
	if err != nil {
		return notWhole, err
	}
	crc := other.crc
	if !other.hasCRC {
		if crc, err = r.d.checksum(r.d.at(d, rawFile)); err != nil {
			return notWhole, err
		}
	}
	if other.Size != rec.Size || crc != rec.crc {
		return anotherMessage, nil
	}
	return sameMessage, nil
}

// lifeOf is the life that a record of kindRemoved names; 0, which none has,
// when it names none.
func lifeOf(meta []byte) uint64 {
	if len(meta) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(meta)
}
