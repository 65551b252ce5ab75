package incoming

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// brokeListener fails Accept as a process without descriptors does.
type brokeListener struct {
	mu     sync.Mutex
	calls  int
	errs   []error // one a call, then it blocks
	closed chan struct{}
}

func (l *brokeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.calls++
	var err error
	if len(l.errs) > 0 {
		err, l.errs = l.errs[0], l.errs[1:]
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *brokeListener) Close() error   { close(l.closed); return nil }
func (l *brokeListener) Addr() net.Addr { return &net.TCPAddr{} }

// R10: without descriptors accepting waits, longer each time, and tells once.
func TestAcceptErrorsNeitherSpinNorEndTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		emfile := &net.OpError{Op: "accept", Err: syscall.EMFILE}
		ln := &brokeListener{closed: make(chan struct{})}
		for range 1000 {
			ln.errs = append(ln.errs, emfile)
		}
		var mu sync.Mutex
		var told []telemetry.Trouble
		q := memqueue.New(nil)
		s, err := New(Config{Queue: q, Listeners: []Listener{{Name: "mx", Net: ln}}, Hooks: telemetry.Hooks{
			Trouble: func(e telemetry.Trouble) { mu.Lock(); defer mu.Unlock(); told = append(told, e) }}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		ln.mu.Lock()
		calls := ln.calls
		ln.mu.Unlock()
		if calls < 60 || calls > 75 {
			t.Errorf("%d calls in a minute", calls)
		}
		mu.Lock()
		if len(told) != 1 || told[0].Kind != "accept" || told[0].Listener != "mx" || !errors.Is(told[0].Err, syscall.EMFILE) {
			t.Errorf("told %+v", told)
		}
		mu.Unlock()
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAcceptBackoffGrowsToASecond(t *testing.T) {
	t.Parallel()
	var last time.Duration
	for failed := 1; failed < 100; failed++ {
		d := acceptBackoff(failed)
		if d < last || d > time.Second || d < 5*time.Millisecond {
			t.Errorf("after %d: %v, before it %v", failed, d, last)
		}
		last = d
	}
	if last != time.Second {
		t.Errorf("ends at %v", last)
	}
}

// pipes is a listener whose connections a test makes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { close(l.closed); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects, and reads the banner.
func (l *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	l.conns <- server
	if line := lineOf(t, client); !strings.HasPrefix(line, "220 ") {
		t.Fatalf("%q", line)
	}
	return client
}

func lineOf(t *testing.T, nc net.Conn) string {
	t.Helper()
	b := make([]byte, 512)
	n, err := nc.Read(b)
	if err != nil {
		t.Error(err)
	}
	return string(b[:n])
}

// R06: when connections run out, who holds one for nothing loses it within a
// second, however long he was to be waited for before.
func TestWhoWaitsAlreadyIsHurriedWhenConnectionsRunOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		q := memqueue.New(nil)
		s, err := New(Config{Queue: q, Listeners: []Listener{{Name: "mx", Net: ln}}, Limits: Limits{Connections: 10}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		var hurried atomic.Int32
		for range 8 { // 80 %
			idle := ln.dial(t)
			go func() {
				if line := lineOf(t, idle); strings.HasPrefix(line, "421 4.4.2 ") {
					hurried.Add(1)
				}
				idle.Close()
			}()
		}
		time.Sleep(40 * time.Second)
		last := ln.dial(t)
		time.Sleep(hurryEvery)
		synctest.Wait()
		if n := hurried.Load(); n == 0 || s.admission.busy() {
			t.Errorf("%d are hurried, and %d connections are open", n, s.admission.count())
		}
		if _, err := last.Write([]byte("QUIT\r\n")); err != nil {
			t.Fatal(err)
		}
		if line := lineOf(t, last); !strings.HasPrefix(line, "221 ") {
			t.Errorf("who came last hears %q", line)
		}
		last.Close()
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}
