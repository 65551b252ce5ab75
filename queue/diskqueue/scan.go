package diskqueue

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// readers is how many entries are read at once when a spool is looked through.
const readers = 8

// scanned is what was found where an entry lies.
type scanned struct {
	*entry
	// wrong is why the entry is not what it should be; nil when it is.
	wrong error
	// settled says that nobody is owed it any more: refused is why the last
	// refused recipient was, "" when all were delivered.
	settled bool
	refused string
	// requeued: a dead.json lies with a message that is not dead.
	requeued bool
}

// listing is the names in a place.
type listing struct {
	dirs    []string // the entries
	files   []string // what should be a directory and is not
	foreign []string // what others left there
}

func (d *directory) list(p place) (listing, error) {
	var l listing
	entries, err := d.fs.ReadDir(d.path(p))
	for _, e := range entries {
		switch name := e.Name(); {
		case foreign(name):
			l.foreign = append(l.foreign, name)
		case e.IsDir():
			l.dirs = append(l.dirs, name)
		default:
			l.files = append(l.files, name)
		}
	}
	return l, err
}

// scan looks at entries of a place, several at a time, in the order of names.
func (d *directory) scan(p place, names []string) []scanned {
	found := make([]scanned, len(names))
	var wg sync.WaitGroup
	for first := range min(readers, len(names)) {
		wg.Go(func() {
			for i := first; i < len(names); i += readers {
				found[i] = d.look(p, queue.ID(names[i]))
			}
		})
	}
	wg.Wait()
	return found
}

// look reads as much of an entry as memory keeps.
func (d *directory) look(p place, id queue.ID) scanned {
	s := scanned{entry: newEntry(id, time.Time{})}
	s.setPlace(p)
	if p == inDead {
		s.wrong = d.lookDead(s.entry)
		return s
	}
	r, err := d.load(s.entry)
	if err != nil {
		s.wrong = err
		return s
	}
	s.received = r.ReceivedAt.UnixMilli()
	if s.at = dueMilli(r.NextAttempt); s.at > time.Now().UnixMilli() {
		s.state = waiting
	}
	if p == inProcessing {
		s.state = leased
	}
	s.unverified = r.hasCRC
	if len(r.Envelope.RcptTo) == 0 {
		if len(r.Settled) == 0 {
			s.wrong = &brokenError{"no recipients"}
		}
		s.settled, s.refused = true, r.rejection()
	}
	if _, err := d.fs.Stat(d.at(s.entry, deadFile)); err == nil {
		s.requeued = true
	}
	return s
}

// load reads an entry that is to be delivered, and holds its text against it.
func (d *directory) load(e *entry) (*record, error) {
	e.received = d.modified(e)
	r, err := d.read(e)
	if err != nil {
		return nil, err
	}
	return r, d.check(e, r, false)
}

// lookDead never fails for what is wrong with a dead letter, only for what
// cannot be read.
func (d *directory) lookDead(e *entry) error {
	e.state = dead
	e.received = d.modified(e)
	e.at = e.received
	n, err := d.readNote(e)
	if err != nil {
		return err
	}
	e.die(n)
	r, err := d.read(e)
	switch {
	case err == nil:
		e.received = r.ReceivedAt.UnixMilli()
	case kindOf(err) == queue.ErrBusy:
		return err // it says nothing of the letter
	}
	return nil
}

// modified is when the text of an entry was last written, for an entry that
// does not say when it came in.
func (d *directory) modified(e *entry) int64 {
	st, err := d.fs.Stat(d.at(e, rawFile))
	if err != nil {
		st, err = d.fs.Stat(d.at(e))
	}
	if err != nil {
		return time.Now().UnixMilli()
	}
	return st.ModTime().UnixMilli()
}

func (d *directory) exists(name string) (bool, error) {
	_, err := d.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
