package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// world is a spool in memory whose every call can be made to fail, under a fake
// clock.
type world struct {
	t    *testing.T
	what string // for messages: which call fails, and how
	// litter: something may lie in trash/ until the next open.
	litter bool
	// journal: small messages go there.
	journal bool
	mem     *crashfs.FS
	fs      *faultfs.FS
	events  *events
	q       *Queue

	target queue.ID // what the act is about
	l      queue.Lease
	kept   map[queue.ID]string // what was promised, and is not meant to end
	disarm func() int
	spared func(faultfs.Call) bool // calls that do not fail; nil: none

	mu   sync.Mutex
	hits []faultfs.Call // the calls that were made to fail
	// forLater: the first of them was part of making a segment, which nobody may
	// need any more: the last of an act is made before its last message, or after.
	forLater bool
}

const (
	worldSpool   = "/data/spool"
	worldSegment = 16 << 10
)

var received = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, what string, journal bool) *world {
	w := emptyWorld(t, what, journal)
	w.open()
	return w
}

// emptyWorld has no spool yet.
func emptyWorld(t *testing.T, what string, journal bool) *world {
	return &world{t: t, what: what, journal: journal, mem: crashfs.New(), kept: map[queue.ID]string{}}
}

func (w *world) options() *Options {
	w.fs, w.events = faultfs.New(w.mem), new(events)
	return &Options{MessageSize: -1, DeadSweep: -1, NoJournal: !w.journal, segment: worldSegment, restless: -1, Buffers: 20_000, fs: w.fs, Hooks: w.events.hooks()}
}

func (w *world) open() {
	w.t.Helper()
	w.openWith(w.options())
}

// openWith is open on a disk that was told to fail since its options were made.
func (w *world) openWith(o *Options) {
	w.t.Helper()
	q, err := Open(worldSpool, o)
	if err != nil {
		w.t.Fatalf("%s: Open: %v", w.what, err)
	}
	w.q = q
}

// kill ends the process where it is.
func (w *world) kill() {
	w.t.Helper()
	w.crash(crashfs.Kept)
}

// crash cuts the power.
func (w *world) crash(fate crashfs.Fate) {
	w.t.Helper()
	left := w.mem.Crash(fate)
	w.must(w.q.Close())
	w.mem = left
}

func (w *world) errorf(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("%s: %s\n%s", w.what, fmt.Sprintf(format, args...), w.mem)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", w.what, err, w.mem)
	}
}

const bigSize = 30_000 // more than the buffers of a world hold

func big() string { return letter + strings.Repeat("x", bigSize) }

// text commits a message that was received so many seconds after the first.
func (w *world) text(text string, second int, leased bool) (queue.ID, queue.Lease, error) {
	origin := queue.Origin{ReceivedAt: received.Add(time.Duration(second) * time.Second)}
	d, err := w.q.Begin(context.Background(), envelope("a@y.example", "b@y.example"), origin)
	if err != nil {
		return "", nil, err
	}
	defer d.Discard()
	if _, err := io.WriteString(d, text); err != nil {
		return d.ID(), nil, err
	}
	if leased {
		l, err := d.CommitLeased(context.Background(), queue.Final{})
		return d.ID(), l, err
	}
	_, err = d.Commit(context.Background(), queue.Final{})
	return d.ID(), nil, err
}

func (w *world) put(second int) queue.ID {
	w.t.Helper()
	id, _, err := w.text(letter, second, false)
	w.must(err)
	w.kept[id] = letter
	return id
}

// lease takes what is due, waiting for it so long and no longer.
func (w *world) lease(patience time.Duration) (queue.Lease, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.q.Lease(ctx)
}

// arm makes the n-th call from now on fail, and if onward is set all that come
// after and could fail so too.
func (w *world) arm(n int, no syscall.Errno, onward bool) {
	calls := 0
	making := "" // a segment, of which the directory is not synced yet
	w.disarm = w.fs.Fail(faultfs.Rule{Err: no, Match: func(c faultfs.Call) bool {
		calls++
		made := c.Op == faultfs.SyncDir && c.Path == worldSpool+"/"+journalDir
		if c.Op == faultfs.Create && strings.HasSuffix(c.Path, ".seg") {
			making = c.Path
		}
		makes := made || c.Path == making
		if made {
			making = ""
		}
		if calls < n || calls > n && !onward || !canFail(c, no) || w.spared != nil && w.spared(c) {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.hits) == 0 {
			w.forLater = makes
		}
		w.hits = append(w.hits, c)
		return true
	}})
}

func (w *world) failed() []faultfs.Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.hits)
}

// canFail: no system runs out of space when it removes or reads, and only what
// opens something lacks descriptors.
func canFail(c faultfs.Call, no syscall.Errno) bool {
	switch no {
	case syscall.ENOSPC, syscall.EDQUOT:
		return slices.Contains([]faultfs.Op{faultfs.Create, faultfs.Mkdir, faultfs.Rename, faultfs.Write, faultfs.Sync, faultfs.SyncDir, faultfs.Preallocate}, c.Op)
	case syscall.EMFILE:
		return slices.Contains([]faultfs.Op{faultfs.Create, faultfs.Open, faultfs.Reopen, faultfs.ReadDir}, c.Op)
	case syscall.EROFS:
		return c.Changes() && c.Op != faultfs.Sync && c.Op != faultfs.SyncDir
	}
	return true
}

func kindFor(no syscall.Errno) error {
	switch no {
	case syscall.ENOSPC, syscall.EDQUOT:
		return queue.ErrNoSpace
	case syscall.EMFILE:
		return queue.ErrBusy
	}
	return queue.ErrSick
}

// act is one thing that is done to a queue while its disk fails.
type act struct {
	name   string
	before func(w *world)
	do     func(w *world) error
	// after checks what it is to have done when do returned nil; when it did
	// not, the target is as it was, or was never there.
	after   func(w *world)
	journal bool
	spared  func(faultfs.Call) bool
	stocks  bool // do makes segments for later: nobody is told if one cannot be made
	reads   bool // do reads the message, which is at fault if that fails while the rest works
	waits   bool // do waits for the disk to be well, and returns no error of the disk's
}

func (w *world) state() (queue.State, bool) {
	e, err := w.q.Get(context.Background(), w.target)
	return e.State, err == nil
}

func (w *world) is(want queue.State) {
	w.t.Helper()
	if s, there := w.state(); !there || s != want {
		w.errorf("the message is %q (there: %v), want %s", s, there, want)
	}
}

func (w *world) isGone() {
	w.t.Helper()
	delete(w.kept, w.target)
	if s, there := w.state(); there {
		w.errorf("the message is still there, %s", s)
	}
}

func acts() []act {
	bg := context.Background()
	committed := func(w *world) { w.target = w.put(0) }
	leased := func(w *world) {
		committed(w)
		var err error
		w.l, err = w.lease(time.Minute)
		w.must(err)
	}
	buried := func(w *world) {
		leased(w)
		w.must(w.l.Bury(bg, io.ErrNoProgress))
	}
	commit := func(text func() string, asLeased bool) func(w *world) error {
		return func(w *world) (err error) {
			if w.target, w.l, err = w.text(text(), 0, asLeased); err == nil {
				w.kept[w.target] = text()
			}
			return err
		}
	}
	small := func() string { return letter }
	ready := func(w *world) { w.is(queue.StateReady) }
	done := []queue.Outcome{{Recipient: "a@y.example"}}
	return []act{
		{name: "commit", do: commit(small, false), after: ready},
		{name: "commit of a large text", do: commit(big, false), after: ready},
		{name: "commit and lease", do: commit(small, true), after: func(w *world) {
			w.is(queue.StateLeased)
			w.must(w.l.Release(bg))
		}},
		{name: "discard of a large text", do: func(w *world) error {
			d, err := w.q.Begin(bg, envelope(), queue.Origin{})
			if err != nil {
				return err
			}
			w.target = d.ID()
			_, err = io.WriteString(d, big())
			return errors.Join(err, d.Discard())
		}, after: (*world).isGone},
		{name: "lease", before: committed, waits: true, do: func(w *world) (err error) {
			w.l, err = w.lease(5 * time.Second)
			return err
		}, after: func(w *world) { w.must(w.l.Release(bg)) }},
		{name: "settle", before: leased, do: func(w *world) error { return w.l.Settle(bg, done) }, after: func(w *world) {
			w.must(w.l.Release(bg))
			if e, err := w.q.Get(bg, w.target); err != nil || len(e.Envelope.RcptTo) != 1 {
				w.errorf("settled, but %v are owed (%v)", e.Envelope.RcptTo, err)
			}
		}},
		{name: "ack", before: leased, do: func(w *world) error { return w.l.Ack(bg) }, after: (*world).isGone},
		{name: "retry", before: leased, do: func(w *world) error {
			return w.l.Retry(bg, time.Now().Add(time.Hour), io.ErrNoProgress)
		}, after: func(w *world) {
			w.is(queue.StateWaiting)
			w.must(w.q.Retry(bg, w.target))
		}},
		{name: "bury", before: leased, do: func(w *world) error { return w.l.Bury(bg, io.ErrNoProgress) }, after: func(w *world) {
			w.is(queue.StateDead)
		}},
		{name: "release", before: leased, do: func(w *world) error { return w.l.Release(bg) }, after: ready},
		{name: "requeue", before: buried, reads: true, do: func(w *world) error { return w.q.Requeue(bg, w.target) }, after: ready},
		{name: "delete", before: committed, do: func(w *world) error { return w.q.Delete(bg, w.target) }, after: (*world).isGone},
		{name: "delete of a dead letter", before: buried, do: func(w *world) error { return w.q.Delete(bg, w.target) }, after: (*world).isGone},
		{name: "sweep", before: func(w *world) {
			leased(w)
			w.must(w.l.Bury(bg, &queue.Cause{Kind: queue.KindRejected, Err: io.ErrNoProgress, Keep: 1}))
			time.Sleep(2 * time.Millisecond)
		}, do: func(w *world) error {
			w.q.sweep()
			return nil
		}, after: func(w *world) {
			w.q.sweep() // the next turn
			w.isGone()
		}, spared: func(c faultfs.Call) bool { // TestALetterThatCannotBeReadIsNotSwept
			return c.Op == faultfs.Open || c.Op == faultfs.Read
		}},
		{name: "retry by an operator", reads: true, before: func(w *world) {
			leased(w)
			w.must(w.l.Retry(bg, time.Now().Add(time.Hour), io.ErrNoProgress))
		}, do: func(w *world) error { return w.q.Retry(bg, w.target) }, after: ready},
		{name: "pause", do: func(w *world) error { return w.q.Pause(bg) }, after: func(w *world) {
			if !w.q.Paused() {
				w.errorf("not paused")
			}
			w.must(w.q.Resume(bg))
		}},
	}
}

// begin makes a world in which the act is about to happen.
func (a *act) begin(t *testing.T, what string) *world {
	w := newWorld(t, what, a.journal)
	w.spared = a.spared
	if a.before != nil {
		a.before(w)
	}
	synctest.Wait()
	w.fs.Reset()
	return w
}

// calls is how many calls the act makes when none fails, those of the goroutine
// that empties the trash included.
func (a *act) calls(t *testing.T) int {
	w := a.begin(t, a.name)
	defer w.q.Close()
	w.must(a.do(w))
	synctest.Wait()
	return len(w.fs.Calls())
}

var errnos = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EMFILE}

// TestWhateverCallFails lets each call of each act fail, by each error, once and
// from then on, and holds what follows against the rules of full and sick.
// Q02, Q05, Q16.
func TestWhateverCallFails(t *testing.T) {
	t.Parallel()
	for _, a := range acts() {
		t.Run(a.name, a.failEverywhere)
	}
}

// TestWhateverCallOfTheJournalFails is the same with a journal. Q02, Q05, Q16.
func TestWhateverCallOfTheJournalFails(t *testing.T) {
	t.Parallel()
	for _, a := range append(acts(), journalActs()...) {
		a.journal = true
		t.Run(a.name, a.failEverywhere)
	}
}

func (a *act) failEverywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := a.calls(t)
		for _, no := range errnos {
			for at := 1; at <= n; at++ {
				a.failing(t, at, no, false)
				a.failing(t, at, no, true)
			}
		}
	})
}

func (a *act) failing(t *testing.T, at int, no syscall.Errno, onward bool) {
	how := "once"
	if onward {
		how = "from then on"
	}
	w := a.begin(t, fmt.Sprintf("%s, call %d fails by %v, %s", a.name, at, no, how))
	bystander := w.put(60)
	synctest.Wait()
	w.arm(at, no, onward)
	err := a.do(w)
	synctest.Wait()
	if len(w.failed()) == 0 { // not a call that fails so
		w.disarm()
		w.must(err)
		w.must(w.q.Close())
		return
	}
	w.what += fmt.Sprintf(" (%s)", w.failed()[0])
	w.litter = slices.ContainsFunc(w.failed(), func(c faultfs.Call) bool { return c.Op == faultfs.SyncDir })
	kind := kindFor(no)
	blamed := a.reads && !onward && !w.failed()[0].Changes() && errors.Is(err, queue.ErrIncomplete)
	if err != nil && !errors.Is(err, kind) && !blamed && !(a.waits && errors.Is(err, context.DeadlineExceeded)) {
		w.errorf("error is %v, want %v", err, kind)
	}
	sick := w.standsAs(kind, err, blamed || !onward && a.mayBeTriedAgain(w.failed()[0]) || a.stocks && w.forLater)
	w.delivers(bystander, sick, no)
	w.disarm()
	time.Sleep(probeEvery + time.Second)
	synctest.Wait()
	w.isWell(sick)
	if err == nil {
		a.after(w)
	} else if _, promised := w.kept[w.target]; !promised && w.target != "" {
		w.isGone()
	} else {
		w.isOfferedAgain()
	}
	w.nothingIsLost()
}

// mayBeTriedAgain: what fails is tried again, or not needed yet.
func (a *act) mayBeTriedAgain(c faultfs.Call) bool {
	return a.waits || a.stocks || a.journal && c.Op == faultfs.Read
}

// standsAs holds the queue's state against the kind of error its disk gives. It
// reports whether it is sick.
func (w *world) standsAs(kind, err error, oneMessageMayBeBlamed bool) bool {
	sick := w.q.well() != nil
	check := w.q.Check(0)
	switch {
	case kind != queue.ErrSick && sick:
		w.errorf("sick: %v", w.q.well())
	case kind == queue.ErrSick && !sick && !oneMessageMayBeBlamed:
		w.errorf("not sick")
	case sick && !errors.Is(check, queue.ErrSick):
		w.errorf("Check of a sick queue: %v", check)
	case errors.Is(err, queue.ErrNoSpace) && !errors.Is(check, queue.ErrNoSpace):
		w.errorf("Check of a full queue: %v", check)
	case !sick && !errors.Is(kind, queue.ErrNoSpace) && check != nil:
		w.errorf("Check: %v", check)
	}
	if sick {
		if _, err := w.q.Begin(context.Background(), envelope(), queue.Origin{}); !errors.Is(err, queue.ErrSick) {
			w.errorf("Begin of a sick queue: %v", err)
		}
	}
	return sick
}

// delivers: while the disk still fails a full one hands out and lets end, a sick
// one waits.
func (w *world) delivers(bystander queue.ID, sick bool, no syscall.Errno) {
	if w.q.Paused() || no == syscall.EMFILE || w.l != nil && w.l.Message().ID == bystander {
		return
	}
	for range 2 {
		l, err := w.lease(5 * time.Second)
		if sick {
			if !errors.Is(err, context.DeadlineExceeded) {
				w.errorf("Lease of a sick queue: %v", err)
			}
			return
		}
		if err != nil {
			w.errorf("Lease: %v", err)
			return
		}
		if l.Message().ID == bystander {
			w.must(l.Ack(context.Background()))
			delete(w.kept, bystander)
			return
		}
		// The act's own message, offered again: it steps aside.
		defer func() {
			if err := l.Release(context.Background()); err != nil && !errors.Is(err, queue.ErrNoSpace) {
				w.errorf("Release: %v", err)
			}
		}()
	}
	w.errorf("the bystander is not handed out")
}

func (w *world) isWell(wasSick bool) {
	w.t.Helper()
	if err := w.q.Check(0); err != nil {
		w.errorf("not well by itself: %v", err)
	}
	said := slices.ContainsFunc(w.events.spool(), func(e telemetry.SpoolError) bool { return e.Well })
	if said != wasSick {
		w.errorf("told that it is well: %v; was sick: %v", said, wasSick)
	}
}

// isOfferedAgain: the end of a lease that could not be written has ended it all
// the same, and the message does not wait for a restart.
func (w *world) isOfferedAgain() {
	w.t.Helper()
	if w.l != nil {
		if err := w.l.Release(context.Background()); err != nil && !errors.Is(err, queue.ErrLeaseEnded) {
			w.errorf("Release: %v", err)
		}
	}
	if s, _ := w.state(); s == queue.StateLeased {
		w.errorf("it is leased by nobody")
	}
}

// nothingIsLost: all that was promised is there, and nothing else, now and for
// the next process.
func (w *world) nothingIsLost() {
	w.t.Helper()
	synctest.Wait()
	for _, when := range []string{"now", "after a restart"} {
		found := 0
		for e, err := range w.q.List(context.Background(), queue.Filter{}) {
			if err != nil {
				w.errorf("%s: List: %v", when, err)
				continue
			}
			if w.journal && isIncomplete(e) && strings.HasPrefix(string(e.ID), "journal-") {
				continue // half written, and refused
			}
			found++
			if isIncomplete(e) {
				w.errorf("%s: %s is called incomplete, and is whole", when, e.ID)
			}
			if want, promised := w.kept[e.ID]; !promised {
				w.errorf("%s: nobody was promised %s (%s)", when, e.ID, e.State)
			} else if got, err := readText(w.q, e.ID); err != nil || got != want {
				w.errorf("%s: %s holds %.40q (%v)", when, e.ID, got, err)
			}
		}
		if found != len(w.kept) {
			w.errorf("%s: %d messages, want %d", when, found, len(w.kept))
		}
		w.must(w.q.Close())
		for _, place := range []string{"incoming", "trash"} {
			left, err := w.mem.ReadDir(worldSpool + "/" + place)
			if w.litter && when == "now" && place == "trash" {
				continue
			}
			if err != nil || len(left) > 0 {
				w.errorf("%s: %v left in %s/ (%v)", when, left, place, err)
			}
		}
		if when == "now" {
			w.open()
		}
	}
}

func readText(q *Queue, id queue.ID) (string, error) {
	r, err := q.Open(context.Background(), id)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// TestDescriptorsRunOutWhereADirectoryIsOpenedToBeSynced: no sync was tried, so
// the disk is not to blame.
func TestDescriptorsRunOutWhereADirectoryIsOpenedToBeSynced(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{})
	remove := q.fs.Fail(faultfs.Rule{Op: faultfs.SyncDir, Nth: 1, Err: &fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}})
	if _, err := q.try(letter); !errors.Is(err, queue.ErrBusy) {
		t.Errorf("Commit: %v", err)
	}
	if remove() != 1 {
		t.Fatal("nothing failed")
	}
	must(t, q.Check(0))
	q.put(letter)
}
