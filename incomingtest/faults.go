package incomingtest

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// fillable is a queue that can be told to be full.
type fillable struct {
	*memqueue.Queue
	full atomic.Bool
}

func (q *fillable) Begin(ctx context.Context, env queue.Envelope, o queue.Origin) (queue.Draft, error) {
	if q.full.Load() {
		return nil, queue.ErrFull
	}
	return q.Queue.Begin(ctx, env, o)
}

func (q *fillable) Check(size int64) error {
	if q.full.Load() {
		return queue.ErrFull
	}
	return q.Queue.Check(size)
}

// Fill makes the queue full, or takes that back: DATA is told 421 4.3.2. What the queue holds is delivered all the same. It is for a
// server that was given no queue.
func (s *Server) Fill(full bool) {
	s.t.Helper()
	if s.own == nil {
		s.t.Fatalf("incomingtest: Fill, and the queue is cfg.Queue: it has to be full by itself")
	}
	s.own.full.Store(full)
}

// Faults is what is wrong with a way to a server. The zero Faults is a good way.
type Faults struct {
	// Slow is how much later each piece of what the server says arrives.
	Slow time.Duration
	// ResetAfter is the octets of the client after which the connection is reset,
	// as when a host between crashes; 0 is never. Octets of the client past them
	// do not arrive.
	ResetAfter int64
}

// Faulty is an address that leads to the server's first listener, host:port, by a
// way with faults. Every connection to it has them anew.
func (s *Server) Faulty(f Faults) (addr string) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatalf("incomingtest: %v", err)
	}
	w := &way{faults: f, to: s.Addr, stop: make(chan struct{})}
	w.running.Go(func() { w.accept(l) })
	s.t.Cleanup(func() {
		close(w.stop)
		_ = l.Close() // it only has to be over
		w.running.Wait()
	})
	return l.Addr().String()
}

// way is a road to a server.
type way struct {
	faults  Faults
	to      string
	stop    chan struct{}
	running sync.WaitGroup
}

func (w *way) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			reset(client)
			continue
		}
		ended := make(chan struct{})
		w.running.Go(func() {
			select {
			case <-w.stop:
			case <-ended:
			}
			_, _ = client.Close(), server.Close() // closed twice is closed
		})
		w.running.Go(func() {
			defer close(ended)
			w.between(client, server)
		})
	}
}

// between carries both directions until either ends.
func (w *way) between(client, server net.Conn) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		w.say(client, server)
		_, _ = client.Close(), server.Close() // the other direction ends by it
	}()
	var from io.Reader = client
	if w.faults.ResetAfter > 0 {
		from = io.LimitReader(client, w.faults.ResetAfter)
	}
	n, _ := io.Copy(server, from) // however it ends, it is over
	if w.faults.ResetAfter > 0 && n == w.faults.ResetAfter {
		reset(client)
		reset(server)
	} else if half, ok := server.(*net.TCPConn); ok {
		_ = half.CloseWrite() // the server may have a last word
	}
	<-said
}

// say carries what the server says.
func (w *way) say(client, server net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 && w.faults.Slow > 0 {
			late := time.NewTimer(w.faults.Slow)
			select {
			case <-late.C:
			case <-w.stop:
				late.Stop()
				return
			}
		}
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func reset(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a connection that is gone already is reset
	}
	_ = nc.Close() // likewise
}
