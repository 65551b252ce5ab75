package diskqueue

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// Q06.
func TestASickSpoolIsProbedEveryTenSecondsUntilItIsWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "probe", false)
		remove := w.fs.Fail(faultfs.Rule{Op: faultfs.Sync, Err: syscall.EIO})
		if _, _, err := w.text(letter, 0, false); !errors.Is(err, queue.ErrSick) {
			t.Fatalf("commit: %v", err)
		}
		time.Sleep(35 * time.Second)
		synctest.Wait()
		probes := 0
		for _, e := range w.events.spool() {
			if e.Op == "probe" {
				probes++
			}
		}
		if probes != 3 {
			t.Errorf("%d probes in 35 s, want 3", probes)
		}
		got := make(chan queue.Lease, 1)
		go func() {
			l, err := w.q.Lease(context.Background())
			if err == nil {
				got <- l
			}
			close(got)
		}()
		remove()
		time.Sleep(4 * time.Second)
		if err := w.q.Check(0); !errors.Is(err, queue.ErrSick) {
			t.Errorf("Check before a probe has passed: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := w.q.Check(0); err != nil {
			t.Errorf("Check after: %v", err)
		}
		w.put(1)
		w.must((<-got).Ack(context.Background()))
		clear(w.kept)
		w.nothingIsLost()
	})
}

func TestAFullDiskIsFullForAMomentOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "full", false)
		w.fs.Fail(faultfs.Rule{Op: faultfs.Write, Nth: 1, Err: syscall.ENOSPC})
		if _, _, err := w.text(letter, 0, false); !errors.Is(err, queue.ErrNoSpace) {
			t.Fatalf("commit: %v", err)
		}
		if err := w.q.Check(0); !errors.Is(err, queue.ErrNoSpace) {
			t.Errorf("Check at once: %v", err)
		}
		time.Sleep(fullFor)
		w.must(w.q.Check(0))
		w.put(1)
		w.nothingIsLost()
	})
}

// TestAPlaceThatCannotBeWrittenToIsTheSpoolsFault: not each message's in turn.
func TestAPlaceThatCannotBeWrittenToIsTheSpoolsFault(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"processing", "dead", "trash", "committed", "incoming"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, place, false)
			for second := range 5 {
				w.put(second)
			}
			remove := w.fs.Fail(faultfs.Rule{Op: faultfs.Rename, Path: "/" + place + "/", Err: syscall.EACCES})
			if l, err := w.lease(time.Minute); err == nil { // the place is none that a lease needs
				_ = l.Bury(context.Background(), io.ErrNoProgress) // that is what fails, or the ack below
				if l, err = w.lease(3 * time.Second); err == nil {
					_ = l.Ack(context.Background())
				}
			}
			if dead := w.q.Depth().Dead; dead > 1 {
				t.Errorf("%s: %d dead letters", place, dead)
			}
			if place == "processing" && !errors.Is(w.q.Check(0), queue.ErrSick) {
				t.Errorf("%s: Check: %v", place, w.q.Check(0))
			}
			remove()
			time.Sleep(2 * probeEvery)
			w.must(w.q.Check(0))
			w.must(w.q.Close())
		})
	}
}

func TestProbesDoNotTripOverEachOther(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{NoFsync: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := q.probe(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left := files(t, q.Dir()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestAFailedSyncFailsForAllItMayHaveCovered: a rename done before a sync that
// failed is not made good by a later sync that says nil. Q05.
func TestAFailedSyncFailsForAllItMayHaveCovered(t *testing.T) {
	t.Parallel()
	failed := errors.New("lost")
	entered, goOn := make(chan struct{}), make(chan error)
	g := &group{sync: func() error {
		entered <- struct{}{}
		return <-goOn
	}}
	early := g.mark()
	first := make(chan error, 1)
	go func() { first <- g.do(g.mark()) }()
	<-entered
	second := make(chan error, 1)
	go func() { second <- g.do(early) }()
	goOn <- failed
	<-entered
	goOn <- nil
	if err := <-first; !errors.Is(err, failed) {
		t.Errorf("whose sync failed: %v", err)
	}
	if err := <-second; !errors.Is(err, failed) {
		t.Errorf("who had changed something before: %v", err)
	}
	late := make(chan error, 1)
	go func() { late <- g.do(g.mark()) }()
	<-entered
	goOn <- nil
	must(t, <-late)
}

// Q05.
func TestAFailedSyncOfCommittedIsNotRepeated(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{})
	q.fs.Fail(faultfs.Rule{Op: faultfs.SyncDir, Path: "committed", Nth: 1, Err: syscall.EIO})
	q.fs.Reset()
	if _, err := q.try(letter); !errors.Is(err, queue.ErrSick) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := q.try(letter); !errors.Is(err, queue.ErrSick) {
		t.Errorf("the next: %v", err)
	}
	if d := counts(q.Depth()); d != (queue.Depth{}) {
		t.Errorf("offered all the same: %+v", d)
	}
	// Before Close no one has synced it again for the message's sake: only the
	// trash does, when the message has left.
	calls := q.fs.Calls()
	left := slices.IndexFunc(calls, func(c faultfs.Call) bool { return c.Op == faultfs.Rename && strings.Contains(c.To, "/trash/") })
	synced := 0
	for _, c := range calls[:max(left, 0)] {
		if c.Op == faultfs.SyncDir && strings.HasSuffix(c.Path, "/committed") {
			synced++
		}
	}
	if left < 0 || synced != 1 {
		t.Errorf("%d syncs of committed/ before the message left it:\n%v", synced, calls)
	}
}

// Q03, Q04.
func TestTheFloorOfFreeSpace(t *testing.T) {
	t.Parallel()
	const most = 1 << 20 // so that the floor is 2 MiB
	for _, tc := range []struct {
		name  string
		space vfs.Space
		size  int64
		drafts,
		keeps bool
	}{
		{name: "at the floor", space: vfs.Space{Bytes: 2 << 20}, keeps: true},
		{name: "an octet below", space: vfs.Space{Bytes: 2<<20 - 1}},
		{name: "with the message's own size", space: vfs.Space{Bytes: 2<<20 + 1000}, size: 1000, keeps: true},
		{name: "a message an octet too big", space: vfs.Space{Bytes: 2<<20 + 1000}, size: 1001},
		{name: "with what is being received", space: vfs.Space{Bytes: 2<<20 + 500}, drafts: true, keeps: true},
		{name: "an octet below that", space: vfs.Space{Bytes: 2<<20 + 499}, drafts: true},
		{name: "1000 inodes", space: vfs.Space{Bytes: 1 << 40, Inodes: 1000, HasInodes: true}, keeps: true},
		{name: "999 inodes", space: vfs.Space{Bytes: 1 << 40, Inodes: 999, HasInodes: true}},
		{name: "a file system that does not count inodes", space: vfs.Space{Bytes: 1 << 40}, keeps: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, what: tc.name, mem: crashfs.New(), kept: map[queue.ID]string{}}
			o := w.options()
			o.MessageSize = most
			q, err := Open(worldSpool, o)
			must(t, err)
			defer q.Close()
			w.q = q
			id := w.put(0)
			if tc.drafts {
				d, err := q.Begin(context.Background(), envelope(), queue.Origin{})
				must(t, err)
				_, err = io.WriteString(d, strings.Repeat("x", 500))
				must(t, err)
				defer d.Discard()
			}
			w.fs.SetSpace(&tc.space)
			time.Sleep(time.Second) // the system is asked once a second
			left, err := q.Space()
			must(t, err)
			if want := (queue.Space{Bytes: int64(tc.space.Bytes), Inodes: -1}); !tc.space.HasInodes && left != want {
				t.Errorf("%s: Space is %+v, want %+v", tc.name, left, want)
			}
			if tc.space.HasInodes && left.Inodes != int64(tc.space.Inodes) {
				t.Errorf("%s: Space is %+v", tc.name, left)
			}
			check := q.Check(tc.size)
			if tc.keeps != (check == nil) || check != nil && !errors.Is(check, queue.ErrNoSpace) {
				t.Errorf("%s: Check(%d): %v", tc.name, tc.size, check)
			}
			if tc.size == 0 {
				d, err := q.Begin(context.Background(), envelope(), queue.Origin{})
				if tc.keeps != (err == nil) || err != nil && !errors.Is(err, queue.ErrNoSpace) {
					t.Errorf("%s: Begin: %v", tc.name, err)
				}
				if err == nil {
					must(t, d.Discard())
				}
			}
			l, err := w.lease(time.Second) // deliveries go on
			must(t, err)
			must(t, l.Ack(context.Background()))
			if l.Message().ID != id {
				t.Errorf("%s: leased %s", tc.name, l.Message().ID)
			}
			w.fs.SetSpace(nil)
			time.Sleep(time.Second)
			must(t, q.Check(tc.size))
		})
	}
}

func TestFreeSpaceIsAskedForOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "space", false)
		defer w.q.Close()
		time.Sleep(time.Second)
		w.fs.Reset()
		for range 100 {
			must(t, w.q.Check(10))
			time.Sleep(20 * time.Millisecond)
		}
		asked := 0
		for _, c := range w.fs.Calls() {
			if c.Op == faultfs.Space {
				asked++
			}
		}
		if asked != 2 || len(w.fs.Calls()) != asked {
			t.Errorf("100 Checks in 2 s made the calls %v", w.fs.Calls())
		}
	})
}

// TestAFailedSyncOfAPlaceFailsForAllWhoChangedIt, whoever made it: the trash and the
// probe sync what commits and burials rely on. Q05.
func TestAFailedSyncOfAPlaceFailsForAllWhoChangedIt(t *testing.T) {
	t.Parallel()
	for what, by := range map[string]func(*world) error{
		"the trash": func(w *world) error { return w.q.Delete(context.Background(), w.target) },
		"a probe":   func(w *world) error { w.q.probe(); return nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, what, false)
			defer w.q.Close()
			w.target = w.put(1)
			mark := w.q.disk.mark(inCommitted)
			w.fs.Fail(faultfs.Rule{Op: faultfs.SyncDir, Path: "committed", Nth: 1, Err: syscall.EIO})
			w.must(by(w))
			synctest.Wait()
			if err := w.q.disk.syncPlace(inCommitted, mark); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: what was moved there before: %v", what, err)
			}
			w.must(w.q.disk.syncPlace(inCommitted, w.q.disk.mark(inCommitted)))
		})
	}
}

// TestABurialThatFailedIsNotFinishedByACrash: the reason stayed with the message, which
// was offered again, and the next crash made it a dead letter.
func TestABurialThatFailedIsNotFinishedByACrash(t *testing.T) {
	t.Parallel()
	for what, rule := range map[string]faultfs.Rule{
		"the move":               {Op: faultfs.Rename, Path: "/dead/"},
		"the sync of its reason": {Op: faultfs.SyncDir, Path: "/processing/"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, what, false)
			id := w.put(1)
			l, err := w.lease(time.Minute)
			w.must(err)
			rule.Nth, rule.Err = 1, syscall.ENOSPC
			w.fs.Fail(rule)
			if err := l.Bury(t.Context(), io.ErrNoProgress); !errors.Is(err, queue.ErrNoSpace) {
				t.Fatalf("%s: Bury: %v", what, err)
			}
			_, err = w.lease(time.Minute)
			w.must(err)
			w.kill()
			w.open()
			w.offersOnly(what, id, "a@y.example", "b@y.example")
		})
	}
}

// TestAMessageRemovedByHandEndsAlone: its ack made the whole spool sick.
func TestAMessageRemovedByHandEndsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "removed by hand", false)
		defer w.q.Close()
		id := w.put(1)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(w.q.disk.removeTree(w.q.disk.path(inProcessing, string(id)), asCommitted...))
		w.must(l.Ack(t.Context()))
		w.must(w.q.well())
		if w.events.count(string(id), "behind the queue's back") != 1 {
			t.Errorf("the hook was told %v", w.events.spool())
		}
		if d := counts(w.q.Depth()); d != (queue.Depth{}) {
			t.Errorf("%+v", d)
		}
	})
}

// TestAMetaTooLongForTheJournalIsNoSickness: what an application says of a message
// stopped all others.
func TestAMetaTooLongForTheJournalIsNoSickness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a long refusal", true)
		defer w.q.Close()
		w.put(1)
		l, err := w.lease(time.Minute)
		w.must(err)
		long := []queue.Outcome{{Recipient: "a@y.example", Rejected: strings.Repeat("x", worldSegment)}}
		if err := l.Settle(t.Context(), long); !errors.Is(err, queue.ErrTooLarge) {
			t.Errorf("Settle: %v", err)
		}
		w.must(w.q.well())
		w.must(l.Retry(t.Context(), time.Time{}, io.ErrNoProgress))
		_, err = w.lease(time.Minute)
		w.must(err)
	})
}

// TestAFullDiskOpensWithoutAJournal where there was none: only deliveries make room.
func TestAFullDiskOpensWithoutAJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a full disk", false)
		w.put(1)
		w.must(w.q.Close())
		w.journal = true
		o := w.options()
		w.fs.Fail(faultfs.Rule{Op: faultfs.Mkdir, Path: "/journal", Err: syscall.ENOSPC})
		w.openWith(o)
		if len(w.events.spool()) == 0 {
			t.Error("nobody was told")
		}
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Ack(t.Context()))
		clear(w.kept)
		w.nothingIsLost()
	})
}

// TestWhatABurialLeftIsNotInTheWayOfTheNext: the message was offered again each second,
// for ever.
func TestWhatABurialLeftIsNotInTheWayOfTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "what a burial left", true)
		defer w.q.Close()
		id := w.put(1)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(w.mem.Mkdir(w.q.disk.path(inIncoming, string(id))))
		w.must(l.Bury(t.Context(), errors.New("no such user")))
		if e := w.dead(); e.ID != id || e.Dead.Reason != "no such user" {
			t.Errorf("%+v", e.Dead)
		}
	})
}

// TestASyncThatWasNotTriedFailsForNobodyElse: it has thrown nothing away.
func TestASyncThatWasNotTriedFailsForNobodyElse(t *testing.T) {
	t.Parallel()
	err := error(&fs.PathError{Op: "open", Path: "committed", Err: syscall.EMFILE})
	g := &group{sync: func() error { return err }}
	mark := g.mark()
	if got := g.do(mark); !errors.Is(got, syscall.EMFILE) {
		t.Errorf("it failed by %v", got)
	}
	err = nil
	must(t, g.do(mark))
}
