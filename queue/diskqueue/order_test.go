package diskqueue

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorder writes down what is done to the disk, step by step.
type recorder struct {
	*testQueue
	out   bytes.Buffer
	names []string // an ID, and what it is called in the golden file
}

// step records what f does, and with it the removal of what f moved to trash/.
func (r *recorder) step(name string, trashed int, f func()) {
	r.t.Helper()
	removed := make(chan struct{}, 10)
	r.fs.OnCall(func(c faultfs.Call) {
		if c.Op == faultfs.Remove && filepath.Base(filepath.Dir(c.Path)) == "trash" {
			removed <- struct{}{}
		}
	})
	r.fs.Reset()
	f()
	for range trashed {
		<-removed
	}
	fmt.Fprintf(&r.out, "# %s\n", name)
	replace := strings.NewReplacer(append([]string{r.Dir() + "/", "", r.Dir(), "."}, r.names...)...)
	for _, c := range r.fs.Calls() {
		if c.Changes() {
			fmt.Fprintln(&r.out, replace.Replace(c.String()))
		}
	}
	fmt.Fprintln(&r.out)
}

func (r *recorder) golden(name string) {
	r.t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(r.t, os.WriteFile(path, r.out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	must(r.t, err)
	if !bytes.Equal(want, r.out.Bytes()) {
		r.t.Errorf("the order of calls is not that of %s; run with -update if that is meant. It is:\n%s", path, r.out.Bytes())
	}
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{testQueue: openTest(t, t.TempDir(), Options{})}
}

func (r *recorder) begin(text string) queue.Draft {
	r.t.Helper()
	d, err := r.Begin(context.Background(), envelope("a@y.example", "b@y.example"), queue.Origin{ReceivedAt: time.Now()})
	must(r.t, err)
	r.names = append(r.names, string(d.ID()), "ID")
	_, err = io.WriteString(d, text)
	must(r.t, err)
	return d
}

func (r *recorder) commit(d queue.Draft) {
	r.t.Helper()
	_, err := d.Commit(context.Background(), queue.Final{})
	must(r.t, err)
}

// Q01.
func TestOrderOfCommit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRecorder(t)
	large := strings.Repeat("x", mostBuffered+1)
	r.step("commit, held in memory", 0, func() { r.commit(r.begin(letter)) })
	r.step("commit, in a file", 0, func() { r.commit(r.begin(large)) })
	r.step("commit and lease", 0, func() {
		_, err := r.begin(letter).CommitLeased(ctx, queue.Final{})
		must(t, err)
	})
	r.step("discard, held in memory", 0, func() { must(t, r.begin(letter).Discard()) })
	r.step("discard, in a file", 1, func() { must(t, r.begin(large).Discard()) })
	r.golden("commit.golden")
}

func TestOrderOfVerdicts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRecorder(t)
	var l queue.Lease
	lease := func() {
		r.commit(r.begin(letter))
		l = r.next()
	}
	r.commit(r.begin(letter))
	r.step("lease", 0, func() { l = r.next() })
	r.step("settle", 0, func() { must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example", Rejected: "no"}})) })
	r.step("release", 0, func() { must(t, l.Release(ctx)) })
	l = r.next()
	r.step("ack", 1, func() { must(t, l.Ack(ctx)) })
	lease()
	r.step("retry", 0, func() { must(t, l.Retry(ctx, time.Now(), io.ErrNoProgress)) })
	l = r.next()
	r.step("bury", 0, func() { must(t, l.Bury(ctx, io.ErrNoProgress)) })
	r.step("requeue", 0, func() { must(t, r.Requeue(ctx, l.Message().ID)) })
	r.step("delete", 1, func() { must(t, r.Delete(ctx, l.Message().ID)) })
	lease()
	must(t, l.Retry(ctx, time.Now().Add(time.Hour), io.ErrNoProgress))
	r.step("retry by an operator", 0, func() { must(t, r.Retry(ctx, l.Message().ID)) })
	must(t, r.next().Bury(ctx, &queue.Cause{Kind: queue.KindRejected, Err: io.ErrNoProgress, Keep: 1}))
	<-time.After(2 * time.Millisecond) // an age is in milliseconds
	r.step("sweep", 1, r.sweep)
	r.step("pause", 0, func() { must(t, r.Pause(ctx)) })
	r.step("resume", 0, func() { must(t, r.Resume(ctx)) })
	r.golden("verdicts.golden")
}

func TestOrderOfRecovery(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ok := meta(letter, nil)
	tree{
		"incoming/whole/raw.tmp": letter, "incoming/whole/meta.tmp": ok, "incoming/part/raw.tmp": "S",
		"committed/corrupt/raw.eml": letter, "processing/leased/raw.eml": letter, "processing/leased/meta.json": ok,
		"trash/old/raw.eml": letter,
	}.in(t, dir)
	r := &recorder{testQueue: openTest(t, t.TempDir(), Options{})}
	fs := r.fs
	fs.Reset()
	o := Options{NoJournal: true, MessageSize: -1, fs: fs}
	q := mustOpen(t, dir, &o)
	defer q.Close()
	replace := strings.NewReplacer(dir+"/", "", dir, ".", filepath.Dir(dir), "..")
	fmt.Fprintln(&r.out, "# open")
	for _, c := range fs.Calls() {
		if c.Changes() {
			fmt.Fprintln(&r.out, replace.Replace(c.String()))
		}
	}
	r.golden("recovery.golden")
}

// TestCommitReturnsAfterTheLastSync: at no step before is the message offered
// or Commit back, and of all steps the sync of committed/ is the last.
func TestCommitReturnsAfterTheLastSync(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{})
	d, err := q.Begin(context.Background(), envelope(), queue.Origin{})
	must(t, err)
	_, err = io.WriteString(d, letter)
	must(t, err)
	reached, goOn := make(chan faultfs.Call), make(chan struct{})
	q.fs.OnCall(func(c faultfs.Call) {
		reached <- c
		<-goOn
	})
	done := make(chan error, 1)
	go func() {
		_, err := d.Commit(context.Background(), queue.Final{})
		done <- err
	}()
	var last faultfs.Call
	for {
		select {
		case last = <-reached:
			if n := q.Depth().Ready; n != 0 {
				t.Errorf("offered before %s", last)
			}
			goOn <- struct{}{}
			continue
		case err := <-done:
			must(t, err)
		}
		break
	}
	q.fs.OnCall(nil)
	if last.Op != faultfs.SyncDir || filepath.Base(last.Path) != "committed" {
		t.Errorf("Commit returned after %s", last)
	}
	if n := q.Depth().Ready; n != 1 {
		t.Errorf("%d ready after Commit", n)
	}
}

// TestOneSyncServesAllThatCameBeforeIt holds up a sync of committed/ and lets
// others gather behind it.
func TestOneSyncServesAllThatCameBeforeIt(t *testing.T) {
	t.Parallel()
	calls, entered, goOn := 0, make(chan struct{}, 2), make(chan struct{})
	g := &group{sync: func() error {
		calls++
		entered <- struct{}{}
		<-goOn
		return nil
	}}
	first := make(chan error, 1)
	mark := g.mark()
	go func() { first <- g.do(mark) }()
	<-entered // the first sync is under way: who comes now is not covered
	leader, leads := g.join()
	if !leads {
		t.Fatal("joined a sync that was under way")
	}
	for range 20 {
		if b, leads := g.join(); leads || b != leader {
			t.Fatal("who came while a sync waited to begin was left out of it")
		}
	}
	close(goOn)
	must(t, <-first)
	g.run(leader)
	<-leader.done
	if leader.failures != mark || calls != 2 {
		t.Errorf("%d syncs, %d failed; want 2, 0", calls, leader.failures)
	}
}

func TestNeitherAcceptNorLeaseListsADirectory(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{})
	q.fs.Reset()
	for range 5 {
		q.put(letter)
		must(t, q.next().Ack(context.Background()))
	}
	must(t, q.Close())
	if i := slices.IndexFunc(q.fs.Calls(), func(c faultfs.Call) bool { return c.Op == faultfs.ReadDir }); i >= 0 {
		t.Errorf("%s", q.fs.Calls()[i])
	}
}
