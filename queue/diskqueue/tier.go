package diskqueue

import (
	"errors"
	"fmt"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// tier keeps the bytes of messages. It is told of an entry by whoever holds it
// (leased it, or marked it busy), so that no two calls concern one entry at
// once, and it alone sets its place. Its errors carry the system's, and no
// verdict on them.
type tier interface {
	// lease reads a message and sets it aside as in delivery. The error is a
	// *brokenError when the message is not what it should be.
	lease(e *entry) (*record, error)
	// claim is lease for a message just committed, which need not be read.
	claim(e *entry) error
	// release undoes lease. r is the record as it is.
	release(e *entry, r *record) error
	// update writes a changed record, durably.
	update(e *entry, r *record) error
	// retry writes a changed record and releases. What a power cut takes back
	// of that is an attempt.
	retry(e *entry, r *record) error
	// bury makes a dead letter, durably. Of a message that cannot be read though
	// the storage works it is made of what can be read.
	bury(e *entry, n *note) error
	// remove ends a message.
	remove(e *entry) error

	// read and text look at a message. The entry may be a copy, made while the
	// message is kept still.
	read(e *entry) (*record, error)
	text(e *entry) (queue.Raw, error)
}

// store is one tier or both together, as a queue needs it.
type store interface {
	tier

	// stage makes a place for the text of a draft that has outgrown memory.
	// The caller closes the file.
	stage(id queue.ID) (vfs.File, error)
	// unstage removes what stage made.
	unstage(id queue.ID)
	// commit makes a message durable, and says in e where it is. It closes
	// b's file, and after an error it has removed what it could of the
	// message.
	commit(e *entry, r *record, b *body) error
	// requeue makes a dead letter live again under a changed record, durably.
	requeue(e *entry, r *record) error
	// readNote looks at a dead letter, as read does.
	readNote(e *entry) (*note, error)
	// verify reads a dead letter through and compares it with its record. The
	// error is a *brokenError when they differ.
	verify(e *entry, r *record) error
	// size is the length of a dead letter's text, for one whose record is lost; 0
	// when there is none.
	size(e *entry) int64
	// still keeps a message where it is until the func returned is called, for
	// those who look at it without holding it.
	still(id queue.ID) func()
}

// brokenError says that an entry is not what it should be.
type brokenError struct{ reason string }

func (e *brokenError) Error() string { return e.reason }

// removedByOthers is for a message that is gone, as err says, and that we have not
// removed.
func removedByOthers(err error) error {
	return fmt.Errorf("the message was removed behind the queue's back: %w", err)
}

// syncError marks the failure of a sync: the disk may not hold what was
// written, whatever it says next time.
type syncError struct{ err error }

func (e *syncError) Error() string { return "sync: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

func asSyncError(err error) error {
	if err == nil {
		return nil
	}
	return &syncError{err}
}

func isBroken(err error) (string, bool) {
	var b *brokenError
	if errors.As(err, &b) {
		return b.reason, true
	}
	return "", false
}
