package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// Inspection looks at a spool that no process uses, and changes nothing in it.
// While it is open no process can open the spool. It reads the disk at every
// call. Its methods may be called from any goroutine.
type Inspection struct {
	d    *directory
	t    store
	lock io.Closer
	// journalled is what the journal has, read when it was opened: nobody
	// changes it meanwhile.
	journalled map[queue.ID]*entry
}

// Inspect opens a spool to be looked at. What an earlier process left is shown
// as it lies there: what it had in delivery as leased, what it was receiving
// as drafts. It fails with ErrLocked when a process uses the spool, and when
// there is none in dir.
func Inspect(dir string) (*Inspection, error) { return inspect(dir, vfs.OS{}) }

func inspect(dir string, fsys vfs.FS) (*Inspection, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("diskqueue: %w", err)
	}
	d := newDirectory(fsys, dir, true)
	if _, err := fsys.Stat(d.path(inCommitted)); err != nil {
		return nil, fmt.Errorf("diskqueue: %s is no spool: %w", dir, err)
	}
	lock, err := takeLock(fsys, dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		// A spool that was never opened by us: the Elixir original has no lock
		// file, and making one would change something.
		lock, err = io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	j := newJournal(d, segmentSize, false)
	j.files.readOnly = true
	l, err := j.load()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("diskqueue: journal: %w", err), j.closeFiles(), lock.Close())
	}
	for id := range l.leased {
		if e := l.entries[id]; e != nil {
			e.state = leased
		}
	}
	return &Inspection{d: d, t: tiers{d, j}, lock: lock, journalled: l.entries}, nil
}

// Close lets go of the spool.
func (i *Inspection) Close() error {
	return errors.Join(i.t.(tiers).j.closeFiles(), i.lock.Close())
}

// scan looks at the entries of a place, the journal among them.
func (i *Inspection) scan(p place) ([]scanned, error) {
	if p != inJournal {
		l, err := i.list(p)
		return i.d.scan(p, l.dirs), err
	}
	all := make([]scanned, 0, len(i.journalled))
	for _, e := range i.journalled {
		c := e.copy()
		all = append(all, scanned{entry: &c})
	}
	return all, nil
}

// looked is where entries are, the live ones before the dead.
var looked = [...]place{inJournal, inCommitted, inProcessing, inDead}

// Paused reports whether deliveries are paused. What cannot be read is not.
func (i *Inspection) Paused() bool {
	paused, err := isPaused(i.d.fs, i.d.root)
	return err == nil && paused
}

// Depth counts what there is. Broken entries are counted as what they would be.
func (i *Inspection) Depth() (queue.Depth, error) {
	x := newIndex()
	for _, p := range looked {
		all, err := i.scan(p)
		if err != nil {
			return queue.Depth{}, err
		}
		for n, s := range all {
			s.id = queue.ID(fmt.Sprintf("%d.%d", p, n)) // one ID may be in two places
			x.add(s.entry)
		}
	}
	l, err := i.list(inIncoming)
	if err != nil {
		return queue.Depth{}, err
	}
	d := x.depth()
	d.Drafts = len(l.dirs)
	return d, nil
}

func (i *Inspection) list(p place) (listing, error) {
	l, err := i.d.list(p)
	if errors.Is(err, fs.ErrNotExist) {
		return listing{}, nil // a spool may lack what was never needed
	}
	if err != nil {
		return listing{}, fmt.Errorf("diskqueue: %w", err)
	}
	return l, nil
}

// List yields the entries that match, by ReceivedAt, then ID. A broken entry is
// an error in the sequence, with its ID and state, and the sequence goes on.
func (i *Inspection) List(ctx context.Context, f queue.Filter) iter.Seq2[queue.Entry, error] {
	return func(yield func(queue.Entry, error) bool) {
		var all []scanned
		for _, p := range looked {
			found, err := i.scan(p)
			if err != nil {
				yield(queue.Entry{}, err)
				return
			}
			all = append(all, found...)
		}
		slices.SortFunc(all, func(a, b scanned) int { return byAge(a.entry, b.entry) })
		for _, s := range all {
			if err := ctx.Err(); err != nil {
				yield(queue.Entry{}, err)
				return
			}
			got, err := i.describe(s)
			if err == nil && !f.Match(got) || err != nil && !couldMatch(f, got) {
				continue
			}
			if !yield(got, err) {
				return
			}
		}
	}
}

// couldMatch is Match for an entry of which only ID and state are known.
func couldMatch(f queue.Filter, e queue.Entry) bool {
	return queue.Filter{IDs: f.IDs, States: f.States}.Match(e)
}

func (i *Inspection) describe(s scanned) (queue.Entry, error) {
	err := s.wrong
	if err == nil {
		var got queue.Entry
		if got, err = describe(i.t, s.entry); err == nil {
			return got, nil
		}
	}
	return queue.Entry{ID: s.id, State: s.state.public()}, fmt.Errorf("diskqueue: %s: %w", s.id, err)
}

// Get returns one entry, or queue.ErrNotFound. Of an ID that lies in two places
// it is the live one.
func (i *Inspection) Get(_ context.Context, id queue.ID) (queue.Entry, error) {
	s, err := i.find(id)
	if err != nil {
		return queue.Entry{}, err
	}
	return i.describe(s)
}

func (i *Inspection) find(id queue.ID) (scanned, error) {
	if e := i.journalled[id]; e != nil {
		c := e.copy()
		return scanned{entry: &c}, nil
	}
	if validID(id) {
		for _, p := range []place{inCommitted, inProcessing, inDead} {
			if st, err := i.d.fs.Stat(i.d.path(p, string(id))); err == nil && st.IsDir() {
				return i.d.look(p, id), nil
			}
		}
	}
	return scanned{}, fmt.Errorf("diskqueue: %q: %w", id, queue.ErrNotFound)
}

// Open reads a message as an adapter would. The caller closes it. It returns
// queue.ErrNotFound for an unknown ID.
func (i *Inspection) Open(_ context.Context, id queue.ID) (io.ReadCloser, error) {
	s, err := i.find(id)
	if err != nil {
		return nil, err
	}
	got, err := i.describe(s)
	if err != nil {
		return nil, err
	}
	return queue.NewMessage(got, func() (queue.Raw, error) { return i.t.text(s.entry) }).Open()
}
