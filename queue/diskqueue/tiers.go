package diskqueue

import (
	"errors"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// tiers is the journal and the directories as one. A message is where its entry
// says; a new one goes into the journal if that takes it.
type tiers struct {
	d *directory
	j *journal
}

var _ store = tiers{}

func (t tiers) of(e *entry) tier {
	if e.place() == inJournal {
		return t.j
	}
	return t.d
}

func (t tiers) stage(id queue.ID) (vfs.File, error) { return t.d.stage(id) }
func (t tiers) unstage(id queue.ID)                 { t.d.unstage(id) }

func (t tiers) commit(e *entry, r *record, b *body) error {
	if t.j.takes(b) {
		if err := t.j.commit(e, r, b); !errors.Is(err, errTooLong) {
			return err
		}
	}
	return t.d.commit(e, r, b)
}

func (t tiers) lease(e *entry) (*record, error)   { return t.of(e).lease(e) }
func (t tiers) claim(e *entry) error              { return t.of(e).claim(e) }
func (t tiers) release(e *entry, r *record) error { return t.of(e).release(e, r) }
func (t tiers) update(e *entry, r *record) error  { return t.of(e).update(e, r) }
func (t tiers) retry(e *entry, r *record) error   { return t.of(e).retry(e, r) }
func (t tiers) bury(e *entry, n *note) error      { return t.of(e).bury(e, n) }
func (t tiers) remove(e *entry) error             { return t.of(e).remove(e) }
func (t tiers) verify(e *entry, r *record) error  { return t.d.verify(e, r) }
func (t tiers) still(id queue.ID) func()          { return t.d.still(id) }
func (t tiers) read(e *entry) (*record, error)    { return t.of(e).read(e) }
func (t tiers) readNote(e *entry) (*note, error)  { return t.d.readNote(e) }
func (t tiers) text(e *entry) (queue.Raw, error)  { return t.of(e).text(e) }
func (t tiers) size(e *entry) int64               { return t.d.size(e) }

// requeue waits until the journal has it on the disk that the message is no more
// there: what becomes of it from now on is said in its directory, and a power cut
// must not bring back how it was before.
func (t tiers) requeue(e *entry, r *record) error {
	if err := t.j.said(e.id); err != nil {
		return err
	}
	return t.d.requeue(e, r)
}
