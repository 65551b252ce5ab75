package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// mounted mounts a file system in memory of its own for a test, which is skipped
// where that is not allowed.
func mounted(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs, which takes root: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// realQueue is a queue on a real file system, with a journal if it has segments.
func realQueue(t *testing.T, dir string, segment int64, fs vfs.FS) *testQueue {
	t.Helper()
	tq := &testQueue{t: t, events: new(events)}
	tq.Queue = mustOpen(t, dir, &Options{NoJournal: segment == 0, segment: segment, MessageSize: -1, DeadSweep: -1, Hooks: tq.events.hooks(), fs: fs})
	t.Cleanup(func() { must(t, tq.Close()) })
	return tq
}

// fill commits until the disk is full.
func (q *testQueue) fill(text string) int {
	q.t.Helper()
	for n := range 10_000 {
		if _, err := q.try(text); err != nil {
			if !errors.Is(err, queue.ErrNoSpace) {
				q.t.Fatalf("after %d messages: %v", n, err)
			}
			return n
		}
	}
	q.t.Fatal("it never fills up")
	return 0
}

// until waits for what happens by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); !done(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Q02.
func TestAFullDiskIsFullAndDeliversAndIsWellAgain(t *testing.T) {
	t.Parallel()
	t.Run("directories", func(t *testing.T) {
		t.Parallel()
		fullAndWellAgain(t, 0, 50_000)
	})
	t.Run("journal", func(t *testing.T) { // the messages of the last round are too long for such segments
		t.Parallel()
		fullAndWellAgain(t, 256<<10, 25_000)
	})
}

// fullAndWellAgain fills a disk three times, by messages that are longer each time
// by so many octets.
func fullAndWellAgain(t *testing.T, segment int64, longer int) {
	dir := mounted(t, "size=4m,nr_inodes=5000")
	q := realQueue(t, dir, segment, vfs.OS{})
	for round := range 3 {
		n := q.fill(letter + strings.Repeat("x", longer*(1+round)))
		if n < 5 {
			t.Fatalf("round %d: full after %d messages", round, n)
		}
		if err := q.Check(0); !errors.Is(err, queue.ErrNoSpace) || errors.Is(err, queue.ErrSick) {
			t.Errorf("round %d: Check: %v", round, err)
		}
		// All that got in goes out, by every way that is no growth.
		for i := range n {
			l := q.next()
			if i%3 == 0 {
				_ = l.Settle(context.Background(), []queue.Outcome{{Recipient: "nobody@y.example"}})
				must(t, l.Release(context.Background()))
				l = q.next()
			}
			r, err := l.Message().Open()
			must(t, err)
			text, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			if len(text) != len(letter)+longer*(1+round) {
				t.Errorf("round %d: %d octets", round, len(text))
			}
			must(t, l.Ack(context.Background()))
		}
		until(t, "it takes mail again", func() bool { return q.Check(0) == nil })
		q.put(letter)
		must(t, q.next().Ack(context.Background()))
	}
	if d := counts(q.Depth()); d != (queue.Depth{}) {
		t.Errorf("left: %+v", d)
	}
	for _, e := range q.events.spool() {
		if e.Sick {
			t.Errorf("sick: %v", e.Err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "incoming"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
}

// TestAFullDiskStopsNoVerdict: there may be no room for a reason or a time, but
// then the message is offered again and not lost. Q02.
func TestAFullDiskStopsNoVerdict(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q := realQueue(t, mounted(t, "size=4m,nr_inodes=5000"), 0, vfs.OS{})
	n := q.fill(letter + strings.Repeat("x", 100_000))
	until(t, "what did not get in is removed", func() bool {
		staged, err := os.ReadDir(filepath.Join(q.Dir(), "incoming"))
		must(t, err)
		removed, err := os.ReadDir(filepath.Join(q.Dir(), "trash"))
		must(t, err)
		return len(staged)+len(removed) == 0
	})
	must(t, os.WriteFile(filepath.Join(q.Dir(), ".rest"), nil, 0o600))
	rest, err := os.OpenFile(filepath.Join(q.Dir(), ".rest"), os.O_WRONLY, 0)
	must(t, err)
	for err == nil { // the last octet
		_, err = rest.Write(make([]byte, 4096))
	}
	must(t, rest.Close())
	if err := q.next().Retry(ctx, time.Now().Add(time.Hour), io.EOF); !errors.Is(err, queue.ErrNoSpace) {
		t.Errorf("Retry: %v", err)
	}
	if err := q.next().Bury(ctx, io.EOF); !errors.Is(err, queue.ErrNoSpace) {
		t.Errorf("Bury: %v", err)
	}
	for range n - 1 { // the one to be retried in an hour was promised nothing sooner
		must(t, q.next().Ack(ctx))
	}
	if d := counts(q.Depth()); d != (queue.Depth{Waiting: 1}) {
		t.Errorf("left: %+v", d)
	}
}

// Q04.
func TestTheInodesRunOut(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mounted(t, "size=64m,nr_inodes=1200")
	q := realQueue(t, dir, 0, vfs.OS{})
	var drafts []queue.Draft
	for range 20 {
		d, err := q.Begin(ctx, envelope(), queue.Origin{})
		must(t, err)
		_, err = io.WriteString(d, letter)
		must(t, err)
		drafts = append(drafts, d)
	}
	kept := q.put(letter)
	for n := 0; ; n++ { // another program takes them all
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(".other%d", n)), nil, 0o600); err != nil {
			if !errors.Is(err, syscall.ENOSPC) || n < 100 {
				t.Fatalf("after %d files: %v", n, err)
			}
			break
		}
	}
	for _, d := range drafts {
		if _, err := d.Commit(ctx, queue.Final{}); !errors.Is(err, queue.ErrNoSpace) {
			t.Errorf("Commit without inodes: %v", err)
		}
	}
	until(t, "the floor is seen", func() bool {
		_, err := q.Begin(ctx, envelope(), queue.Origin{})
		return errors.Is(err, queue.ErrNoSpace) && strings.Contains(err.Error(), "inodes")
	})
	l := q.next()
	must(t, l.Ack(ctx))
	if l.Message().ID != kept {
		t.Errorf("delivered %s", l.Message().ID)
	}
	names, err := filepath.Glob(filepath.Join(dir, ".other*"))
	must(t, err)
	for _, name := range names {
		must(t, os.Remove(name))
	}
	until(t, "it takes mail again", func() bool { return q.Check(0) == nil })
	q.put(letter)
	must(t, q.next().Ack(ctx))
}

// lockElsewhere keeps the lock on another file system: one that is open for
// writing cannot be made read-only by hand.
type lockElsewhere struct {
	vfs.OS
	name string
}

func (l lockElsewhere) Lock(_ string, exclusive bool) (io.Closer, error) {
	return l.OS.Lock(l.name, exclusive)
}

// Q06.
func TestAReadOnlySpoolIsSickAndWellByItselfWhenItCanBeWrittenTo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := mounted(t, "size=4m")
	q := realQueue(t, dir, 0, lockElsewhere{name: filepath.Join(t.TempDir(), "lock")})
	kept := q.put(letter)
	remount := func(flags uintptr) {
		t.Helper()
		// What is being removed is still held open for a moment.
		until(t, "remounted", func() bool { return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=4m") == nil })
	}
	remount(syscall.MS_RDONLY)
	if _, err := q.try(letter); !errors.Is(err, queue.ErrSick) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("Commit: %v", err)
	}
	if err := q.Check(0); !errors.Is(err, queue.ErrSick) {
		t.Errorf("Check: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := q.Lease(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease: %v", err)
	}
	if q.probe() == nil {
		t.Error("the probe passes")
	}
	remount(0)
	until(t, "well", func() bool { return q.Check(0) == nil })
	l := q.next()
	must(t, l.Ack(ctx))
	if l.Message().ID != kept {
		t.Errorf("delivered %s", l.Message().ID)
	}
	well := 0
	for _, e := range q.events.spool() {
		if e.Well {
			well++
		}
	}
	if well != 1 {
		t.Errorf("told %d times that it is well", well)
	}
}

// Q06.
func TestOpenOfAReadOnlyDirectorySaysSo(t *testing.T) {
	t.Parallel()
	dir := mounted(t, "size=1m,ro")
	if _, err := Open(filepath.Join(dir, "spool"), nil); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open: %v", err)
	}
}
