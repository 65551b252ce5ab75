package diskqueue

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

const day = 24 * time.Hour

// sweeping is a world that sweeps as o says.
func sweeping(t *testing.T, change func(o *Options)) *world {
	w := &world{t: t, what: "sweep", mem: crashfs.New(), kept: map[queue.ID]string{}}
	o := w.options()
	o.DeadSweep = 0
	change(o)
	q, err := Open(worldSpool, o)
	must(t, err)
	w.q = q
	return w
}

// die makes a dead letter of a kind.
func (w *world) die(kind queue.Kind) queue.ID { return w.dieKept(kind, 0) }

func (w *world) dieKept(kind queue.Kind, keep time.Duration) queue.ID {
	w.t.Helper()
	id := w.put(0)
	l, err := w.lease(time.Minute)
	w.must(err)
	w.must(l.Settle(context.Background(), []queue.Outcome{{Recipient: "a@y.example"}}))
	w.must(l.Bury(context.Background(), &queue.Cause{Kind: kind, Err: errors.New("a reason"), Keep: keep}))
	return id
}

func (w *world) swept() []queue.ID {
	synctest.Wait()
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	ids := []queue.ID{}
	for _, e := range w.events.swept {
		ids = append(ids, queue.ID(e.ID))
	}
	return ids
}

var kinds = []queue.Kind{queue.KindRejected, queue.KindSpent, queue.KindPanic, queue.KindCorrupt}

// Q23.
func TestOnlyWhatTheApplicationRejectedIsSweptByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(*Options) {})
		defer w.q.Close()
		var ids []queue.ID
		died := time.Now()
		for _, kind := range kinds {
			ids = append(ids, w.die(kind))
		}
		live := w.put(0)
		time.Sleep(7*day - time.Second)
		if got := w.swept(); len(got) > 0 {
			t.Errorf("swept before its age: %v", got)
		}
		time.Sleep(time.Minute + time.Second)
		if got := w.swept(); !slices.Equal(got, ids[:1]) {
			t.Errorf("swept %v, want %v", got, ids[:1])
		}
		time.Sleep(1000 * day)
		if got := w.swept(); len(got) != 1 {
			t.Errorf("after years: %v", got)
		}
		if d := counts(w.q.Depth()); d != (queue.Depth{Ready: 1, Dead: 3}) {
			t.Errorf("left: %+v", d)
		}
		if _, err := w.q.Get(context.Background(), live); err != nil {
			t.Error(err)
		}
		e := w.events.swept[0]
		if e.MailFrom != "from@x.example" || !slices.Equal(e.Rcpts, []string{"b@y.example", "a@y.example"}) ||
			e.Reason != "a reason" || e.Kind != "rejected" || !e.DeadAt.Equal(died) {
			t.Errorf("told of %+v", e)
		}
		if _, err := w.mem.Stat(worldSpool + "/dead/" + string(ids[0])); err == nil {
			t.Error("it still lies in dead/")
		}
	})
}

func TestEachAgeIsItsOwnKinds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name           string
		rejected, rest time.Duration
		want           []int // indices of kinds
	}{
		{"the others' age alone", -1, day, []int{1, 2, 3}},
		{"both", 2 * day, day, []int{0, 1, 2, 3}},
		{"none", -1, -1, nil},
		{"rejected alone", day, -1, []int{0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := sweeping(t, func(o *Options) { o.DeadAge, o.DeadSpentAge = tc.rejected, tc.rest })
			defer w.q.Close()
			var want, all []queue.ID
			for _, kind := range kinds {
				all = append(all, w.die(kind))
			}
			for _, i := range tc.want {
				want = append(want, all[i])
			}
			time.Sleep(3 * day)
			got := w.swept()
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: swept %v, want %v", tc.name, got, want)
			}
		})
	}
}

// A dead letter that says itself how long it is kept goes by that, whatever its kind
// and whoever opens the spool.
func TestALettersOwnKeepGoesBeforeItsKinds(t *testing.T) {
	t.Parallel()
	for _, ages := range []time.Duration{-1, 2 * day} {
		synctest.Test(t, func(t *testing.T) {
			w := sweeping(t, func(o *Options) { o.DeadAge, o.DeadSpentAge = ages, ages })
			var short, long []queue.ID
			for _, kind := range []queue.Kind{queue.KindRejected, queue.KindSpent} {
				short = append(short, w.dieKept(kind, day))
				long = append(long, w.dieKept(kind, 9*day), w.dieKept(kind, -1))
			}
			time.Sleep(day - time.Minute)
			if got := w.swept(); len(got) > 0 {
				t.Errorf("swept before its time: %v", got)
			}
			must(t, w.q.Close())
			o := w.options()
			o.DeadSweep, o.DeadAge, o.DeadSpentAge = 0, ages, ages
			q, err := Open(worldSpool, o)
			must(t, err)
			w.q = q
			defer w.q.Close()
			time.Sleep(3 * time.Minute)
			got := w.swept()
			slices.Sort(got)
			slices.Sort(short)
			if !slices.Equal(got, short) {
				t.Errorf("swept %v, want %v", got, short)
			}
			time.Sleep(4 * day)
			for i, id := range long {
				e, err := w.q.Get(context.Background(), id)
				must(t, err)
				if want := []time.Duration{9 * day, -1}[i%2]; e.Dead.Keep != want {
					t.Errorf("%s: Keep is %v, want %v", id, e.Dead.Keep, want)
				}
			}
			time.Sleep(5 * day)
			if got := w.swept(); len(got) != 4 {
				t.Errorf("%d are swept in the end, want 4", len(got))
			}
		})
	}
}

// Q23.
func TestASweepRemovesNoMoreThanItsMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(o *Options) { o.DeadAge, o.DeadSweep, o.DeadSweepMost = time.Hour, 2*time.Hour, 3 })
		defer w.q.Close()
		for range 7 {
			w.die(queue.KindRejected)
		}
		for turn, want := range []int{0, 3, 6, 7, 7} {
			if got := w.swept(); len(got) != want {
				t.Errorf("%d swept after %d turns, want %d", len(got), turn, want)
			}
			time.Sleep(2*time.Hour + time.Second)
		}
	})
}

func TestNoSweepWhereNoneIsWanted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(o *Options) { o.DeadAge, o.DeadSweep = time.Hour, -1 })
		defer w.q.Close()
		w.die(queue.KindRejected)
		time.Sleep(100 * day)
		if got := w.swept(); len(got) != 0 {
			t.Errorf("swept %v", got)
		}
	})
}

// TestALetterRevivedBeforeItsAgeIsNotSwept: its death is forgotten with it.
func TestALetterRevivedBeforeItsAgeIsNotSwept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(*Options) {})
		defer w.q.Close()
		id := w.die(queue.KindRejected)
		time.Sleep(6 * day)
		w.must(w.q.Requeue(context.Background(), id))
		time.Sleep(2 * day)
		l, err := w.lease(time.Minute)
		w.must(err)
		w.must(l.Bury(context.Background(), errors.New("again")))
		time.Sleep(6 * day)
		if got := w.swept(); len(got) != 0 {
			t.Errorf("swept %v six days after its second death", got)
		}
		time.Sleep(2 * day)
		if got := w.swept(); len(got) != 1 {
			t.Errorf("swept %v", got)
		}
	})
}

// TestNothingIsSweptThatIsNotTold: where the letter cannot be read or moved it
// stays, and a disk that fails ends the turn.
func TestNothingIsSweptThatIsNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(o *Options) { o.DeadAge = time.Hour })
		defer w.q.Close()
		for range 3 {
			w.die(queue.KindRejected)
		}
		remove := w.fs.Fail(faultfs.Rule{Op: faultfs.Rename, Path: "/dead/", Err: syscall.EROFS})
		time.Sleep(2 * time.Hour)
		if got := w.swept(); len(got) != 0 || w.q.Depth().Dead != 3 {
			t.Errorf("swept %v, %d left", got, w.q.Depth().Dead)
		}
		remove()
		time.Sleep(time.Hour)
		if got := w.swept(); len(got) != 3 {
			t.Errorf("swept %v when the disk was well again", got)
		}
	})
}

// TestALetterThatCannotBeReadIsNotSwept, on a disk that works: it stays where it is,
// and the next open finds it.
func TestALetterThatCannotBeReadIsNotSwept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(o *Options) { o.DeadAge = time.Hour })
		unread := w.die(queue.KindRejected)
		read := w.die(queue.KindRejected)
		w.fs.Fail(faultfs.Rule{Op: faultfs.Open, Path: string(unread), Err: syscall.EIO})
		time.Sleep(2 * time.Hour)
		if got := w.swept(); !slices.Equal(got, []queue.ID{read}) {
			t.Errorf("swept %v, want %v", got, read)
		}
		if told := w.events.spool(); len(told) != 1 || told[0].ID != string(unread) || told[0].Sick {
			t.Errorf("told: %+v", told)
		}
		w.must(w.q.Close())
		w.open()
		defer w.q.Close()
		if e, err := w.q.Get(t.Context(), unread); err != nil || e.State != queue.StateDead {
			t.Errorf("%s, %v", e.State, err)
		}
	})
}

func TestTheFirstSweepLeavesTimeToSayNo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sweeping(t, func(o *Options) { o.DeadSweep = -1 })
		w.die(queue.KindRejected)
		w.must(w.q.Close())
		time.Sleep(30 * day)
		o := w.options()
		o.DeadSweep = 0
		q, err := Open(worldSpool, o)
		must(t, err)
		w.q = q
		defer q.Close()
		time.Sleep(59 * time.Second)
		if got := w.swept(); len(got) != 0 {
			t.Errorf("swept within the first minute: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := w.swept(); len(got) != 1 {
			t.Errorf("swept after it: %v", got)
		}
	})
}
