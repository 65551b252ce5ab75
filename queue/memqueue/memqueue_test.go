package memqueue_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/queue/queuetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queue.Queue {
		return memqueue.New(&memqueue.Options{Depth: queuetest.Depth})
	})
}

// On a fake clock the time is exact.
func TestARetryIsDueAtItsVeryTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New(nil)
		begin := time.Now()
		commit(t, q, "x")
		l, err := q.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Retry(t.Context(), begin.Add(time.Hour), io.EOF); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Lease(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != time.Hour {
			t.Errorf("offered after %v, want 1h", d)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func begin(t *testing.T, q *memqueue.Queue) queue.Draft {
	t.Helper()
	d, err := q.Begin(t.Context(), queue.Envelope{RcptTo: []queue.Recipient{{Address: "a@x.example"}}}, queue.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func commit(t *testing.T, q *memqueue.Queue, text string) {
	t.Helper()
	d := begin(t, q)
	if _, err := io.WriteString(d, text); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(t.Context(), queue.Final{}); err != nil {
		t.Fatal(err)
	}
}

func TestBytesBoundWhatIsHeld(t *testing.T) {
	t.Parallel()
	q := memqueue.New(&memqueue.Options{Bytes: 100})
	for _, size := range []int{99, 100} {
		d := begin(t, q)
		if n, err := io.WriteString(d, strings.Repeat("x", size)); n != size || err != nil {
			t.Errorf("%d octets alone: %d, %v", size, n, err)
		}
		if err := d.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	d := begin(t, q)
	if _, err := io.WriteString(d, strings.Repeat("x", 60)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, strings.Repeat("x", 41)); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("101 octets alone: %v", err)
	}
	if _, err := d.Write([]byte("x")); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("a Write after one that failed: %v", err)
	}
	if _, err := d.Commit(t.Context(), queue.Final{}); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("Commit after a Write that failed: %v", err)
	}

	commit(t, q, strings.Repeat("x", 60)) // the failed draft gave its octets back
	for size, want := range map[int64]error{0: nil, 39: nil, 40: nil, 41: queue.ErrNoSpace, 100: queue.ErrNoSpace, 101: queue.ErrTooLarge} {
		if err := q.Check(size); !errors.Is(err, want) {
			t.Errorf("Check(%d) with 40 left: %v, want %v", size, err, want)
		}
	}
	d = begin(t, q)
	if _, err := io.WriteString(d, strings.Repeat("x", 41)); !errors.Is(err, queue.ErrNoSpace) {
		t.Errorf("41 octets with 40 left: %v", err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	commit(t, q, strings.Repeat("x", 40))
	if _, err := q.Begin(t.Context(), queue.Envelope{}, queue.Origin{}); !errors.Is(err, queue.ErrNoSpace) {
		t.Errorf("Begin with nothing left: %v", err)
	}

	// A dead letter keeps its octets, an acked or deleted message does not.
	l, err := q.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Bury(t.Context(), io.EOF); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(0); !errors.Is(err, queue.ErrNoSpace) {
		t.Errorf("Check with a dead letter: %v", err)
	}
	if err := q.Delete(t.Context(), l.Message().ID); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(l.Message().Size); err != nil { // of two received in one millisecond either may be first
		t.Errorf("Check after Delete: %v", err)
	}
}

func TestNegativeBoundsAreNone(t *testing.T) {
	t.Parallel()
	q := memqueue.New(&memqueue.Options{Depth: -1, Bytes: -1})
	for range 200 {
		commit(t, q, strings.Repeat("x", 1000))
	}
	if err := q.Check(1 << 40); err != nil {
		t.Error(err)
	}
}

func BenchmarkCommitLeaseAck(b *testing.B) {
	q := memqueue.New(nil)
	text := []byte(strings.Repeat("x", 4096))
	env := queue.Envelope{RcptTo: []queue.Recipient{{Address: "a@x.example"}}}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		d, err := q.Begin(ctx, env, queue.Origin{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Write(text); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Commit(ctx, queue.Final{}); err != nil {
			b.Fatal(err)
		}
		l, err := q.Lease(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Ack(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
