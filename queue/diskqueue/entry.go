package diskqueue

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// state is where a message stands, in a byte: there is an entry for each
// message held, so it is kept small.
type state uint8

const (
	ready state = iota
	waiting
	leased
	dead
	states // how many there are
)

func (s state) public() queue.State {
	return [...]queue.State{queue.StateReady, queue.StateWaiting, queue.StateLeased, queue.StateDead}[s]
}

// removal is what says when a dead letter is removed.
type removal uint8

const (
	byOthers    removal = iota // Options.DeadSpentAge, from when it died
	byRejection                // Options.DeadAge, likewise
	byItself                   // its own Keep: at is when
	forEver                    // nothing
)

// die is for an entry that has become the dead letter of n.
func (e *entry) die(n *note) {
	e.state, e.at = dead, n.RejectedAt.UnixMilli()
	switch {
	case n.Keep < 0:
		e.removal = forEver
	case n.Keep > 0:
		e.removal, e.at = byItself, n.RejectedAt.Add(n.Keep).UnixMilli()
	case n.Kind == queue.KindRejected:
		e.removal = byRejection
	default:
		e.removal = byOthers
	}
}

// place is where in the spool an entry lies: in which directory, or the journal. It follows the
// state, save where a rename failed.
type place uint8

const (
	inIncoming place = iota
	inCommitted
	inProcessing
	inDead
	inTrash
	inJournal // in the tier of that name, and in none of the directories
)

func (p place) dir() string {
	return [...]string{"incoming", "committed", "processing", "dead", "trash", journalDir}[p]
}

// entry is what memory holds of a message: no more than it takes to find the
// next one due and to count. The rest is read from the disk when asked for.
type entry struct {
	id       queue.ID
	spot     *spot  // where in the journal, while that is its place; set before others see the entry
	received int64  // milliseconds since 1970
	at       int64  // when it is due, or died, or is to be removed: see removal; likewise
	where    uint32 // the place; by place and setPlace, for it is read while the holder changes it
	state    state
	removal  removal // of a dead one
	// busy: somebody changes it on the disk, and nobody else may.
	busy bool
	// unverified: found on the disk by this process and never read through.
	unverified bool
}

func newEntry(id queue.ID, received time.Time) *entry {
	return &entry{id: id, received: received.UnixMilli()}
}

// place is where the entry lies.
func (e *entry) place() place { return place(atomic.LoadUint32(&e.where)) }

// setPlace is for the tier alone.
func (e *entry) setPlace(p place) { atomic.StoreUint32(&e.where, uint32(p)) }

// copy is for looking at a message that others go on with. It is called under
// the schedule's mutex, which guards all it copies but where.
func (e *entry) copy() entry {
	return entry{id: e.id, spot: e.spot, received: e.received, at: e.at, state: e.state, where: uint32(e.place())}
}

// validID reports whether id can be the name of a message's directory. IDs come
// from operators' keyboards: one that is not a single plain path element must
// never meet a path.
func validID(id queue.ID) bool {
	s := string(id)
	return s != "" && len(s) <= 255 && !strings.ContainsAny(s, "/\x00") && !foreign(s)
}

// foreign reports whether a name is one that others leave in directories:
// .nfs…, .DS_Store, rsync's and editors' files, lost+found.
func foreign(name string) bool {
	return name == "lost+found" || strings.HasPrefix(name, ".")
}

// dueMilli is t in whole milliseconds, rounded up so that nothing is due too
// early. The zero time is 0.
func dueMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
