package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// find is what memory holds of a message.
func (w *world) find(id queue.ID) entry {
	w.t.Helper()
	e, ok := w.q.schedule.find(id)
	if !ok {
		w.t.Fatalf("%s: %s is not found", w.what, id)
	}
	return e
}

// spotOf is where a message lies in the journal.
func (w *world) spotOf(id queue.ID) spot {
	w.t.Helper()
	e := w.find(id)
	w.q.journal.mu.Lock()
	defer w.q.journal.mu.Unlock()
	return *e.spot
}

// damage overwrites the end of a message's record, which is text.
func (w *world) damage(at spot) {
	w.t.Helper()
	f, err := w.mem.Reopen(at.seg.path)
	w.must(err)
	_, err = f.WriteAt([]byte("damage"), int64(at.off+at.n)-10)
	w.must(errors.Join(err, f.Sync(), f.Close()))
}

// dead is the only dead letter.
func (w *world) dead() queue.Entry {
	w.t.Helper()
	var all []queue.Entry
	for e, err := range w.q.List(context.Background(), queue.Filter{States: []queue.State{queue.StateDead}}) {
		w.must(err)
		all = append(all, e)
	}
	if len(all) != 1 {
		w.t.Fatalf("%s: %d dead letters", w.what, len(all))
	}
	return all[0]
}

// churn commits 60 messages and ends them, so that segments end and are emptied, and
// waits, by the clock of its bubble, until that is synced.
func (w *world) churn() {
	w.t.Helper()
	const most = 60
	w.must(w.fill(most))
	for range most {
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Ack(context.Background()))
	}
	time.Sleep(3 * syncWithin)
}

// TestARejectedMessageThatCannotBeReadIsBuriedAlone: one bad sector made the whole
// spool sick, and again each time that the message was refused. Q07.
func TestARejectedMessageThatCannotBeReadIsBuriedAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a rejected message", true)
		defer w.q.Close()
		w.target = w.put(1)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: ".seg", Err: syscall.EIO})
		w.must(l.Bury(t.Context(), &queue.Cause{Kind: queue.KindRejected, Err: errors.New("no such user")}))
		w.must(w.q.well())
		if e := w.dead(); e.ID != w.target || e.Dead.Kind != queue.KindRejected || e.Dead.Reason != "no such user" {
			t.Errorf("%+v", e)
		}
		if w.events.count(string(w.target), "input/output error") != 1 {
			t.Errorf("the hook was told %v", w.events.spool())
		}
	})
}

// TestALetterThatCannotBeReadIsNotRequeued, and the storage is well. Q07.
func TestALetterThatCannotBeReadIsNotRequeued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "an unreadable letter", false)
		defer w.q.Close()
		w.target = w.put(1)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Bury(t.Context(), errors.New("no such user")))
		w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: "dead/", Err: syscall.EIO})
		if err := w.q.Requeue(t.Context(), w.target); !errors.Is(err, queue.ErrIncomplete) || !errors.Is(err, syscall.EIO) && !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("Requeue: %v", err)
		}
		w.must(w.q.well())
	})
}

// TestADamagedMessageIsNotDeliveredAgain: that it is damaged was found out when its
// segment was emptied, while it was in delivery.
func TestADamagedMessageIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a damaged message", true)
		defer w.q.Close()
		id := w.put(0)
		l, err := w.lease(time.Minute)
		w.must(err)
		e := w.find(id)
		w.damage(w.spotOf(id))
		w.churn() // so that its segment is emptied
		synctest.Wait()
		if _, doubted := w.q.journal.doubted.Load(e.spot); !doubted {
			t.Fatal("nobody tried to move the message")
		}
		w.must(l.Retry(ctx, time.Time{}, io.ErrUnexpectedEOF))
		if l, err := w.lease(time.Minute); err == nil {
			t.Errorf("it is delivered as %d octets", l.Message().Size)
		}
		if e := w.dead(); e.ID != id || e.Dead.Kind != queue.KindCorrupt {
			t.Errorf("%+v", e)
		}
	})
}

// TestWhatCouldNotBeSetAsideIsAtTheNextOpen: a damaged record, of which the disk
// had no room for a dead letter, was thrown away with its segment. Q02.
func TestWhatCouldNotBeSetAsideIsAtTheNextOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a dead letter for which there is no room", true)
		id := w.put(1)
		at := w.spotOf(id)
		w.put(2) // by then the first is on the disk
		w.kill()
		w.damage(at)
		o := w.options()
		w.fs.Fail(faultfs.Rule{Op: faultfs.Mkdir, Path: string(id), Err: syscall.ENOSPC})
		w.openWith(o)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Ack(ctx)) // so that nothing counts in the segment
		w.churn()
		w.must(w.q.Close())
		w.open()
		defer w.q.Close()
		if e := w.dead(); e.ID != id || !strings.Contains(e.Dead.Reason, "not whole") {
			t.Errorf("%+v", e)
		}
		if text, err := readText(w.q, id); err != nil || len(text) != len(letter) {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestADamagedRecordComesBeforeWhatItsBurialLeft: a burial that the power cut short
// left an empty directory, which was taken for the message, so that what could be
// read of it was lost. Q07.
func TestADamagedRecordComesBeforeWhatItsBurialLeft(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed %t", sealed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "what a burial left", true)
			w.target = w.put(1)
			at := w.spotOf(w.target)
			w.put(2)
			left := w.mem.Crash(crashfs.Kept)
			w.must(w.q.Close())
			if !sealed {
				w.mem = left
			}
			w.damage(at)
			w.must(w.mem.Mkdir(worldSpool + "/incoming/" + string(w.target)))
			for range 2 {
				w.open()
				l, err := w.lease(time.Minute)
				w.must(err)
				w.must(l.Release(t.Context()))
				if e := w.dead(); e.ID != w.target || !strings.Contains(e.Dead.Reason, "whole") {
					t.Errorf("%+v", e.Dead)
				}
				if text, err := readText(w.q, w.target); err != nil || len(text) != len(letter) {
					t.Errorf("%q, %v", text, err)
				}
				w.must(w.q.Close())
			}
		})
	}
}

// TestAPassingErrorDecidesNothingOfWhatABurialLeft: what lies in staging was taken
// for the later state when the process lacked what it takes to look at the journal.
func TestAPassingErrorDecidesNothingOfWhatABurialLeft(t *testing.T) {
	t.Parallel()
	w, id := failedBurial(t)
	left, failed := w.mem, 0
	for _, part := range []string{".seg", "incoming/" + string(id)} {
		for nth := range 12 {
			w.mem = left.Crash(crashfs.Kept)
			o := w.options()
			calls := 0
			w.fs.Fail(faultfs.Rule{Err: syscall.ENOMEM, Match: func(c faultfs.Call) bool {
				if c.Changes() || !strings.Contains(c.Path, part) {
					return false
				}
				calls++
				return calls > nth && calls <= nth+3 // a read that fails is tried again in parts
			}})
			if q, err := Open(worldSpool, o); err == nil {
				w.must(q.Close())
			} else if !errors.Is(err, syscall.ENOMEM) {
				t.Errorf("%s %d: %v", part, nth, err)
			}
			failed += max(calls-nth, 0)
			told := w.events.spool()
			w.open()
			if d := w.q.Depth(); d.Ready != 1 || d.Dead != 0 {
				t.Errorf("%s %d: %+v after %v", part, nth, d, told)
				w.must(w.q.Close())
				continue
			}
			w.offersOnly(fmt.Sprintf("%s %d", part, nth), id, "b@y.example")
		}
	}
	if failed < 10 {
		t.Errorf("only %d calls failed", failed)
	}
}

// TestADeliveryThatEndedCountsNoAttempt though the segment is no more that said so, and
// the one is still there that said that it had begun.
func TestADeliveryThatEndedCountsNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, end := range map[string]func(queue.Lease) error{
		"released": func(l queue.Lease) error { return l.Release(ctx) },
		"retried":  func(l queue.Lease) error { return l.Retry(ctx, time.Time{}, io.EOF) },
		"kept":     func(queue.Lease) error { return nil },
	} {
		for _, between := range []int{0, 60} { // messages between this one and its lease
			t.Run(fmt.Sprintf("%s, %d", name, between), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, name, true)
					id := w.put(0)
					for n := range between {
						w.put(1 + n)
					}
					l, err := w.lease(time.Minute)
					w.must(err)
					for n := range 20 { // they stay, and so does what lies beside them
						w.put(900 + n)
					}
					for n := range 80 {
						w.put(100 + n)
					}
					var others []queue.Lease
					for range between + 80 {
						other, err := w.lease(time.Minute)
						w.must(err)
						others = append(others, other)
					}
					w.must(end(l))
					want := w.get(id).Attempts
					if name == "kept" {
						want++ // for it is in delivery when the spool is closed
					}
					for _, other := range others {
						w.must(other.Ack(ctx))
					}
					time.Sleep(3 * syncWithin)
					synctest.Wait()
					if w.q.journal.did.emptied == 0 {
						t.Error("no segment was emptied")
					}
					w.keepsAttempts(id, want)
				})
			})
		}
	}
}

// TestADeliveryWhoseEndFailedCountsNoAttempt when the spool is closed: nobody has the
// message by then. Q16.
func TestADeliveryWhoseEndFailedCountsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a retry that fails", true)
		id := w.put(0)
		l, err := w.lease(time.Minute)
		w.must(err)
		time.Sleep(2 * syncWithin)
		w.arm(1, syscall.ENOSPC, false)
		if err := l.Retry(t.Context(), time.Now().Add(time.Hour), io.EOF); !errors.Is(err, queue.ErrNoSpace) {
			t.Errorf("Retry: %v", err)
		}
		w.disarm()
		time.Sleep(2 * probeEvery)
		if got := w.get(id); got.Attempts != 0 {
			t.Errorf("%d attempts", got.Attempts)
		}
		w.keepsAttempts(id, 0)
	})
}

// TestADeliveryThatEndsAtOnceCountsNoAttempt: that it began and that it ended are
// written at one go.
func TestADeliveryThatEndsAtOnceCountsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "at once", true)
		id := w.put(0)
		synctest.Wait()
		held := make(chan struct{})
		w.fs.OnCall(func(c faultfs.Call) {
			if c.Op == faultfs.Sync && strings.HasSuffix(c.Path, ".seg") {
				<-held
			}
		})
		go w.put(1)
		synctest.Wait()
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Release(t.Context()))
		close(held)
		synctest.Wait()
		w.keepsAttempts(id, 0)
	})
}

// keepsAttempts closes the spool and opens it again, some times: a message is ready
// and has so many attempts. It leaves the spool closed.
func (w *world) keepsAttempts(id queue.ID, want int) {
	w.t.Helper()
	for range 3 {
		w.must(w.q.Close())
		w.open()
		if got := w.get(id); got.Attempts != want || got.State != queue.StateReady {
			w.errorf("%d attempts in place of %d, %s", got.Attempts, want, got.State)
		}
	}
	w.must(w.q.Close())
}

func (w *world) get(id queue.ID) queue.Entry {
	w.t.Helper()
	e, err := w.q.Get(context.Background(), id)
	w.must(err)
	return e
}

// TestALeaseLeavesTheSpareAlone: what must not fail for want of room finds it. Q02.
func TestALeaseLeavesTheSpareAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := filledWorld(t, 3)
		defer w.q.Close()
		for range 200 {
			l, err := w.lease(time.Minute)
			w.must(err)
			w.must(l.Release(t.Context()))
			synctest.Wait()
			if n := w.q.journal.spares(); n == 0 {
				t.Fatal("the spare is gone")
			}
		}
	})
}

// TestALifeThatAKillEndedIsOverThoughThePowerGoes: the next process found the segment
// free, and gave up what others said of it, before that was on the disk. Q01.
func TestALifeThatAKillEndedIsOverThoughThePowerGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "the end of a life", true)
		var all []*segment // of each message
		for n := range 150 {
			all = append(all, w.spotOf(w.put(n)).seg)
		}
		first := slices.Index(all, all[149]) // that lies in the segment that is written to
		path := all[first-1].path
		time.Sleep(2 * syncWithin)
		killed := make(chan struct{})
		w.fs.OnCall(func(c faultfs.Call) {
			if c.Op == faultfs.Sync && c.Path == path {
				w.fs.OnCall(nil)
				w.mem.CutAt(0) // the end of its life is written, and is not synced
				close(killed)
			}
		})
		ack := func() {
			l, err := w.q.Lease(t.Context())
			w.must(err)
			w.must(l.Ack(t.Context()))
			time.Sleep(2 * syncWithin)
			synctest.Wait()
		}
		for open := true; open; {
			ack()
			select {
			case <-killed:
				open = false
			default:
			}
		}
		_ = w.q.Close() // nothing that this does reaches the disk
		w.mem.Kill()
		w.open()
		for w.q.Depth().Ready > 0 { // until nothing counts where it says that the others are no more
			ack()
		}
		w.must(w.q.Close())
		w.mem = w.mem.Crash(crashfs.Lost)
		w.open()
		if d := w.q.Depth(); d.Live() != 0 {
			t.Errorf("after the power was gone: %+v", d)
		}
		w.must(w.q.Close())
	})
}

// TestOpenKeepsNoFileOpenThatIsNoSegment: each was open until the process ended.
func TestOpenKeepsNoFileOpenThatIsNoSegment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "other files", true)
	w.put(1)
	w.must(w.q.Close())
	for n, text := range []string{strings.Repeat("x", 4096), "", strings.Repeat("y", 100)} {
		f, err := w.mem.Create(fmt.Sprintf("%s/journal/%s", worldSpool, segmentName(70+n)))
		w.must(err)
		_, err = f.Write([]byte(text))
		w.must(errors.Join(err, f.Sync(), f.Close()))
	}
	w.open()
	w.must(w.q.Close())
	if open := w.q.journal.files.opened; len(open) > 0 {
		t.Errorf("%s is still open", open[0].path)
	}
	if _, err := w.mem.Stat(worldSpool + "/journal/" + segmentName(70)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was no segment is still there: %v", err)
	}
}

// TestWhatTheDiskDidNotGiveBackIsThereAtTheNextOpen: a segment that was not sealed, and
// could not be read at an open, was sealed with what was left of it and used again.
// Q07.
func TestWhatTheDiskDidNotGiveBackIsThereAtTheNextOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "what the disk did not give back", true)
		id := w.put(1)
		w.kill()
		o := w.options()
		reads := make(map[string]int)
		w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: ".seg", Err: syscall.EIO, Match: func(c faultfs.Call) bool {
			reads[c.Path]++
			return reads[c.Path] > 1 && c.Path == worldSpool+"/journal/"+segmentName(1) // its header can be read
		}})
		w.openWith(o)
		if w.events.count(segmentName(1), "input/output error") == 0 {
			t.Errorf("the hook was told %v", w.events.spool())
		}
		w.churn()
		w.must(w.q.Close())
		w.open()
		w.offersOnly("the next open", id, "a@y.example", "b@y.example")
	})
}

// TestASegmentIsSetAsideWithItsReason: one for which there was room, but not for its
// reason, was taken at the next open for what nobody was told 250 for. Q02.
func TestASegmentIsSetAsideWithItsReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a segment without a header", true)
		path := w.spotOf(w.put(1)).seg.path
		w.must(w.q.Close())
		f, err := w.mem.Reopen(path)
		w.must(err)
		_, err = f.WriteAt([]byte(strings.Repeat("damage", headersSize/6)), 0)
		w.must(errors.Join(err, f.Sync(), f.Close()))
		for _, full := range []bool{true, false} {
			o := w.options()
			if full {
				w.fs.Fail(faultfs.Rule{Op: faultfs.Create, Path: deadTmp, Err: syscall.ENOSPC})
			}
			w.openWith(o)
			if full {
				w.must(w.q.Close())
			}
		}
		defer w.q.Close()
		if e := w.dead(); e.Dead.Kind != queue.KindCorrupt || !strings.Contains(e.Dead.Reason, "no whole header") {
			t.Errorf("%+v", e.Dead)
		}
	})
}

// TestAHoleInTheLastRecordIsNotCalledIncomplete: whether the disk has synced it nobody
// knows, and requeue refuses what nobody was told 250 for. Q07.
func TestAHoleInTheLastRecordIsNotCalledIncomplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a hole", true)
		text := letter + strings.Repeat("x", 2300)
		_, _, err := w.text(text, 1, false)
		w.must(err)
		id, _, err := w.text(text, 2, false)
		w.must(err)
		if at := w.spotOf(id); at.off >= 2*block || at.off+at.n <= 2*block {
			t.Fatalf("it lies at %d, %d octets", at.off, at.n)
		}
		w.kill()
		o := w.options()
		reads := 0
		w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: segmentName(1), Err: syscall.EIO, Match: func(faultfs.Call) bool {
			reads++
			return reads == 3 || reads == 4+2 // behind the header and the trailer: all of it, and the third of its blocks
		}})
		w.openWith(o)
		defer w.q.Close()
		if e := w.dead(); e.ID != id || e.Dead.Reason == incomplete {
			t.Errorf("%s: %+v", e.ID, e.Dead)
		}
	})
}

// TestWhatIsSaidOfAMessageThatCannotBeReadIsKept: that it was acknowledged was thrown
// away with the segment that says so, and it was delivered again once it could be
// read. Q07.
func TestWhatIsSaidOfAMessageThatCannotBeReadIsKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "what is said of a message", true)
		ended := w.put(1)
		path := w.spotOf(ended).seg.path
		stay := 0
		for second := 2; w.spotOf(w.put(second)).seg.path == path; second++ {
			stay++
		}
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Ack(ctx))
		for range stay {
			_, err := w.lease(time.Minute)
			w.must(err)
		}
		l, err = w.lease(time.Minute) // the one behind them
		w.must(err)
		w.must(l.Ack(ctx))
		w.churn() // so that what is said lies elsewhere
		w.kill()
		o := w.options()
		reads := 0
		w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: path, Err: syscall.EIO, Match: func(faultfs.Call) bool {
			reads++
			return reads > 1 // all but the header
		}})
		w.openWith(o)
		if d := w.q.Depth(); d.Live() != 0 {
			t.Fatalf("%+v", d)
		}
		for range 5 {
			w.churn()
		}
		w.must(w.q.Close())
		w.open()
		defer w.q.Close()
		if d := w.q.Depth(); d.Live() != stay {
			t.Errorf("once it can be read there are %+v, want %d", d, stay)
		}
		if _, there := w.q.schedule.find(ended); there {
			t.Error("what was acknowledged is there")
		}
	})
}
