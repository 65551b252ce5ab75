package diskqueue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// recovery brings into order what an earlier process, another program or an
// operator left in the spool. Whatever it does may itself be cut short: each
// step leaves a state that the next recovery starts from.
//
// An entry that cannot be put right is set aside with a reason and reported; one
// that cannot even be moved is reported and left alone. Neither keeps the
// spool from opening.
type recovery struct {
	q *Queue
	d *directory
	// names tells in which places a name is taken, a bit a place.
	names map[string]uint8
	found [inDead + 1]listing
	moved bool // something was, so that directories want a sync
	// loaded is what the journal's files say; nil when there is no journal.
	loaded *loaded
	// passing is that the process lacks something, such as descriptors, and so
	// cannot tell what is wrong with an entry from what is wrong with itself.
	passing error
}

// recover fills the schedule from the disk. The error is that of a directory or a
// journal that cannot be read, of a sync, or a passing one for which no message is
// to blame.
func (q *Queue) recover() error {
	r := &recovery{q: q, d: q.disk, names: make(map[string]uint8)}
	r.emptyTrash()
	for p := inIncoming; p <= inDead; p++ {
		l, err := r.d.list(p)
		if err != nil {
			return err
		}
		r.found[p] = l
		for _, name := range slices.Concat(l.dirs, l.files) {
			r.names[name] |= 1 << p
		}
	}
	r.setFilesAside()
	r.resolveDoubles()
	r.each(inProcessing, r.giveBack)
	if q.journal != nil {
		var err error
		if r.loaded, err = q.journal.load(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	r.each(inIncoming, r.promote)
	if q.journal != nil {
		if err := r.openJournal(q.journal, r.loaded); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		r.takeInJournal(q.journal, r.loaded)
	}
	r.takeIn(inCommitted)
	r.takeIn(inDead)
	return errors.Join(r.passing, r.sync())
}

// passes reports whether an error is the process's own.
func (r *recovery) passes(err error) bool {
	if kindOf(err) != queue.ErrBusy {
		return false
	}
	r.passing = err
	return true
}

// each calls f for the entries of a place.
func (r *recovery) each(p place, f func(*entry)) {
	for _, name := range r.found[p].dirs {
		e := newEntry(queue.ID(name), unixMilli(0))
		e.setPlace(p)
		f(e)
	}
}

func (r *recovery) report(p place, name string, err error) {
	path := r.d.path(p, name)
	telemetry.Emit(r.q.o.Hooks.SpoolError, telemetry.SpoolError{
		Op: "recover", ID: name, Path: path, Err: fmt.Errorf("diskqueue: recover %s: %w", path, err)})
}

// emptyTrash finishes removals that were cut short.
func (r *recovery) emptyTrash() {
	entries, err := r.d.fs.ReadDir(r.d.path(inTrash))
	if err != nil {
		r.report(inTrash, "", err)
	}
	for _, e := range entries {
		if err := r.d.removeTree(r.d.path(inTrash, e.Name()), asCommitted...); err != nil {
			r.report(inTrash, e.Name(), err)
		}
	}
}

var errForeign = errors.New("not ours; left alone")

// setFilesAside puts what should be a directory into one, in dead/, and tells
// of what others left.
func (r *recovery) setFilesAside() {
	for p := inIncoming; p <= inDead; p++ {
		for _, name := range r.found[p].foreign {
			if name == probeFile {
				if err := r.d.fs.Remove(r.d.path(p, name)); err != nil {
					r.report(p, name, err)
				}
				continue
			}
			r.report(p, name, errForeign)
		}
		for _, name := range r.found[p].files {
			if err := r.wrap(p, name); err != nil {
				r.report(p, name, err)
			}
		}
	}
}

// wrap makes a dead letter of a file. It is built in staging; cut short there,
// it ends in dead/ all the same.
func (r *recovery) wrap(p place, name string) error {
	why := &brokenError{"a file where a message's directory should be"}
	r.report(p, name, why)
	id := name
	if p == inDead || p == inIncoming || r.names[name] != 1<<p {
		id = r.free(name)
	}
	if err := r.buryFile(r.d.path(p, name), id, "entry", why); err != nil {
		return err
	}
	r.names[name] &^= 1 << p
	return nil
}

// buryFile makes a dead letter of a file, which has another name in it.
func (r *recovery) buryFile(path, id, as string, why *brokenError) error {
	e := newEntry(queue.ID(id), unixMilli(0))
	e.setPlace(inIncoming)
	if err := r.d.fs.Mkdir(r.d.at(e)); err != nil {
		return err
	}
	// The reason is there first: without it the next open would take the file for
	// what nobody was told 250 for.
	err := r.d.writeNote(r.d.at(e), newNote(queue.KindCorrupt, why.reason, ""))
	if err == nil {
		err = r.d.fs.Rename(path, r.d.at(e, as))
	}
	if err != nil {
		r.d.unstage(e.id)
		return err
	}
	r.finishBury(e)
	return nil
}

// free finds and takes a name for a second entry of the same ID.
func (r *recovery) free(name string) string {
	for n := 2; ; n++ {
		if second := fmt.Sprintf("%s.%d", name, n); r.names[second] == 0 {
			r.names[second] = 1 << inDead // wherever it will be
			return second
		}
	}
}

// bury sets an entry aside, and takes it in as a dead letter.
func (r *recovery) bury(e *entry, n *note) {
	from := e.place()
	if err := r.d.bury(e, n); err != nil {
		r.report(e.place(), string(e.id), fmt.Errorf("cannot be set aside, and is left where it is: %w", err))
		return
	}
	r.moved = true
	r.names[string(e.id)] = r.names[string(e.id)]&^(1<<from) | 1<<inDead
	r.found[inDead].dirs = append(r.found[inDead].dirs, string(e.id))
}

// corrupt sets aside what is not what it should be, or cannot be read.
func (r *recovery) corrupt(e *entry, err error) {
	r.report(e.place(), string(e.id), err)
	if r.passes(err) {
		return
	}
	reason, broken := isBroken(err)
	if !broken {
		reason = fmt.Sprintf("not usable: %v", err)
	}
	r.bury(e, newNote(queue.KindCorrupt, reason, ""))
}

// giveBack returns what was in the hands of an adapter when its process ended,
// and counts an attempt: it may be what ended it. A dead.json beside it says
// that it was on its way to dead/.
func (r *recovery) giveBack(e *entry) {
	doomed, err := r.d.exists(r.d.at(e, deadFile))
	if err != nil {
		r.corrupt(e, err)
		return
	}
	if doomed {
		r.finishBury(e)
		return
	}
	r.settleNames(e)
	s := r.d.look(inProcessing, e.id)
	if s.wrong != nil {
		r.corrupt(e, s.wrong)
		return
	}
	if !s.settled {
		if err := r.countAttempt(s.entry); err != nil {
			r.report(inProcessing, string(e.id), fmt.Errorf("the attempt is not counted: %w", err))
		}
	}
	if err := r.d.move(e, inCommitted); err != nil {
		// It is as good here: a lease takes it from where it lies.
		r.report(inProcessing, string(e.id), err)
		s.state = ready
		r.q.schedule.admit(s.entry)
		return
	}
	r.moved = true
	r.found[inCommitted].dirs = append(r.found[inCommitted].dirs, string(e.id))
}

func (r *recovery) countAttempt(e *entry) error {
	rec, err := r.d.read(e)
	if err != nil {
		return err
	}
	rec.interrupted()
	return r.d.update(e, rec)
}

// finishBury ends a move to dead/ that was cut short, perhaps by a kill right before
// what is in the directory was certain to be there.
func (r *recovery) finishBury(e *entry) {
	err := r.d.syncDir(r.d.at(e))
	if err == nil {
		err = r.d.move(e, inDead)
	}
	if err == nil {
		err = r.d.syncDir(r.d.path(inDead))
	}
	if err != nil {
		r.report(e.place(), string(e.id), err)
		return
	}
	r.moved = true
	r.names[string(e.id)] |= 1 << inDead
	r.found[inDead].dirs = append(r.found[inDead].dirs, string(e.id))
}

// settleNames gives final names to files that have only their temporary ones,
// as the Elixir original could leave them. What is then not whole is found
// out by whoever reads it.
func (r *recovery) settleNames(e *entry) {
	for _, name := range [][2]string{{rawTmp, rawFile}, {metaTmp, metaFile}} {
		if there, err := r.d.exists(r.d.at(e, name[1])); there || err != nil {
			continue
		}
		err := r.d.fs.Rename(r.d.at(e, name[0]), r.d.at(e, name[1]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.report(e.place(), string(e.id), err)
		}
	}
}

// promote makes a message of a staged entry that is whole: its client was told
// nothing, or did not hear it. What is not whole never had a 250.
func (r *recovery) promote(e *entry) {
	doomed, err := r.d.exists(r.d.at(e, deadFile))
	if err != nil {
		r.corrupt(e, err)
		return
	}
	if doomed {
		r.finishBury(e)
		return
	}
	r.settleNames(e)
	if r.loaded != nil && r.dropStaged(r.q.journal, r.loaded, e) {
		return
	}
	if err := r.whole(e); err != nil {
		if isStorage(err) {
			r.corrupt(e, err) // it may be whole all the same
			return
		}
		r.report(inIncoming, string(e.id), fmt.Errorf("%s: %w", incomplete, err))
		r.bury(e, newNote(queue.KindCorrupt, incomplete, err.Error()))
		return
	}
	err = r.syncStaged(e)
	if err == nil {
		err = r.d.move(e, inCommitted)
	}
	if err != nil {
		r.report(inIncoming, string(e.id), fmt.Errorf("left where it is: %w", err))
		return
	}
	r.moved = true
	r.found[inCommitted].dirs = append(r.found[inCommitted].dirs, string(e.id))
}

// isStorage reports whether an error comes from the system, and not from what
// was read, or was not there to be read.
func isStorage(err error) bool {
	var no syscall.Errno
	return errors.As(err, &no) && !errors.Is(err, fs.ErrNotExist)
}

// whole is nil for a staged entry that lacks nothing.
func (r *recovery) whole(e *entry) error {
	b, err := r.d.readFile(r.d.at(e, metaFile))
	if err != nil {
		return err
	}
	rec, err := decode(e.id, b)
	if err != nil {
		return err
	}
	if !rec.hasSize {
		return errors.New("meta.json gives no size")
	}
	if len(rec.Envelope.RcptTo) == 0 {
		return errors.New("no recipients")
	}
	return r.d.check(e, rec, true)
}

// syncStaged makes durable what may be in the system's memory alone.
func (r *recovery) syncStaged(e *entry) error {
	for _, name := range []string{rawFile, metaFile} {
		f, err := r.d.fs.Reopen(r.d.at(e, name))
		if err != nil {
			return err
		}
		if err := errors.Join(r.d.syncFile(f), f.Close()); err != nil {
			return err
		}
	}
	return r.d.syncDir(r.d.at(e))
}

// takeIn fills the schedule from a place whose entries stay there.
func (r *recovery) takeIn(p place) {
	for _, s := range r.d.scan(p, r.found[p].dirs) {
		if s.wrong != nil && p != inDead { // its files may only want their names
			r.settleNames(s.entry)
			s = r.d.look(p, s.id)
		}
		switch {
		case s.wrong != nil && p == inDead:
			r.report(p, string(s.id), s.wrong)
			r.passes(s.wrong)
		case s.wrong != nil:
			r.corrupt(s.entry, s.wrong)
		case s.settled && s.refused == "":
			// Delivered to all, and the end of it was not written.
			if err := r.d.remove(s.entry); err != nil {
				r.report(p, string(s.id), err)
			}
		case s.settled:
			r.bury(s.entry, newNote(queue.KindRejected, s.refused, ""))
		default:
			if s.requeued {
				if err := r.d.forgetDeath(s.entry); err != nil {
					r.report(p, string(s.id), err)
				}
			}
			r.q.schedule.admit(s.entry)
		}
	}
}

// sync makes the moves durable.
func (r *recovery) sync() error {
	if !r.moved {
		return nil
	}
	for p := inIncoming; p <= inDead; p++ {
		if err := r.d.syncDir(r.d.path(p)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(r.d.path(p)), err)
		}
	}
	return nil
}
