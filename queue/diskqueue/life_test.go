package diskqueue

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// anyLife is a life drawn by a seed: with directories, or with a journal on a disk
// with room for few segments or for any number, all that can happen to a message
// in any order.
func anyLife(seed uint64) plot {
	r := rand.New(rand.NewPCG(seed, 1))
	return plot{journal: r.IntN(5) > 0, segments: []int{0, 3, 4, 5}[r.IntN(4)], steps: func(s *story) []func() error {
		r := rand.New(rand.NewPCG(seed, 2))
		some := func() error { return s.commit(r.IntN(r.IntN(1500) + 1)) }
		// How often each happens is drawn too, so that one life is mostly of acks
		// and another of retries.
		in := []func() error{some, some, some, s.commitTogether, s.commitLeased, s.commitBig, s.discard}
		out := []func() error{s.ack, s.ack, s.ack, s.keepTrying, s.settleAndRetry, s.release, s.bury, s.buryAndRequeue, s.delete, s.keep, s.sweep}
		var often []func() error
		for range 12 {
			often = append(often, in[r.IntN(len(in))], out[r.IntN(len(out))])
		}
		var steps []func() error
		for range 10 {
			phase := often[r.IntN(len(often))] // for a while one thing happens more than others
			for range 15 {
				step := phase
				if r.IntN(2) == 0 {
					step = often[r.IntN(len(often))]
				}
				steps = append(steps, func() error {
					if s.q.Depth().Ready == 0 {
						step = some // nothing else could be done
					}
					return ifRoom(step())
				})
			}
		}
		return steps
	}}
}

// lives calls f with seeds that are drawn: a few, or many when INCOMING_CRASH is
// set; or with the one that INCOMING_SEED says. It ends with the first that fails,
// and says which that was.
func lives(t *testing.T, few, many int, f func(seed uint64)) {
	n, seed := few, rand.Uint64()
	if os.Getenv("INCOMING_CRASH") != "" {
		n = many
	}
	if text := os.Getenv("INCOMING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("INCOMING_SEED: %v", err)
		}
		n = 1
	}
	defer func() {
		if t.Failed() {
			t.Logf("INCOMING_SEED=%d", seed)
		}
	}()
	for ; n > 0; n-- {
		if f(seed); t.Failed() {
			return
		}
		seed = rand.Uint64()
	}
}

// TestNoPowerCutEndsALifeInLoss cuts lives that are drawn, once and then again
// while the spool is opened. Q01.
func TestNoPowerCutEndsALifeInLoss(t *testing.T) {
	t.Parallel()
	lives(t, 1, 60, func(seed uint64) { anyLife(seed).cutSomewhere(t, seed) })
}

func (p plot) cutSomewhere(t *testing.T, seed uint64) {
	n := p.length(t)
	r := rand.New(rand.NewPCG(seed, 3))
	for range 4 {
		cut := r.IntN(n)
		fs, messages := p.runTo(cut)
		for name, fate := range fates(2) {
			if err := errors.Join(p.checkIndex(fs.Crash(fate)), p.check(fs.Crash(fate), messages)); err != nil {
				t.Errorf("cut after change %d, %s: %v", cut, name, err)
			}
			opened := fs.Crash(fate)
			p.openAndClose(opened)
			second := r.IntN(opened.Ops() + 1)
			left := fs.Crash(fate)
			left.CutAt(second)
			p.openAndClose(left)
			for name2, fate2 := range fates(1) {
				if err := p.check(left.Crash(fate2), messages); err != nil {
					t.Errorf("cut after change %d (%s), then after change %d of recovery (%s): %v", cut, name, second, name2, err)
				}
			}
		}
		p.killAndCut(t, fs, r.IntN(100), messages)
	}
}

// killAndCut has the process killed where the power was cut, and the power go after
// a change of the next one.
func (p plot) killAndCut(t *testing.T, fs *crashfs.FS, cut int, messages map[queue.ID]*promised) {
	before := fs.Ops()
	fs.Kill()
	fs.CutAt(cut)
	p.openAndClose(fs)
	for name, fate := range fates(1) {
		if err := p.check(fs.Crash(fate), messages); err != nil {
			t.Errorf("killed after change %d, then cut after change %d of recovery (%s): %v", before, cut, name, err)
		}
	}
}

// TestNoFailingDiskEndsALifeInLoss has the disk of lives that are drawn fail now and
// then, for a while, and then cuts the power. What is mixed of old and new by
// that is for the lives above, whose disk works. Q02, Q05, Q16.
func TestNoFailingDiskEndsALifeInLoss(t *testing.T) {
	t.Parallel()
	lives(t, 20, 1000, func(seed uint64) {
		synctest.Test(t, func(t *testing.T) { anyLife(seed).fail(t, seed, faultfs.Call.Changes) })
	})
}

// TestNoUnreadableDiskEndsALifeInLoss has the disk refuse to be read too: a
// message that it does not give back is set aside, with what can be had of it.
// Q02, Q05, Q16.
func TestNoUnreadableDiskEndsALifeInLoss(t *testing.T) {
	t.Parallel()
	lives(t, 20, 1000, func(seed uint64) {
		synctest.Test(t, func(t *testing.T) { anyLife(seed).fail(t, seed, func(faultfs.Call) bool { return true }) })
	})
}

// fail lives through a story while those calls fail, now and then: to its end, and
// then again to a cut.
func (p plot) fail(t *testing.T, seed uint64, which func(faultfs.Call) bool) {
	n := p.failTo(t, seed, which, math.MaxInt32)
	p.failTo(t, seed, which, rand.New(rand.NewPCG(seed, 5)).IntN(n))
}

// failTo returns how many changes were made.
func (p plot) failTo(t *testing.T, seed uint64, which func(faultfs.Call) bool, cut int) int {
	fs := crashfs.New()
	fs.CutAt(cut)
	sane := p
	p.faults = &weather{r: rand.New(rand.NewPCG(seed, 4)), between: 20 + int(seed%200), which: which}
	steps := p.steps
	p.steps = func(s *story) (all []func() error) {
		for _, step := range steps(s) {
			all = append(all, func() error {
				p.faults.begin()
				for s.q.well() != nil && s.ctx.Err() == nil {
					time.Sleep(probeEvery)
				}
				err := unlessDisk(step())
				if p.faults.hasUnread() && errors.Is(err, queue.ErrIncomplete) {
					return nil // a dead letter that cannot be read is not requeued
				}
				return err
			})
		}
		return all
	}
	s := p.run(fs)
	if s.err != nil && fs.Ops() < cut {
		t.Error(s.err)
	}
	for _, m := range s.messages {
		m.dying = true // a message may be blamed when all else works, and is set aside
		m.holed = p.faults.hasUnread()
	}
	for name, fate := range fates(0) {
		if err := sane.check(fs.Crash(fate), s.messages); err != nil {
			t.Errorf("cut after change %d of %d, %s: %v", cut, fs.Ops(), name, err)
		}
	}
	return fs.Ops()
}

// unlessDisk lets a disk that is full or fails refuse, and the only message that
// is ready be set aside when it is to be leased.
func unlessDisk(err error) error {
	for _, kind := range []error{queue.ErrNoSpace, queue.ErrSick, queue.ErrBusy, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return nil
		}
	}
	return err
}

// weather is when a disk fails, and how: once it has begun, for a while and then
// not again for longer.
type weather struct {
	between int // calls, about, from one time to the next
	which   func(faultfs.Call) bool

	mu     sync.Mutex
	begun  bool
	r      *rand.Rand
	left   int // calls that still fail
	no     syscall.Errno
	unread bool // something could not be read
}

func (w *weather) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = true
}

// hasUnread is whether anything could not be read so far.
func (w *weather) hasUnread() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unread
}

// rules are for each error that there may be.
func (w *weather) rules() (all []faultfs.Rule) {
	for _, no := range errnos {
		all = append(all, faultfs.Rule{Err: no, Match: func(c faultfs.Call) bool { return w.hits(c, no) }})
	}
	return all
}

// hits is asked for each error in turn.
func (w *weather) hits(c faultfs.Call, no syscall.Errno) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun && w.left == 0 && no == errnos[0] && w.r.IntN(w.between) == 0 {
		w.no, w.left = errnos[w.r.IntN(len(errnos))], 1+w.r.IntN(10)
	}
	if w.left == 0 || no != w.no || !w.which(c) || !canFail(c, no) {
		return false
	}
	w.left--
	w.unread = w.unread || !c.Changes()
	return true
}
