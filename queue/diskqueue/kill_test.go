package diskqueue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/queue"
)

// killedSpool and killedJournal are set for the process that is to be killed: its
// spool, and whether it has a journal.
const (
	killedSpool   = "INCOMING_TEST_KILLED_SPOOL"
	killedJournal = "INCOMING_TEST_KILLED_JOURNAL"
)

// killedOptions has segments so small that they are filled, emptied and used again.
func killedOptions(journal bool) Options {
	o := Options{NoJournal: !journal, MessageSize: -1, Buffers: 40_000, restless: -1}
	if journal {
		o.segment = 256 << 10
	}
	return o
}

// TestAKillInTheFirstStartLosesNothing that is accepted after it: the name of the spool
// itself, or of what it is in, was made and not synced, and no later start synced it. Q01.
func TestAKillInTheFirstStartLosesNothing(t *testing.T) {
	t.Parallel()
	for _, journal := range []bool{false, true} {
		for at, whole := 1, false; !whole; at++ {
			w := emptyWorld(t, fmt.Sprintf("journal %t, change %d", journal, at), journal)
			w.mem.CutAt(at)
			q, err := Open(worldSpool, w.options())
			if whole = err == nil; whole {
				_ = q.Close() // nothing that this does reaches the disk
			}
			w.mem.Kill()
			w.open()
			id := w.put(1)
			w.crash(crashfs.Lost)
			w.open()
			w.offersOnly(w.what, id, "a@y.example", "b@y.example")
		}
	}
}

// TestToBeKilled is that process: it commits, leases, retries, buries and acks
// from many sides, and says each thing done, until it is killed.
func TestToBeKilled(t *testing.T) {
	dir := os.Getenv(killedSpool)
	if dir == "" {
		t.Skip("it is started by TestKilledAtAnyMomentNothingIsLost")
	}
	o := killedOptions(os.Getenv(killedJournal) == "true")
	q := mustOpen(t, dir, &o)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	say := func(what string, id queue.ID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %s\n", what, id) // one write; the pipe outlives this process
	}
	say("open", queue.ID(strconv.Itoa(os.Getpid())))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { commitTillKilled(ctx, t, q, say) })
		wg.Go(func() { deliverTillKilled(ctx, t, q, say) })
	}
	wg.Wait()
	t.Error("nobody killed it")
}

func killedText(id queue.ID) string {
	size := int(id[len(id)-1]) * int(id[len(id)-2]) * 10 // up to some 80 000, so that some go to a file at once
	return "Subject: " + string(id) + "\r\n\r\n" + strings.Repeat("x", size) + "\r\n"
}

func commitTillKilled(ctx context.Context, t *testing.T, q *Queue, say func(string, queue.ID)) {
	for ctx.Err() == nil {
		d, err := q.Begin(ctx, envelope("a@y.example", "b@y.example"), queue.Origin{})
		if err == nil {
			_, err = io.WriteString(d, killedText(d.ID()))
		}
		if err == nil {
			_, err = d.Commit(ctx, queue.Final{})
		}
		if err != nil {
			t.Error(err)
			return
		}
		say("committed", d.ID())
	}
}

func deliverTillKilled(ctx context.Context, t *testing.T, q *Queue, say func(string, queue.ID)) {
	for n := 0; ctx.Err() == nil; n++ {
		l, err := q.Lease(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		id := l.Message().ID
		switch n % 4 {
		case 0:
			say("acking", id)
			err = l.Ack(ctx)
		case 1:
			err = errors.Join(l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}), l.Retry(ctx, time.Now().Add(time.Hour), io.EOF))
			say("settled", id)
		case 2:
			err = l.Bury(ctx, errors.New("no"))
			say("buried", id)
		default:
			err = l.Release(ctx)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// TestKilledAtAnyMomentNothingIsLost kills a process that works on a spool, again
// and again, and opens what it leaves. Q01, Q17.
func TestKilledAtAnyMomentNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, journal := range []bool{false, true} {
		t.Run(fmt.Sprintf("journal %v", journal), func(t *testing.T) {
			t.Parallel()
			killedAtAnyMoment(t, journal)
		})
	}
}

func killedAtAnyMoment(t *testing.T, journal bool) {
	dir := t.TempDir()
	said := map[string]map[queue.ID]bool{"committed": {}, "acking": {}, "settled": {}, "buried": {}}
	for round := range 10 {
		killAfter(t, dir, journal, 5+round*7, said)
	}
	t.Logf("%d committed, %d acked, %d settled, %d buried", len(said["committed"]), len(said["acking"]), len(said["settled"]), len(said["buried"]))
	if len(said["committed"]) < 50 {
		t.Errorf("only %d were committed", len(said["committed"]))
	}
	q := openTest(t, dir, killedOptions(journal))
	there := map[queue.ID]bool{}
	for e, err := range q.List(context.Background(), queue.Filter{}) {
		must(t, err)
		there[e.ID] = true
		if e.State == queue.StateDead && (e.Dead.Kind != queue.KindRejected || e.Dead.Reason != "no") && !isIncomplete(e) {
			t.Errorf("%s is dead: %+v", e.ID, e.Dead)
		}
		if !isIncomplete(e) && q.textOf(e.ID) != killedText(e.ID) {
			t.Errorf("%s holds other text", e.ID)
		}
		if said["committed"][e.ID] && isIncomplete(e) {
			t.Errorf("%s was committed and is incomplete", e.ID)
		}
		if said["settled"][e.ID] && len(e.Envelope.RcptTo) != 1 {
			t.Errorf("%s: a recipient is owed again", e.ID)
		}
		if said["buried"][e.ID] && e.State != queue.StateDead {
			t.Errorf("%s was buried and is %s", e.ID, e.State)
		}
	}
	for id := range said["committed"] {
		if !there[id] && !said["acking"][id] {
			t.Errorf("%s is lost", id)
		}
	}
}

func isIncomplete(e queue.Entry) bool { return e.Dead != nil && e.Dead.Reason == incomplete }

// killAfter starts the process, waits until it has said so many things, and kills
// it. What it said before it died counts too.
func killAfter(t *testing.T, dir string, journal bool, things int, said map[string]map[queue.ID]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestToBeKilled$")
	cmd.Env = append(os.Environ(), killedSpool+"="+dir, killedJournal+"="+strconv.FormatBool(journal))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var other []string
	for lines, n := bufio.NewScanner(out), 0; lines.Scan(); n++ {
		what, id, _ := strings.Cut(lines.Text(), " ")
		switch {
		case what == "open":
			refusedWhileHeld(t, dir, id)
		case said[what] == nil:
			other = append(other, lines.Text())
		default:
			said[what][queue.ID(id)] = true
		}
		if n == things {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || len(other) > 0 {
		t.Fatalf("it was not killed: %v %q", err, other)
	}
}

// refusedWhileHeld: two processes cannot share a spool.
func refusedWhileHeld(t *testing.T, dir, pid string) {
	t.Helper()
	if _, err := Open(dir, small()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), pid) {
		t.Errorf("Open of a spool that process %s holds: %v", pid, err)
	}
}
