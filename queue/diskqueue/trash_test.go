package diskqueue

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
)

// The goroutine that removes is held up; whoever acknowledges then removes.
func TestTheTrashStaysSmallHoweverFastMessagesGo(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{NoFsync: true})
	trash := q.disk.path(inTrash)
	held, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	q.fs.OnCall(func(c faultfs.Call) {
		if c.Op == faultfs.Remove && strings.HasPrefix(c.Path, trash) && first.CompareAndSwap(false, true) {
			close(held)
			<-release
		}
	})
	t.Cleanup(func() { close(release) }) // before the queue is closed, which waits
	ack := func() {
		q.put(letter, "a@example.org")
		must(t, q.next().Ack(t.Context()))
	}
	ack()
	<-held
	most := 0
	for range 2 * mostJobs {
		ack()
		list, err := os.ReadDir(trash)
		must(t, err)
		most = max(most, len(list))
	}
	if want := mostJobs + 1; most != want { // what waits, and the one held
		t.Errorf("%d messages lay in trash/ at most, want %d", most, want)
	}
}

// trashed is a world with a message that was moved to trash/, and is not removed yet.
func trashed(t *testing.T) (*world, job) {
	w := newWorld(t, "trash", false)
	id := w.put(1)
	gone := job{from: inCommitted, mark: w.q.disk.mark(inCommitted)}
	var err error
	gone.name, err = w.q.disk.trash.rename(gone.from, id)
	w.must(err)
	return w, gone
}

// failSyncOf has somebody's sync of a place fail.
func (w *world) failSyncOf(p place) {
	w.t.Helper()
	w.fs.Fail(faultfs.Rule{Op: faultfs.SyncDir, Path: p.dir(), Nth: 1, Err: syscall.EIO})
	if err := w.q.disk.syncPlace(p, w.q.disk.mark(p)); !errors.Is(err, syscall.EIO) {
		w.t.Fatalf("%s: the sync: %v", w.what, err)
	}
}

// TestWhatLeftBeforeAFailedSyncIsNotRemoved: a power cut may bring it back, which then
// must be whole. Q05.
func TestWhatLeftBeforeAFailedSyncIsNotRemoved(t *testing.T) {
	t.Parallel()
	w, gone := trashed(t)
	defer w.q.Close()
	d := w.q.disk
	w.failSyncOf(inCommitted)
	d.trash.empty([]job{gone})
	for _, file := range asCommitted {
		if there, err := d.exists(d.path(inTrash, gone.name, file)); !there {
			t.Errorf("%s is gone (%v)", file, err)
		}
	}
}

// TestWhatHasLeftForCertainIsRemovedWhateverFailsLater: it made a well storage sick.
func TestWhatHasLeftForCertainIsRemovedWhateverFailsLater(t *testing.T) {
	t.Parallel()
	w, gone := trashed(t)
	defer w.q.Close()
	d := w.q.disk
	w.fs.Fail(faultfs.Rule{Op: faultfs.Remove, Path: "/trash/", Nth: 1, Err: syscall.EMFILE})
	d.trash.empty([]job{gone})
	w.failSyncOf(inCommitted)
	d.trash.mu.Lock()
	again := d.trash.later
	d.trash.later = nil
	d.trash.mu.Unlock()
	if len(again) != 1 {
		t.Fatalf("%d are tried again", len(again))
	}
	d.trash.empty(again)
	if there, err := d.exists(d.path(inTrash, gone.name)); there || err != nil {
		t.Errorf("it is there (%v)", err)
	}
	w.must(w.q.well())
}
