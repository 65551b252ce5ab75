package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// left is a world whose process has ended, with all that an open has work with.
func left(t *testing.T, what string, journal bool) *world {
	w := newWorld(t, what, journal)
	for second := range 2 {
		w.put(second)
	}
	l, err := w.lease(time.Minute)
	w.must(err)
	w.must(l.Bury(context.Background(), io.ErrNoProgress))
	_, err = w.lease(time.Minute) // never ended
	w.must(err)
	w.put(2)
	w.must(w.q.Pause(context.Background()))
	w.must(w.q.Close())
	from := "committed"
	if journal {
		from = "dead"
	}
	w.must(w.copyDir(from, "incoming", "STAGED"))
	w.kept["STAGED"] = letter
	w.must(w.copyDir(from, "trash", "TRASH"))
	if journal {
		w.unseal()
	}
	return w
}

// copyDir copies the one message in a place to another, under another ID.
func (w *world) copyDir(from, to, id string) error {
	from, to = worldSpool+"/"+from, worldSpool+"/"+to+"/"+id
	entries, err := w.mem.ReadDir(from)
	if err != nil || len(entries) == 0 {
		return fmt.Errorf("nothing in %s (%v)", from, err)
	}
	if err := w.mem.Mkdir(to); err != nil {
		return err
	}
	for _, name := range []string{rawFile, metaFile} {
		in, err := w.mem.Open(from + "/" + entries[0].Name() + "/" + name)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		out, err := w.mem.Create(to + "/" + name)
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
		if err := errors.Join(in.Close(), out.Close()); err != nil {
			return err
		}
	}
	return nil
}

// TestWhateverCallOfOpenFails: Open says so or makes do; the next one, on a disk
// that works, finds everything.
func TestWhateverCallOfOpenFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { whateverCallOfOpenFails(t, false) })
}

func TestWhateverCallOfOpenFailsWithAJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { whateverCallOfOpenFails(t, true) })
}

func whateverCallOfOpenFails(t *testing.T, journal bool) {
	w := left(t, "open", journal)
	w.open()
	n := len(w.fs.Calls())
	w.nothingIsLost()
	t.Logf("open makes %d calls", n)
	for _, no := range errnos {
		for at := 1; at <= n; at++ {
			for _, onward := range []bool{false, true} {
				w := left(t, fmt.Sprintf("call %d of open fails by %v, onward: %v", at, no, onward), journal)
				w.openFailing(at, no, onward)
			}
		}
	}
}

// unseal makes the journal's files look as after a kill: without a footer.
func (w *world) unseal() {
	names, err := w.mem.ReadDir(worldSpool + "/journal")
	w.must(err)
	for _, name := range names {
		f, err := w.mem.Reopen(worldSpool + "/journal/" + name.Name())
		w.must(err)
		_, err = f.WriteAt(make([]byte, trailerSize), worldSegment-trailerSize)
		w.must(errors.Join(err, f.Sync(), f.Close()))
	}
}

func (w *world) openFailing(at int, no syscall.Errno, onward bool) {
	o := w.options()
	w.arm(at, no, onward)
	q, err := Open(worldSpool, o)
	synctest.Wait()
	if len(w.failed()) > 0 {
		w.what += fmt.Sprintf(" (%s)", w.failed()[0])
	}
	if err == nil {
		// What fails once is as a rule asked again.
		// Segments are made for later: nobody needs one yet.
		if onward && len(w.failed()) > 0 && !w.forLater && len(w.events.spool()) == 0 {
			w.errorf("Open made do, and told nobody")
		}
		if !q.Paused() {
			w.errorf("the pause is forgotten")
		}
		w.must(q.Close())
	}
	w.disarm()
	w.open()
	if dead := w.q.Depth().Dead; no == syscall.EMFILE && dead != 1 {
		w.errorf("%d dead letters: messages were blamed for what the process lacked", dead)
	}
	w.litter = true
	w.nothingIsLost()
}
