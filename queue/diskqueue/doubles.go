package diskqueue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/incoming-mx/incoming/queue"
)

// resolveDoubles deals with one ID in two places. With the same text it is one
// message that a power cut, or a copy from a backup, left under both: the
// later state wins. With different texts both stay, one of them under another
// ID.
func (r *recovery) resolveDoubles() {
	for p := inIncoming; p <= inDead; p++ {
		for _, name := range slices.Clone(r.found[p].dirs) {
			at := r.names[name]
			if at&(at-1) != 0 && at>>(p+1) == 0 { // in several, of which p is the last
				r.resolve(name)
			}
		}
	}
}

func (r *recovery) resolve(name string) {
	var different []place
	for _, p := range []place{inDead, inProcessing, inCommitted, inIncoming} { // the later state first
		if r.names[name]&(1<<p) == 0 {
			continue
		}
		same := slices.IndexFunc(different, func(winner place) bool { return r.oneMessage(winner, p, name) })
		if same < 0 {
			different = append(different, p)
			continue
		}
		r.report(p, name, fmt.Errorf("the same message lies in %s/; this copy is removed", different[same].dir()))
		if err := r.d.trash.take(p, queue.ID(name)); err != nil {
			r.report(p, name, err)
		}
		r.drop(p, name)
	}
	if r.passing != nil {
		return // which they are cannot be told
	}
	r.rename(name, different)
}

// rename leaves the ID to the entry that rests where it is, and gives another
// one to what is moved. A live message comes first, for adapters may know it.
func (r *recovery) rename(name string, in []place) {
	if len(in) < 2 {
		return
	}
	rest := []place{inCommitted, inDead, inProcessing, inIncoming}
	keeper := rest[slices.IndexFunc(rest, func(p place) bool { return slices.Contains(in, p) })]
	for _, p := range in {
		if p == keeper {
			continue
		}
		r.renameDouble(p, name, keeper.dir())
	}
}

// renameDouble gives an entry another ID, for its own is that of another message.
func (r *recovery) renameDouble(p place, name, other string) {
	second := r.free(name)
	r.report(p, name, fmt.Errorf("another message of that ID lies in %s/; this one is now %s", other, second))
	r.drop(p, name)
	if err := r.d.fs.Rename(r.d.path(p, name), r.d.path(p, second)); err != nil {
		r.report(p, name, err)
		return
	}
	r.moved = true
	r.found[p].dirs = append(r.found[p].dirs, second)
}

func (r *recovery) drop(p place, name string) {
	r.names[name] &^= 1 << p
	r.found[p].dirs = slices.DeleteFunc(r.found[p].dirs, func(n string) bool { return n == name })
}

// oneMessage reports whether two entries of a name hold the same text, and the
// winner has all that the other has. What cannot be read is not the same.
func (r *recovery) oneMessage(winner, other place, name string) bool {
	w, o := r.entryAt(winner, name), r.entryAt(other, name)
	if _, err := r.d.read(w); err != nil {
		if _, err := r.d.read(o); err == nil || r.passes(err) {
			return false
		}
	}
	same, err := r.sameText(w, o)
	if err != nil {
		r.passes(err)
	}
	return err == nil && same
}

func (r *recovery) entryAt(p place, name string) *entry {
	e := newEntry(queue.ID(name), unixMilli(0))
	e.setPlace(p)
	return e
}

func (r *recovery) sameText(a, b *entry) (same bool, err error) {
	fa, err := r.openText(a)
	if err != nil {
		return false, err
	}
	defer fa.Close() // only read from
	fb, err := r.openText(b)
	if err != nil {
		return false, err
	}
	defer fb.Close() // likewise
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil, nil
		}
	}
}

// openText opens the text under either name: in staging it may have no other.
func (r *recovery) openText(e *entry) (io.ReadCloser, error) {
	f, err := r.d.fs.Open(r.d.at(e, rawFile))
	if err == nil {
		return f, nil
	}
	if t, errTmp := r.d.fs.Open(r.d.at(e, rawTmp)); errTmp == nil {
		return t, nil
	} else {
		return nil, errors.Join(err, errTmp)
	}
}
