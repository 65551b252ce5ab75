package delivery_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/discard"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// BenchmarkPool measures what the pool itself costs a message: from a queue in
// memory to an adapter that does nothing. backlog has all messages waiting before
// it runs; stream commits one after the other while it does.
func BenchmarkPool(b *testing.B) {
	b.Run("backlog", func(b *testing.B) {
		q := memqueue.New(&memqueue.Options{Depth: -1, Bytes: -1})
		for range b.N {
			commitFor(b, q)
		}
		benchmark(b, q, func() {})
	})
	b.Run("stream", func(b *testing.B) {
		q := memqueue.New(&memqueue.Options{Depth: -1, Bytes: -1})
		benchmark(b, q, func() {
			for range b.N {
				commitFor(b, q)
			}
		})
	})
}

func commitFor(b *testing.B, q queue.Queue) {
	d, err := q.Begin(b.Context(), envelope(a), queue.Origin{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(d, "Subject: x\r\n\r\nbody\r\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := d.Commit(b.Context(), queue.Final{}); err != nil {
		b.Fatal(err)
	}
}

func benchmark(b *testing.B, q queue.Queue, feed func()) {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var acked atomic.Int64
	n := int64(b.N)
	pool, err := delivery.New(delivery.Config{Queue: q, Adapter: discard.New(), Hooks: telemetry.Hooks{
		DeliveryResult: func(telemetry.DeliveryResult) {
			if acked.Add(1) == n {
				stop()
			}
		},
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	ran := make(chan error, 1)
	go func() { ran <- pool.Run(ctx) }()
	feed()
	if err := <-ran; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	if got := acked.Load(); got != n {
		b.Fatalf("%d messages of %d", got, n)
	}
}
