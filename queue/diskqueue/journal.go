package diskqueue

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

const (
	journalDir = "journal"

	// segmentSize is the size of a segment's file. Bigger ones are emptied
	// later and make a longer open; smaller ones are sealed more often.
	segmentSize = 8 << 20

	// mostBatch is how many octets are written at one go. The buffer for them is
	// kept: given back whenever there is nothing to do, which with a hundred
	// sessions is after each batch, it took an eighth of a message's processor
	// time to have it again, most of that in the garbage collector.
	mostBatch = 1 << 20

	// mostMoved is how many octets of a segment that is being emptied are
	// moved before those that wait have their turn.
	mostMoved = 256 << 10

	// syncWithin is when what nobody waits for is synced at the latest, and how
	// often is looked again at what could not be done, or not yet.
	syncWithin = time.Second

	// mostDraining is how many segments are left to drain by themselves at once.
	// Delivery in order wants one or two, and the acks as many; delivery in any
	// order takes something from all of them all the time, and none comes to rest.
	mostDraining = 4

	// mostFree is how many free segments are kept.
	mostFree = 4

	// mostSegment is the longest segment that is taken for one.
	mostSegment = 1 << 30

	// mostRecent is how many records are remembered between their commit and
	// their lease, so that these need not be read; and mostRemembered the
	// longest meta of one.
	mostRecent     = 1024
	mostRemembered = 4096
)

// spot is where a message lies in the journal. It is guarded by the journal's
// mutex; the journal's goroutine alone changes it.
type spot struct {
	seg            *segment // nil: it is no more
	metaSeg        *segment // nil: its meta is that of its own record
	off, n         uint32
	metaOff, metaN uint32
}

// journal is the tier of small messages: each is a record in a segment, beside
// many others, and so is all that happens to it. One goroutine writes: it takes
// what has been asked for since it last looked, writes that at one go, and
// syncs once for all who wait.
//
// It sets messages aside in directories, by way of d.
type journal struct {
	d           *directory
	fs          vfs.FS
	files       openFiles
	dir         string
	segmentSize int64 // of a new one
	// restless is how long a segment of which little counts is left alone after
	// something in it ceased to count: one that is being delivered from will soon
	// be free by itself.
	restless time.Duration
	noSync   bool
	commits  bool // whether new messages may come; else it only empties itself
	// report is told of what the storage refused, complain of a message at fault.
	report, complain func(op string, id queue.ID, err error)
	// distrust is told of a message that cannot be read, though nobody has
	// leased it.
	distrust func(*spot, error)

	// What has been asked for.
	requests sync.Pool // of *request
	reqMu    sync.Mutex
	asked    *sync.Cond
	pending  []*request
	syncDue  bool
	closing  bool
	done     chan struct{} // closed when the goroutine has ended; nil: there is none

	// mu guards what readers need: spots, and the free segments.
	mu     sync.Mutex
	free   []*segment
	making sync.Mutex // one at a time makes segments
	number int        // of the last file made; guarded by making
	stock  chan struct{}
	hurry  chan struct{} // somebody waits for the one that is made
	short  atomic.Bool   // the last one could not be made

	// doubted is of *spot: what could not be read when it was to be moved, and is read
	// whole when it is leased.
	doubted sync.Map

	frames sync.Pool // of *[]byte; records are read into them, and the meta of one to be written is put there

	recentMu sync.Mutex
	recent   map[queue.ID]*record
	order    []queue.ID // of recent; a ring
	next     int

	// The goroutine's own.
	seq      uint64
	active   *segment
	lives    map[*segment]struct{} // those that are not free
	taken    []*request            // to be used again
	batch    []*request            // what is in buf
	buf      []byte
	again    []*request // messages that are no more, which could not be written
	why      error      // of the last thing that could not be
	told     error      // of which was reported in this turn
	unsynced bool
	timer    *time.Timer
	armed    bool                  // the timer is, or write has not yet seen that it rang
	now      time.Time             // of the last batch
	leased   map[queue.ID]*segment // where it says that a message is in delivery
	checked  map[*segment]struct{} // what may have become free or nearly so
	draining map[*segment]struct{} // what is nearly so, and less and less of it counts
	moving   *segment
	moved    int // of its spots
	pressed  bool
	did      deeds // for tests
}

var _ tier = (*journal)(nil)

// deeds is how often a segment was emptied, its life ended, it was emptied
// because there was no room for another, and how many of its records about
// messages that lay elsewhere were written again.
type deeds struct{ emptied, ended, relieved, owed int }

// request is a record to be written.
type request struct {
	kind           kind
	id             queue.ID
	sp             *spot
	meta           []byte
	body           *body  // of a message
	text           []byte // of one that is moved, in place of body
	received, next int64
	target         *segment // of kindRemoved: where it lay,
	life           uint64   // in which life
	last           *segment // of kindRemoved that waits for room: where its latest meta lay, if not there,
	lastLife       uint64   // in which life
	done           chan error
	waits          bool // somebody waits for it to be written
	durable        bool // and synced
	moves          bool // it is a copy of our own

	off, n uint32 // where it was written
}

func newJournal(d *directory, size int64, commits bool) *journal {
	j := &journal{
		d:           d,
		fs:          d.fs,
		files:       openFiles{fs: d.fs},
		dir:         filepath.Join(d.root, journalDir),
		segmentSize: size,
		noSync:      d.noSync,
		commits:     commits,
		stock:       make(chan struct{}, 1),
		hurry:       make(chan struct{}, 1),
		recent:      make(map[queue.ID]*record),
		order:       make([]queue.ID, mostRecent),
		lives:       make(map[*segment]struct{}),
		leased:      make(map[queue.ID]*segment),
		checked:     make(map[*segment]struct{}),
		draining:    make(map[*segment]struct{}),
	}
	j.asked = sync.NewCond(&j.reqMu)
	j.frames.New = func() any { return new([]byte) }
	j.requests.New = func() any { return &request{done: make(chan error, 1)} }
	return j
}

// takes reports whether a message may go into the journal: one that was never big
// enough for a file. commit looks at its meta.
func (j *journal) takes(b *body) bool { return j.commits && b.file == nil }

// mostRecord is the longest record: a quarter of a segment, so that no segment
// is left half empty for one that does not fit.
func (j *journal) mostRecord() int64 { return (j.segmentSize - firstRecord) / 4 }

// errTooLong sends a message to the directories.
var errTooLong = errors.New("diskqueue: the record is too long for the journal")

// commit is one record, durable when it returns.
func (j *journal) commit(e *entry, r *record, b *body) error {
	r.Size, r.hasSize = b.size, true
	r.crc, r.hasCRC = b.crc, true
	buf := j.frames.Get().(*[]byte)
	defer j.giveBack(buf)
	meta, err := r.encodeInto(*buf)
	if err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	*buf = meta
	if frameLen(r.ID, int64(len(meta)), b.size) > j.mostRecord() {
		return errTooLong
	}
	sp := new(spot)
	err = j.wait(request{kind: kindMessage, durable: true, id: r.ID, sp: sp, meta: meta, body: b,
		received: r.ReceivedAt.UnixMilli(), next: dueMilli(r.NextAttempt)})
	if err != nil {
		return err
	}
	e.spot = sp
	e.setPlace(inJournal)
	if len(meta) <= mostRemembered {
		j.remember(r)
	}
	return nil
}

// lease takes what it needs from memory when the message has just come in.
func (j *journal) lease(e *entry) (*record, error) {
	if _, doubted := j.doubted.LoadAndDelete(e.spot); doubted {
		e.unverified = true
	}
	r := j.recall(e.id)
	if r == nil || e.unverified {
		var err error
		if r, err = j.readChecked(e, e.unverified); err != nil {
			return nil, err
		}
	}
	e.unverified = false
	return r, j.claim(e)
}

// claim says that a message is in delivery. Nobody waits for that. What is
// remembered of it is from now on what its holder knows.
func (j *journal) claim(e *entry) error {
	j.recall(e.id)
	j.ask(request{kind: kindLeased, id: e.id, sp: e.spot})
	return nil
}

// release says that a message is in the queue as it is. Nobody waits for that.
func (j *journal) release(e *entry, r *record) error {
	q, err := j.updateOf(kindRetried, e, r)
	if err != nil {
		return err
	}
	j.ask(q)
	return nil
}

func (j *journal) update(e *entry, r *record) error {
	q, err := j.updateOf(kindUpdate, e, r)
	if err != nil {
		return err
	}
	q.durable = true
	return j.wait(q)
}

func (j *journal) retry(e *entry, r *record) error {
	q, err := j.updateOf(kindRetried, e, r)
	if err != nil {
		return err
	}
	return j.wait(q) // until it is written, for the next lease may come at once
}

func (j *journal) updateOf(k kind, e *entry, r *record) (request, error) {
	meta, err := r.encode()
	if err != nil {
		return request{}, fmt.Errorf("meta: %w", err)
	}
	if frameLen(e.id, int64(len(meta)), 0) > j.mostRecord() {
		return request{}, fmt.Errorf("meta of %d octets: %w", len(meta), errTooLong)
	}
	return request{kind: k, id: e.id, sp: e.spot, meta: meta,
		received: r.ReceivedAt.UnixMilli(), next: dueIn(r)}, nil
}

// nobodyOwed is when a message is due of which nothing is left to be done but
// to write that it is no more.
const nobodyOwed = math.MinInt64

func dueIn(r *record) int64 {
	if len(r.Envelope.RcptTo) == 0 && len(r.Settled) > 0 {
		return nobodyOwed
	}
	return dueMilli(r.NextAttempt)
}

// remove ends a message. Nobody waits for that: what a power cut brings back is
// delivered again.
func (j *journal) remove(e *entry) error {
	mu := j.d.mutexOf(e.id)
	mu.Lock()
	defer mu.Unlock()
	j.ask(request{kind: kindRemoved, id: e.id, sp: e.spot})
	e.setPlace(inTrash)
	return nil
}

// bury writes a dead letter's directory, durably, and then ends the message
// here. A power cut in between leaves it in both, and then it is dead.
func (j *journal) bury(e *entry, n *note) error {
	f, unread := j.readFrame(e.spot, new([]byte))
	r, err := j.readChecked(e, e.unverified)
	whole := unread == nil && err == nil
	if err := j.excuse(e, n, errors.Join(unread, err)); err != nil {
		return err
	}
	if err != nil && f.meta != nil { // what it was before it last changed
		if first, derr := decode(e.id, f.meta); derr == nil {
			r = first
		}
	}
	mu := j.d.mutexOf(e.id)
	mu.Lock()
	defer mu.Unlock()
	err = j.d.entomb(e.id, r, f.text, n)
	if errors.Is(err, fs.ErrExist) && whole && j.d.trash.take(inIncoming, e.id) == nil {
		err = j.d.entomb(e.id, r, f.text, n) // what was in the way is what an earlier burial of it left
	}
	if err != nil {
		return err
	}
	j.ask(request{kind: kindRemoved, id: e.id, sp: e.spot})
	e.setPlace(inDead)
	return nil
}

// excuse is nil when a message was read, or when it is at fault and not the storage,
// so that what there is of it is buried.
func (j *journal) excuse(e *entry, n *note, err error) error {
	if err == nil {
		return nil
	}
	if kindOf(err) != queue.ErrSick {
		return err
	}
	if _, broken := isBroken(err); !broken && (errors.Is(err, fs.ErrNotExist) || j.d.works() != nil) {
		return err
	}
	if n.Kind != queue.KindCorrupt { // else it has been told
		j.complain("bury", e.id, err)
	}
	return nil
}

func (j *journal) read(e *entry) (*record, error) { return j.readChecked(e, false) }

// readChecked reads what is known of a message; if asked, with the checksums of
// all of it.
func (j *journal) readChecked(e *entry, whole bool) (*record, error) {
	buf := j.frames.Get().(*[]byte)
	defer j.giveBack(buf)
	meta, err := j.readMeta(e.spot, whole, buf)
	if err != nil {
		return nil, err
	}
	r, err := decode(e.id, meta)
	if err != nil {
		return nil, &brokenError{err.Error()}
	}
	r.State = e.state.public()
	if r.badTime {
		r.ReceivedAt = unixMilli(e.received)
	}
	return r, nil
}

// remember keeps a record until its message is leased, or many others came.
func (j *journal) remember(r *record) {
	j.recentMu.Lock()
	defer j.recentMu.Unlock()
	delete(j.recent, j.order[j.next])
	j.recent[r.ID], j.order[j.next] = r, r.ID
	j.next = (j.next + 1) % len(j.order)
}

// recall returns a record of its own to the one who leases: who has committed it
// may be reading the other.
func (j *journal) recall(id queue.ID) *record {
	j.recentMu.Lock()
	defer j.recentMu.Unlock()
	r := j.recent[id]
	if r == nil {
		return nil
	}
	delete(j.recent, id)
	own := *r
	return &own
}

// hold returns the segment that a record lies in, which then stays as it is
// until its mu is let go of.
func (j *journal) hold(sp *spot, meta bool) (seg *segment, off, n int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	seg, off, n = sp.seg, int64(sp.off), int64(sp.n)
	if seg == nil {
		return nil, 0, 0, fmt.Errorf("the message is no more: %w", fs.ErrNotExist)
	}
	if meta && sp.metaSeg != nil {
		seg, off, n = sp.metaSeg, int64(sp.metaOff), int64(sp.metaN)
	}
	seg.mu.RLock()
	return seg, off, n, nil
}

// isUpdated reports whether the meta of a message is not in its own record.
func (j *journal) isUpdated(sp *spot) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sp.metaSeg != nil
}

const (
	// firstRead is how much of a record is read in the hope that its meta is in it.
	firstRead = 1024
	// mostReused is the largest buffer that is used again.
	mostReused = 64 << 10
)

// giveBack takes a buffer of frames back.
func (j *journal) giveBack(buf *[]byte) {
	if cap(*buf) <= mostReused {
		j.frames.Put(buf)
	}
}

// grown returns n octets of a buffer, which is made larger if it has to be.
func grown(buf *[]byte, n int64) []byte {
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	return (*buf)[:n]
}

// readMeta is the meta of a message as it was last written, until buf is given
// back.
func (j *journal) readMeta(sp *spot, whole bool, buf *[]byte) ([]byte, error) {
	if whole { // the text's checksum is in the message's own record
		updated := j.isUpdated(sp) // asked first: a copy made meanwhile has the update in it
		own, err := j.readFrame(sp, buf)
		if err != nil {
			return nil, err
		}
		if !updated {
			return own.meta, nil
		}
	}
	seg, off, n, err := j.hold(sp, true)
	if err != nil {
		return nil, err
	}
	defer seg.mu.RUnlock()
	if whole {
		f, err := seg.readFrame(grown(buf, n), off)
		return f.meta, err
	}
	b := grown(buf, min(n, firstRead))
	if err := seg.readAt(b, off); err != nil {
		return nil, err
	}
	h, ok := decodeFrameHeader(b, seg.salt)
	if !ok || h.length != n {
		return nil, seg.notRecord(off)
	}
	end := frameSize + h.idLen + h.metaLen
	if end > int64(len(b)) {
		head := int64(len(b))
		b = append(b, make([]byte, end-head)...)
		if err := seg.readAt(b[head:], off+head); err != nil {
			return nil, err
		}
	}
	return b[frameSize+h.idLen : end], nil
}

func (s *segment) notRecord(off int64) error {
	return &brokenError{fmt.Sprintf("%s/%s has no whole record at %d", journalDir, filepath.Base(s.path), off)}
}

// readFrame reads the message's own record into buf. With a *brokenError it
// returns what there is of it.
func (j *journal) readFrame(sp *spot, buf *[]byte) (frame, error) {
	seg, off, n, err := j.hold(sp, false)
	if err != nil {
		return frame{}, err
	}
	defer seg.mu.RUnlock()
	return seg.readFrame(grown(buf, n), off)
}

// readFrame reads the record at off into b, which is as long as that. It
// returns, with an error, what there is of it, but for an error of the
// process's own.
func (s *segment) readFrame(b []byte, off int64) (frame, error) {
	holes, err := s.salvage(b, off)
	if err != nil {
		return frame{}, err
	}
	h, ok := decodeFrameHeader(b, s.salt)
	if !ok || h.length != int64(len(b)) {
		return frame{text: b}, cmp.Or(holes, s.notRecord(off))
	}
	f, whole := decodeFrame(b, h)
	if !whole {
		return f, cmp.Or(holes, s.notRecord(off))
	}
	return f, nil
}

// text opens the text of a message.
func (j *journal) text(e *entry) (queue.Raw, error) {
	seg, off, n, err := j.hold(e.spot, false)
	if err != nil {
		return nil, err
	}
	defer seg.mu.RUnlock()
	b := make([]byte, min(n, headSize))
	if err := seg.readAt(b, off); err != nil {
		return nil, err
	}
	h, ok := decodeFrameHeader(b, seg.salt)
	if !ok || h.length != n {
		return nil, seg.notRecord(off)
	}
	return &journalText{j: j, sp: e.spot, n: n - frameSize - h.idLen - h.metaLen}, nil
}

// journalText reads the text of a message wherever its record is moved, and the
// text is at its end.
type journalText struct {
	j  *journal
	sp *spot
	n  int64
}

// ReadAt implements io.ReaderAt.
func (t *journalText) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= t.n {
		return 0, io.EOF
	}
	short := off+int64(len(p)) > t.n
	p = p[:min(int64(len(p)), t.n-off)]
	seg, at, n, err := t.j.hold(t.sp, false)
	if err != nil {
		return 0, err
	}
	defer seg.mu.RUnlock()
	if err := seg.readAt(p, at+n-t.n+off); err != nil {
		return 0, err
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// Close implements io.Closer. There is nothing to let go of.
func (t *journalText) Close() error { return nil }

// ask asks for a record that nobody waits for.
func (j *journal) ask(r request) { j.submit(j.request(r)) }

// wait asks for a record and returns when it is written, and synced if it is to
// be durable.
func (j *journal) wait(r request) error {
	r.waits = true
	q := j.request(r)
	j.submit(q)
	err := <-q.done
	q.meta, q.body = nil, nil // they are the caller's again
	j.requests.Put(q)
	return err
}

func (j *journal) request(r request) *request {
	q := j.requests.Get().(*request)
	r.done = q.done
	*q = r
	return q
}

func (j *journal) submit(q *request) {
	j.reqMu.Lock()
	j.pending = append(j.pending, q)
	if len(j.pending) == 1 {
		j.asked.Signal()
	}
	j.reqMu.Unlock()
}

// said returns when what was asked for before is on the disk. The error is why
// there is something that was said of the message and is not.
func (j *journal) said(id queue.ID) error { return j.wait(request{id: id}) }

// poke lets the goroutine look again at what it could not do: it asks for
// nothing.
func (j *journal) poke() { j.ask(request{}) }
