package diskqueue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// BenchmarkCommit is messages of 4 KiB made durable by so many writers at once,
// on the file system of the temporary directory.
func BenchmarkCommit(b *testing.B) {
	text := bytes.Repeat([]byte("x"), 4096)
	for _, writers := range []int{1, 16, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			q := mustOpen(b, b.TempDir(), &Options{Depth: -1, MessageSize: -1})
			defer q.Close()
			next := make(chan struct{})
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range next {
						d, err := q.Begin(context.Background(), envelope(), queue.Origin{})
						if err == nil {
							_, err = d.Write(text)
						}
						if err == nil {
							_, err = d.Commit(context.Background(), queue.Final{})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				next <- struct{}{}
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// heapOf is the memory that is held after a collection.
func heapOf() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestAQueuedMessageTakesLittleMemory: what memory holds of a message does not
// depend on its size, and 100 000 of them fit in 30 MB. It is slow; it runs when
// INCOMING_MEMORY is set. Q13.
func TestAQueuedMessageTakesLittleMemory(t *testing.T) {
	if os.Getenv("INCOMING_MEMORY") == "" {
		t.Skip("set INCOMING_MEMORY to run it")
	}
	const n = 100_000
	s := newSchedule()
	before := heapOf()
	for i := range n {
		e := newEntry(queue.NewID(time.Now()), time.Now())
		if i%2 == 0 {
			e.state, e.at = waiting, time.Now().Add(time.Hour).UnixMilli()
		}
		s.admit(e)
	}
	each := float64(heapOf()-before) / n
	t.Logf("%.0f octets a message", each)
	if each > 300 {
		t.Errorf("%.0f octets a message", each)
	}
	runtime.KeepAlive(s)
}

// TestAMillionMessagesInTheJournal: opened within 5 s, and at most 250 octets of
// memory each. It is slow, and takes as many octets of disk as they are; it
// runs when INCOMING_MEMORY is set. Q13.
func TestAMillionMessagesInTheJournal(t *testing.T) {
	if os.Getenv("INCOMING_MEMORY") == "" {
		t.Skip("set INCOMING_MEMORY to run it")
	}
	const n = 1_000_000
	dir := t.TempDir()
	o := &Options{Depth: -1, MessageSize: -1, NoFsync: true}
	q := mustOpen(t, dir, o)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range n / 16 {
				d, err := q.Begin(context.Background(), envelope(), queue.Origin{})
				if err == nil {
					_, err = io.WriteString(d, letter)
				}
				if err == nil {
					_, err = d.Commit(context.Background(), queue.Final{})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	each := func() float64 { return float64(heapOf()) / n }
	t.Logf("%.0f octets a message, as committed", each())
	must(t, q.Close())
	q = nil
	before := heapOf()
	begin := time.Now()
	q = mustOpen(t, dir, o)
	took := time.Since(begin)
	held := float64(heapOf()-before) / n
	t.Logf("%d messages in %d segments: opened in %v, %.0f octets a message", q.Depth().Ready, len(q.journal.lives), took, held)
	if took > 5*time.Second || held > 250 || q.Depth().Ready != n {
		t.Errorf("%d messages: opened in %v, %.0f octets a message", q.Depth().Ready, took, held)
	}
	must(t, q.Close())
}
