package diskqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

const letter = "Subject: hello\r\n\r\nA letter.\r\n"

// events is a hook that remembers.
type events struct {
	mu     sync.Mutex
	errors []telemetry.SpoolError
	swept  []telemetry.QueueSwept
}

func (e *events) hooks() telemetry.Hooks {
	return telemetry.Hooks{
		SpoolError: func(ev telemetry.SpoolError) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.errors = append(e.errors, ev)
		},
		QueueSwept: func(ev telemetry.QueueSwept) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.swept = append(e.swept, ev)
		},
	}
}

func (e *events) spool() []telemetry.SpoolError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.errors)
}

// count is how many spool errors concern id and say so.
func (e *events) count(id, part string) int {
	n := 0
	for _, ev := range e.spool() {
		if ev.ID == id && ev.Err != nil && strings.Contains(ev.Err.Error(), part) {
			n++
		}
	}
	return n
}

// testQueue is a queue over a file system that can be told to fail.
type testQueue struct {
	*Queue
	t      testing.TB
	fs     *faultfs.FS
	events *events
}

func openTest(t testing.TB, dir string, o Options) *testQueue {
	t.Helper()
	tq := &testQueue{t: t, fs: faultfs.New(vfs.OS{}), events: new(events)}
	o.fs, o.Hooks = tq.fs, tq.events.hooks()
	if o.MessageSize == 0 {
		o.MessageSize = -1
	}
	o.NoJournal = o.segment == 0
	tq.Queue = mustOpen(t, dir, &o)
	t.Cleanup(func() {
		if err := tq.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tq
}

func envelope(to ...string) queue.Envelope {
	env := queue.Envelope{MailFrom: "from@x.example"}
	if len(to) == 0 {
		to = []string{"b@y.example"}
	}
	for _, a := range to {
		env.RcptTo = append(env.RcptTo, queue.Recipient{Address: a})
	}
	return env
}

// try commits a text, and returns what Commit or what came before it said.
func (q *testQueue) try(text string, to ...string) (queue.ID, error) {
	d, err := q.Begin(context.Background(), envelope(to...), queue.Origin{ReceivedAt: time.Now()})
	if err != nil {
		return "", err
	}
	defer d.Discard()
	if _, err := io.WriteString(d, text); err != nil {
		return d.ID(), err
	}
	_, err = d.Commit(context.Background(), queue.Final{})
	return d.ID(), err
}

func (q *testQueue) put(text string, to ...string) queue.ID {
	q.t.Helper()
	id, err := q.try(text, to...)
	if err != nil {
		q.t.Fatal(err)
	}
	return id
}

// next is the lease of what is due.
func (q *testQueue) next() queue.Lease {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := q.Lease(ctx)
	if err != nil {
		q.t.Fatalf("Lease: %v (%+v)", err, q.Depth())
	}
	return l
}

func (q *testQueue) textOf(id queue.ID) string {
	q.t.Helper()
	r, err := q.Queue.Open(context.Background(), id)
	if err != nil {
		q.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		q.t.Fatal(err)
	}
	return string(b)
}

func (q *testQueue) get(id queue.ID) queue.Entry {
	q.t.Helper()
	e, err := q.Get(context.Background(), id)
	if err != nil {
		q.t.Fatal(err)
	}
	return e
}

// counts is Depth without its time.
func counts(d queue.Depth) queue.Depth {
	d.Oldest = time.Time{}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is a spool made by hand: a path, and what is in the file; a path that
// ends with a slash is an empty directory.
type tree map[string]string

func (tr tree) in(t testing.TB, dir string) {
	t.Helper()
	for name, text := range tr {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o700))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// meta is a meta.json of ours for a text, with other keys on top.
func meta(text string, other map[string]any) string {
	m := map[string]any{
		"format": 1, "id": "X", "mail_from": "from@x.example", "rcpt_to": []string{"b@y.example"},
		"received_at": "2026-03-01T10:00:00.000Z", "size": len(text), "attempts": 0,
		"crc32c": fmt.Sprintf("%08x", crc32.Checksum([]byte(text), castagnoli)),
	}
	for k, v := range other {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type keys = map[string]any

// files lists what is in a spool, sorted, without the spool's own files.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(dir, path); !d.IsDir() && rel != "lock" {
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	}))
	return names
}
