package diskqueue

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// journalRecorder writes down what a journal does to the disk, step by step,
// under a fake clock: what nobody waits for is done when a step ends.
type journalRecorder struct {
	recorder
	w *world
}

func newJournalRecorder(t *testing.T) *journalRecorder {
	w := newWorld(t, "order", true)
	r := &journalRecorder{w: w}
	r.testQueue = &testQueue{Queue: w.q, t: t, fs: w.fs, events: w.events}
	return r
}

// step records what f does, with what is synced within a second of it.
func (r *journalRecorder) step(name string, f func()) {
	r.t.Helper()
	r.fs.Reset()
	f()
	synctest.Wait()
	r.write(name)
	r.fs.Reset()
	time.Sleep(2 * syncWithin)
	synctest.Wait()
	if len(r.fs.Calls()) > 0 {
		r.write("within a second")
	}
}

// write lists the calls. Those that make a segment come last, for they may be
// made at any time beside the others.
func (r *journalRecorder) write(name string) {
	fmt.Fprintf(&r.out, "# %s\n", name)
	making := ""
	var beside []faultfs.Call
	others := slices.DeleteFunc(r.fs.Calls(), func(c faultfs.Call) bool {
		if c.Op == faultfs.Create && strings.HasSuffix(c.Path, ".seg") {
			making = c.Path
		}
		end := making != "" && c.Op == faultfs.SyncDir && filepath.Base(c.Path) == journalDir
		mine := end || c.Path == making
		if mine {
			beside = append(beside, c)
		}
		if end {
			making = ""
		}
		return mine
	})
	if name == "open" {
		beside = nil // whether one is made depends on whether another is free again before
	}
	replace := strings.NewReplacer(append([]string{worldSpool + "/", "", worldSpool, "."}, r.names...)...)
	for i, c := range append(others, beside...) {
		if i == len(others) {
			fmt.Fprintln(&r.out, "# and beside that")
		}
		if c.Changes() {
			fmt.Fprintln(&r.out, replace.Replace(c.String()))
		}
	}
	fmt.Fprintln(&r.out)
}

func TestOrderOfTheJournal(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		r := newJournalRecorder(t)
		r.step("the first commit", func() { r.commit(r.begin(letter)) })
		r.step("commit", func() { r.commit(r.begin(letter)) })
		var l queue.Lease
		r.step("commit and lease", func() {
			var err error
			l, err = r.begin(letter).CommitLeased(ctx, queue.Final{})
			must(t, err)
		})
		r.step("settle", func() { must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example", Rejected: "no"}})) })
		r.step("release", func() { must(t, l.Release(ctx)) })
		r.step("lease", func() { l = r.next() })
		r.step("retry", func() { must(t, l.Retry(ctx, time.Now(), io.ErrNoProgress)) })
		l = r.next()
		synctest.Wait()
		r.step("ack", func() { must(t, l.Ack(ctx)) })
		l = r.next()
		synctest.Wait()
		id := l.Message().ID
		r.step("bury", func() { must(t, l.Bury(ctx, io.ErrNoProgress)) })
		r.step("requeue", func() { must(t, r.Requeue(ctx, id)) })
		l = r.next()
		must(t, l.Retry(ctx, time.Now().Add(time.Hour), io.ErrNoProgress))
		synctest.Wait()
		r.commit(r.begin(letter))
		l = r.next()
		id = l.Message().ID
		must(t, l.Retry(ctx, time.Now().Add(time.Hour), io.ErrNoProgress))
		time.Sleep(2 * syncWithin)
		synctest.Wait()
		r.step("an operator's retry", func() { must(t, r.Retry(ctx, id)) })
		r.step("an operator's delete", func() { must(t, r.Delete(ctx, id)) })
		r.step("discard", func() { must(t, r.begin(letter).Discard()) })
		r.step("close", func() { must(t, r.Close()) })
		r.golden("journal.golden")
	})
}

func TestOrderOfTheJournalsSegments(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		r := newJournalRecorder(t)
		a := func() *segment { return r.journal.active }
		r.commit(r.begin(letter))
		synctest.Wait()
		first := a()
		for one := first.records[0]; a().room(one.id, int64(one.n)); synctest.Wait() {
			r.commit(r.begin(letter))
		}
		time.Sleep(2 * syncWithin)
		r.step("commit, the segment is full", func() { r.commit(r.begin(letter)) })
		if a() == first {
			t.Error("it was not")
		}
		var kept queue.Lease
		for r.journal.did.ended == 0 && r.Depth().Ready > 0 {
			l := r.next()
			if kept == nil {
				kept = l
				must(t, l.Retry(ctx, time.Now().Add(time.Hour), io.ErrNoProgress))
				continue
			}
			synctest.Wait()
			time.Sleep(2 * syncWithin)
			synctest.Wait()
			if first.weight()-400 < first.size/4 && r.journal.did.emptied == 0 {
				r.step("ack, little is left in the first segment", func() { must(t, l.Ack(ctx)) })
				continue
			}
			must(t, l.Ack(ctx))
		}
		if r.journal.did.emptied != 1 || r.journal.did.ended != 1 {
			t.Errorf("%+v", r.journal.did)
		}
		must(t, r.Close())
		r.golden("segments.golden")
	})
}

// TestOrderOfOpeningAfterAKill: what was in delivery is given back, and the
// segment is sealed.
func TestOrderOfOpeningAfterAKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newJournalRecorder(t)
		r.commit(r.begin(letter))
		r.commit(r.begin(letter))
		r.next()
		synctest.Wait()
		r.w.kill()
		r.out.Reset()
		r.w.open()
		r.fs, r.Queue = r.w.fs, r.w.q
		synctest.Wait()
		r.write("open")
		r.fs.Reset()
		must(t, r.Close())
		synctest.Wait()
		r.write("close")
		r.golden("journal-recovery.golden")
	})
}
