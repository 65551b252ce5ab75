package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

// filledWorld is a journal on a disk with room for so many segments and no
// more, filled up.
func filledWorld(t *testing.T, segments int) (w *world, ids []queue.ID) {
	w = &world{t: t, what: "full disk", journal: true, mem: crashfs.New(), kept: map[queue.ID]string{}}
	o := w.options()
	o.segment = 256 << 10
	w.fs.Fail(faultfs.Rule{Op: faultfs.Preallocate, Err: syscall.ENOSPC, Match: func(faultfs.Call) bool {
		names, err := w.mem.ReadDir(worldSpool + "/journal")
		return err == nil && len(names) > segments // the one that is being made is among them
	}})
	q, err := Open(worldSpool, o)
	w.must(err)
	w.q = q
	for second := 0; ; second++ {
		id, _, err := w.text(letter, second, false)
		if errors.Is(err, queue.ErrNoSpace) {
			return w, ids
		}
		w.must(err)
		w.kept[id] = letter
		ids = append(ids, id)
	}
}

// TestAFullDiskNeverStopsAnAck: on a full disk nothing comes in, all that is
// there can be tried again and again and goes out, and then there is room again.
func TestAFullDiskNeverStopsAnAck(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"oldest first", "shuffled"} {
		synctest.Test(t, func(t *testing.T) {
			w, ids := filledWorld(t, 12)
			room, retried := 0, 0
			ended := func(l queue.Lease) {
				w.must(l.Ack(context.Background()))
				delete(w.kept, l.Message().ID)
				if len(w.kept)%50 == 0 {
					time.Sleep(2 * fullFor)
					second := 1_000_000 + len(w.kept)
					if back, _, err := w.text(letter, second, false); err == nil {
						room = max(room, len(w.kept))
						w.kept[back] = letter
					} else if !errors.Is(err, queue.ErrNoSpace) {
						w.errorf("%v", err)
					}
				}
			}
			var leases []queue.Lease
			for n := range ids {
				l, err := w.lease(time.Minute)
				w.must(err)
				switch {
				case order == "shuffled":
					leases = append(leases, l)
				case n%7 == 0:
					if err := l.Retry(context.Background(), time.Time{}, io.EOF); err != nil && !errors.Is(err, queue.ErrNoSpace) {
						w.errorf("%v", err)
					}
					retried++ // or offered again
				default:
					ended(l)
				}
			}
			for range retried {
				l, err := w.lease(time.Minute)
				w.must(err)
				ended(l)
			}
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(leases), func(i, j int) { leases[i], leases[j] = leases[j], leases[i] })
			for _, l := range leases {
				ended(l)
			}
			synctest.Wait()
			t.Logf("%s: %d messages on the full disk, room again when %d were left; %+v", order, len(ids), room, w.q.journal.did)
			if room == 0 && order != "shuffled" {
				t.Errorf("%s: there is no room again", order)
			}
			if n := len(w.q.journal.again); n > 0 {
				t.Errorf("%s: %d records wait to be written", order, n)
			}
			for _, e := range w.events.spool() {
				if e.Sick {
					t.Errorf("sick: %v", e.Err)
				}
			}
			w.nothingIsLost()
		})
	}
}

// TestAFullDiskIsRelieved: what little each segment holds is put together when
// there is no other way to make room.
func TestAFullDiskIsRelieved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, ids := filledWorld(t, 8)
		for n := range ids { // a third stays, in each segment
			l, err := w.lease(time.Minute)
			w.must(err)
			if n%3 == 0 {
				err := l.Retry(context.Background(), time.Now().Add(1000*time.Hour), io.EOF)
				if err != nil && !errors.Is(err, queue.ErrNoSpace) {
					t.Error(err)
				}
				continue
			}
			w.must(l.Ack(context.Background()))
			delete(w.kept, l.Message().ID)
		}
		synctest.Wait()
		free := 0
		for second := range len(ids) / 2 {
			time.Sleep(2 * fullFor)
			id, _, err := w.text(letter, 2_000_000+second, false)
			if errors.Is(err, queue.ErrNoSpace) {
				continue // and so the goroutine is told that room is wanted
			}
			w.must(err)
			w.kept[id] = letter
			free++
		}
		t.Logf("%d messages, a third stayed, %d came in after; %+v", len(ids), free, w.q.journal.did)
		if w.q.journal.did.relieved == 0 || free < len(ids)/4 {
			t.Errorf("%d came in after", free)
		}
		w.nothingIsLost()
	})
}

// TestAModelDiskFillsUp commits, acks and retries tens of thousands of messages
// on a disk that is always nearly full.
func TestAModelDiskFillsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := filledWorld(t, 6)
		var refused, in, out, retried int
		r := rand.New(rand.NewPCG(2, 2))
		for n := range 30_000 {
			if r.IntN(2) == 0 {
				id, _, err := w.text(fmt.Sprintf("%s%s\r\n", letter, strings.Repeat("y", r.IntN(500))), 3_000_000+n, false)
				switch {
				case err == nil:
					in++
					w.kept[id] = ""
				case errors.Is(err, queue.ErrNoSpace):
					refused++
					time.Sleep(fullFor)
				default:
					t.Fatal(err)
				}
				continue
			}
			if w.q.Depth().Ready == 0 {
				continue
			}
			l, err := w.lease(time.Minute)
			w.must(err)
			if r.IntN(4) == 0 {
				switch err := l.Retry(context.Background(), time.Now().Add(time.Duration(r.IntN(100))*time.Second), io.EOF); {
				case err == nil:
					retried++
				case !errors.Is(err, queue.ErrNoSpace):
					t.Fatal(err)
				}
				continue
			}
			w.must(l.Ack(context.Background()))
			out++
			delete(w.kept, l.Message().ID)
		}
		t.Logf("%d in, %d refused, %d out, %d retried; %+v", in, refused, out, retried, w.q.journal.did)
		if refused == 0 || in < 5000 || out < 5000 || w.q.journal.did.ended < 10 {
			t.Errorf("that is no test")
		}
		for id := range w.kept {
			text, err := readText(w.q, id)
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			w.kept[id] = text
		}
		w.nothingIsLost()
	})
}

// TestManySegmentsAreFewOpenFiles: a journal of 200 segments keeps no more than
// mostOpen of them open, while it is written, opened and read.
func TestManySegmentsAreFewOpenFiles(t *testing.T) {
	t.Parallel()
	mem := crashfs.New()
	counting := &countingFS{FS: faultfs.New(mem)}
	o := Options{MessageSize: -1, Depth: -1, segment: 16 << 10, restless: -1, NoFsync: true, fs: counting}
	q := mustOpen(t, "/spool", &o)
	text := letter + strings.Repeat("x", 2000)
	tq := &testQueue{Queue: q, t: t, events: new(events)}
	ids := map[queue.ID]bool{}
	for range 1000 {
		ids[tq.put(text)] = true
	}
	if n := len(q.journal.lives); n < 190 {
		t.Fatalf("%d segments", n)
	}
	must(t, q.Close())
	q = mustOpen(t, "/spool", &o)
	tq.Queue = q
	for id := range ids {
		if tq.textOf(id) != text {
			t.Fatalf("%s has another text", id)
		}
	}
	for range ids {
		must(t, tq.next().Ack(context.Background()))
	}
	must(t, q.Close())
	t.Logf("at most %d files open", counting.most.Load())
	if most := counting.most.Load(); most > mostOpen+8 {
		t.Errorf("%d files were open at once", most)
	}
	if n := counting.open.Load(); n != 0 {
		t.Errorf("%d files are left open", n)
	}
}

// countingFS counts the files that are open.
type countingFS struct {
	*faultfs.FS
	open, most atomic.Int64
}

func (c *countingFS) count(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	n := c.open.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return &countedFile{File: f, fs: c}, nil
}

func (c *countingFS) Create(name string) (vfs.File, error) { return c.count(c.FS.Create(name)) }
func (c *countingFS) Open(name string) (vfs.File, error)   { return c.count(c.FS.Open(name)) }
func (c *countingFS) Reopen(name string) (vfs.File, error) { return c.count(c.FS.Reopen(name)) }

type countedFile struct {
	vfs.File
	fs *countingFS
}

func (f *countedFile) Close() error {
	err := f.File.Close()
	if err == nil {
		f.fs.open.Add(-1)
	}
	return err
}
