package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// TestALeaseSeesWhatBecameOfAMessageCommittedLeased: what is remembered of a
// commit is forgotten when somebody has the message.
func TestALeaseSeesWhatBecameOfAMessageCommittedLeased(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q := openTest(t, t.TempDir(), Options{segment: 64 << 10})
	d, err := q.Begin(ctx, envelope("a@y.example", "b@y.example"), queue.Origin{})
	must(t, err)
	_, err = io.WriteString(d, letter)
	must(t, err)
	l, err := d.CommitLeased(ctx, queue.Final{})
	must(t, err)
	must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	must(t, l.Retry(ctx, time.Time{}, errors.New("later")))
	m := q.next().Message()
	if to := m.Envelope.Addresses(); len(to) != 1 || to[0] != "b@y.example" || m.Attempt != 2 {
		t.Errorf("attempt %d to %v", m.Attempt, to)
	}
}

// TestAMessageThatNobodyIsOwedIsNotOfferedAgain: all were settled, and the end
// was not written when the process died.
func TestAMessageThatNobodyIsOwedIsNotOfferedAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	for _, end := range []func(queue.Lease) error{
		func(queue.Lease) error { return nil },
		func(l queue.Lease) error { return l.Release(ctx) },
	} {
		q := mustOpen(t, dir, &Options{MessageSize: -1, segment: 64 << 10})
		tq := &testQueue{Queue: q, t: t}
		tq.put(letter)
		tq.put(letter + "rejected")
		leases := []queue.Lease{tq.next(), tq.next()}
		for i, why := range []string{"", "no such user"} {
			l := leases[i]
			must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "b@y.example", Rejected: why}}))
		}
		for _, l := range leases {
			must(t, end(l))
		}
		must(t, q.Close())
		q = mustOpen(t, dir, &Options{MessageSize: -1, segment: 64 << 10})
		if d := q.Depth(); d.Live() != 0 || d.Dead != 1 {
			t.Errorf("%+v", d)
		}
		for e, err := range q.List(ctx, queue.Filter{}) {
			must(t, err)
			if e.Dead.Kind != queue.KindRejected {
				t.Errorf("%+v", e.Dead)
			}
			must(t, q.Delete(ctx, e.ID))
		}
		must(t, q.Close())
	}
}

// TestASegmentThatIsDeliveredFromIsLeftAlone: the last quarter of each was
// copied elsewhere a moment before it was acknowledged. What stays in one is
// moved when it has come to rest.
func TestASegmentThatIsDeliveredFromIsLeftAlone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, what: "draining", journal: true, mem: crashfs.New(), kept: map[queue.ID]string{}}
		o := w.options()
		o.restless = 0
		w.q = mustOpen(t, worldSpool, o)
		defer w.q.Close()
		did := &w.q.journal.did
		w.must(w.fill(120))
		for i := range 90 {
			l, err := w.q.Lease(ctx)
			w.must(err)
			if i == 70 {
				w.must(l.Retry(ctx, time.Now().Add(time.Hour), io.ErrNoProgress))
				continue
			}
			time.Sleep(10 * time.Millisecond)
			w.must(l.Ack(ctx))
			synctest.Wait()
		}
		if did.emptied > 0 || did.ended == 0 {
			t.Errorf("while it is delivered from: %+v", *did)
		}
		w.put(999) // what follows in the journal's goroutine comes after this look at it
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if did.emptied == 0 {
			t.Errorf("at rest: %+v", *did)
		}
	})
}

// TestWhatNobodyWaitsForIsSyncedWithinASecond: each ack put the sync off by
// another second, so that with no commit in between it came when the segment was
// full.
func TestWhatNobodyWaitsForIsSyncedWithinASecond(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "acks alone", true)
		defer w.q.Close()
		w.must(w.fill(20))
		time.Sleep(2 * syncWithin)
		w.fs.Reset()
		for range 15 {
			l, err := w.q.Lease(ctx)
			w.must(err)
			w.must(l.Ack(ctx))
			time.Sleep(syncWithin / 5)
		}
		synced := 0
		for _, c := range w.fs.Calls() {
			if c.Op == faultfs.Sync {
				synced++
			}
		}
		if synced < 2 {
			t.Errorf("%d syncs in three seconds", synced)
		}
	})
}

// TestABacklogDeliveredInAnyOrderGivesItsRoomBack: something is taken from each
// segment all the time, so that none comes to rest.
func TestABacklogDeliveredInAnyOrderGivesItsRoomBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, what: "in any order", journal: true, mem: crashfs.New(), kept: map[queue.ID]string{}}
		o := w.options()
		o.segment, o.restless = 256<<10, 0
		w.q = mustOpen(t, worldSpool, o)
		defer w.q.Close()
		var leases []queue.Lease
		for n := range 1000 {
			_, l, err := w.text(letter+strings.Repeat("x", 6000), n, true)
			w.must(err)
			leases = append(leases, l)
		}
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(leases), func(i, j int) { leases[i], leases[j] = leases[j], leases[i] })
		files := func() int {
			synctest.Wait()
			names, err := w.mem.ReadDir(worldSpool + "/" + journalDir)
			w.must(err)
			return len(names)
		}
		full := files()
		for len(leases) > 100 {
			w.must(leases[0].Ack(t.Context()))
			leases = leases[1:]
			time.Sleep(time.Millisecond)
		}
		// A tenth is left. Four segments may drain, four are kept free, and one is written to.
		if left := files(); left > full/2 {
			t.Errorf("%d files in place of %d when a tenth of the messages is left", left, full)
		}
	})
}

// TestAFailedSyncThatNobodyWaitsForIsReported: the storage is sick, and nobody
// was told.
func TestAFailedSyncThatNobodyWaitsForIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a failed sync", true)
		defer w.q.Close()
		w.must(w.fill(3))
		time.Sleep(2 * syncWithin)
		l, err := w.q.Lease(t.Context())
		w.must(err)
		w.must(l.Ack(t.Context()))
		synctest.Wait()
		w.fs.Fail(faultfs.Rule{Op: faultfs.Sync, Path: ".seg", Nth: 1, Err: syscall.EIO})
		time.Sleep(2 * syncWithin)
		synctest.Wait()
		if told := w.events.spool(); len(told) != 1 || !errors.Is(told[0].Err, syscall.EIO) {
			t.Errorf("told: %v", told)
		}
		time.Sleep(2 * probeEvery)
		if err := w.q.well(); err != nil {
			t.Errorf("not well again: %v", err)
		}
		w.put(9)
	})
}

// TestAMessageIsThereOnceThoughItsDoubleCannotBeRead: the dead letter that was made of
// it stays. Nothing could be set aside in its place.
func TestAMessageIsThereOnceThoughItsDoubleCannotBeRead(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t, "a double", true)
	id := w.put(1)
	e := w.find(id)
	r, err := w.q.journal.read(&e)
	w.must(err)
	w.must(w.q.disk.entomb(id, r, []byte(letter), newNote(queue.KindRejected, "no", "")))
	w.must(w.q.Close())
	files, err := w.mem.ReadDir(worldSpool + "/" + journalDir)
	w.must(err)
	o := w.options()
	reads := 0
	disarm := w.fs.Fail(faultfs.Rule{Op: faultfs.Read, Path: ".seg", Err: syscall.EIO, Match: func(faultfs.Call) bool {
		reads++
		return reads > len(files)+2 // their headers, and the trailer and footer of the one that lives
	}})
	w.q = mustOpen(t, worldSpool, o)
	disarm()
	if told := w.events.spool(); len(told) == 0 || !errors.Is(told[0].Err, syscall.EIO) {
		t.Fatalf("it could be read: %v", told)
	}
	for range 2 {
		var found []queue.ID
		for e, err := range w.q.List(ctx, queue.Filter{States: []queue.State{queue.StateDead}}) {
			w.must(err)
			found = append(found, e.ID)
		}
		if d := w.q.Depth(); d.Live() != 0 || !slices.Equal(found, []queue.ID{id}) {
			t.Errorf("%v, %+v", found, d)
		}
		w.must(w.q.Close())
		w.open()
	}
	w.must(w.q.Close())
}

// TestOneSyncServesAllSessionsThatCommitMeanwhile: twenty that come while a sync is
// under way share the next.
func TestOneSyncServesAllSessionsThatCommitMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, what: "many at once", journal: true, mem: crashfs.New(), kept: map[queue.ID]string{}}
		o := w.options()
		o.segment, o.Buffers = 1<<20, 1<<20
		w.q = mustOpen(t, worldSpool, o)
		defer w.q.Close()
		w.put(0)
		time.Sleep(2 * syncWithin) // the segments for later are made
		var syncs atomic.Int64
		hold := make(chan struct{})
		w.fs.OnCall(func(c faultfs.Call) {
			if c.Op == faultfs.Sync && syncs.Add(1) == 1 {
				<-hold
			}
		})
		var sessions sync.WaitGroup
		for n := range 21 {
			sessions.Go(func() {
				if _, _, err := w.text(letter, 1+n, false); err != nil {
					t.Error(err)
				}
			})
			if n == 0 {
				synctest.Wait() // its sync is under way
			}
		}
		synctest.Wait()
		close(hold)
		sessions.Wait()
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d syncs for 21 commits", n)
		}
	})
}

// TestOpeningReadsNoSegmentThatIsSealed but its footer: of many there is one to be
// read as a whole after a crash, and none after a clean end.
func TestOpeningReadsNoSegmentThatIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "sealed", true)
	w.must(w.fill(200))
	check := func(mem *crashfs.FS, want int) {
		t.Helper()
		j := newJournal(&directory{fs: mem, root: worldSpool}, worldSegment, true)
		l, err := j.load()
		w.must(err)
		if len(l.unsealed) != want || len(j.lives) < 4 || len(l.entries) != 200 {
			t.Errorf("%d of %d segments read as a whole, want %d; %d messages found", len(l.unsealed), len(j.lives), want, len(l.entries))
		}
	}
	check(w.mem.Crash(crashfs.Lost), 1)
	w.must(w.q.Close())
	check(w.mem, 0)
}

// TestOnlySmallMessagesGoIntoTheJournal: up to 128 KiB, and those for which there is
// memory.
func TestOnlySmallMessagesGoIntoTheJournal(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q := openTest(t, t.TempDir(), Options{Buffers: 256 << 10, segment: segmentSize, NoFsync: true})
	check := func(id queue.ID, want place) {
		t.Helper()
		e, ok := q.schedule.find(id)
		if !ok || e.place() != want {
			t.Errorf("it lies in %s, want %s", e.place().dir(), want.dir())
		}
	}
	const most = 131_072
	check(q.put(strings.Repeat("x", most-1)), inJournal)
	check(q.put(strings.Repeat("x", most)), inJournal)
	check(q.put(strings.Repeat("x", most+1)), inCommitted)
	var drafts []queue.Draft
	for range 2 {
		d, err := q.Begin(ctx, envelope(), queue.Origin{})
		must(t, err)
		_, err = io.WriteString(d, strings.Repeat("x", most))
		must(t, err)
		drafts = append(drafts, d)
	}
	check(q.put(letter), inCommitted)
	must(t, drafts[0].Discard())
	check(q.put(letter), inJournal)
	_, err := drafts[1].Commit(ctx, queue.Final{})
	must(t, err)
	check(drafts[1].ID(), inJournal)
}

// TestARequeuedMessageDoesNotComeBackAsItWasBeforeItsBurial: the power goes before
// anything else has had the journal synced, whether the end of the message in the
// journal is written before the requeue is asked for or together with it.
func TestARequeuedMessageDoesNotComeBackAsItWasBeforeItsBurial(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fmt.Sprintf("a requeue, together %v", together), true)
			id := w.put(1)
			l, err := w.lease(time.Minute)
			w.must(err)
			synctest.Wait()
			hold := make(chan struct{})
			var others sync.WaitGroup
			if together { // a sync is under way
				w.fs.OnCall(func(c faultfs.Call) {
					if c.Op == faultfs.Sync && strings.HasSuffix(c.Path, ".seg") {
						<-hold
					}
				})
				others.Go(func() {
					if _, _, err := w.text(letter, 2, false); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
			others.Go(func() {
				if err := errors.Join(l.Bury(ctx, io.EOF), w.q.Requeue(ctx, id)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			close(hold)
			others.Wait()
			l, err = w.lease(time.Minute)
			w.must(err)
			w.must(errors.Join(l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}), l.Ack(ctx)))
			w.crash(crashfs.NamesKept)
			w.open()
			defer w.q.Close()
			if e, err := w.q.Get(ctx, id); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("%s: it is %s (%v)", w.what, e.State, err)
			}
		})
	}
}
