package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// gather is a connection whose writes wait for send, which writes them in pieces
// of its choice.
type gather struct {
	net.Conn
	held bytes.Buffer
	hold bool
}

func (g *gather) Write(p []byte) (int, error) {
	if !g.hold {
		return g.Conn.Write(p)
	}
	return g.held.Write(p)
}

// TestNoRecordIsOverlooked: whoever waits for the peer before each read, with
// buffers of any size, gets all that was sent, however records and segments lie.
func TestNoRecordIsOverlooked(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ours, theirs := net.Pipe()
		for _, nc := range []net.Conn{ours, theirs} {
			if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		server := secure(ours, testTLS(t), nil)
		g := &gather{Conn: theirs}
		client := tls.Client(g, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		shook := make(chan error, 1)
		go func() { shook <- server.Handshake() }()
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shook; err != nil {
			t.Fatal(err)
		}
		var sent, got bytes.Buffer
		wrote := make(chan error, 1)
		batches := make(chan []byte)
		go func() {
			var err error
			for wire := range batches {
				for len(wire) > 0 && err == nil {
					n := min(len(wire), 1+rnd.IntN(400))
					_, err = theirs.Write(wire[:n])
					wire = wire[n:]
				}
			}
			wrote <- err
		}()
		buf := make([]byte, 700)
		local := rand.New(rand.NewPCG(seed, 1))
		for range 300 {
			g.hold = true
			for range 1 + local.IntN(4) {
				text := bytes.Repeat([]byte{byte('a' + local.IntN(26))}, 1+local.IntN(300))
				if _, err := client.Write(text); err != nil {
					t.Fatal(err)
				}
				sent.Write(text)
			}
			batches <- bytes.Clone(g.held.Bytes())
			g.held.Reset()
			for got.Len() < sent.Len() {
				if err := server.wire.await(); err != nil {
					t.Fatalf("%d of %d octets came: %v", got.Len(), sent.Len(), err)
				}
				n, err := server.Read(buf[:1+local.IntN(len(buf))])
				if err != nil {
					t.Fatal(err)
				}
				got.Write(buf[:n])
			}
		}
		close(batches)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sent.Bytes(), got.Bytes()) {
			t.Error("other text came than was sent")
		}
		_, _ = ours.Close(), theirs.Close()
	}
}

// TestIdleTLSWaitsOutsideOfTLS: after a command nothing is left in crypto/tls, so
// that the wait for the next is one on the wire.
func TestIdleTLSWaitsOutsideOfTLS(t *testing.T) {
	t.Parallel()
	w := &wire{}
	record := func(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	w.pass(record(30))
	w.took(9, 10)
	if w.whole != 0 {
		t.Errorf("after one record: %+v", w)
	}
	two := append(record(300), record(0)...)
	for _, b := range two {
		w.pass([]byte{b})
	}
	if w.whole != 2 {
		t.Errorf("%d records in two that came octet by octet", w.whole)
	}
	w.took(10, 10)
	if w.whole != 2 {
		t.Errorf("what was read in part is taken for read: %+v", w)
	}
}

func TestSecuredFillsItsSizeClass(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(secured{}); size > 240 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a secured is %d octets", size)
	}
}

// handshakes is a server whose handshakes stop in GetCertificate until they are
// let go, and what became of them.
type handshakes struct {
	cfg   *Config
	begun chan string // by the server name
	let   chan struct{}
	ended chan error
	limit []string
}

func newHandshakes(t *testing.T, most int) *handshakes {
	given := testTLS(t)
	h := &handshakes{begun: make(chan string, 10), let: make(chan struct{}), ended: make(chan error, 10)}
	h.cfg = &Config{
		Hostname: "mx.example", TLSMode: TLSImplicit, Handshakes: make(chan struct{}, most),
		TLS: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			h.begun <- hello.ServerName
			<-h.let
			return &given.Certificates[0], nil
		}},
		OnHandshake: func(_ *Conn, _ *tls.ConnectionState, _ time.Duration, err error) { h.ended <- err },
		OnLimit:     func(_ *Conn, limit string, use, most int64) { h.limit = append(h.limit, limit) },
	}
	return h
}

// begin begins a handshake with a client by that name, who has this long.
func (h *handshakes) begin(t *testing.T, name string, within time.Duration) (hangUp func()) {
	ours, theirs := net.Pipe()
	cfg := *h.cfg
	cfg.Timeouts.TLS = within
	go func() { _ = Serve(t.Context(), ours, &cfg, openDiscard) }()
	go func() {
		client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if client.Handshake() == nil {
			_, _ = io.Copy(io.Discard, client)
		}
	}()
	return func() { _ = theirs.Close() }
}

// TestHandshakesAtOnceAreLimited: of three, with a limit of two, two are at work;
// the third has its turn when one of them is done, and fails when none is in time.
func TestHandshakesAtOnceAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandshakes(t, 2)
		defer h.begin(t, "one", time.Hour)()
		defer h.begin(t, "two", time.Hour)()
		synctest.Wait()
		if len(h.begun) != 2 {
			t.Fatalf("%d of two handshakes are at work, with a limit of two", len(h.begun))
		}
		began := time.Now()
		defer h.begin(t, "three", 30*time.Second)()
		if err := <-h.ended; !errors.Is(err, ErrNoTurn) || time.Since(began) != 30*time.Second {
			t.Errorf("the third ended after %v with %v", time.Since(began), err)
		}
		if len(h.begun) != 2 || len(h.limit) != 1 || h.limit[0] != "limits.handshakes" {
			t.Errorf("%d at work, limits hit: %q", len(h.begun), h.limit)
		}
		defer h.begin(t, "four", 30*time.Second)()
		synctest.Wait()
		if len(h.begun) != 2 {
			t.Error("a third is at work")
		}
		close(h.let)
		for range 3 {
			if err := <-h.ended; err != nil {
				t.Error(err)
			}
		}
		if len(h.limit) != 1 {
			t.Errorf("limits hit: %q", h.limit)
		}
		if len(h.cfg.Handshakes) != 0 {
			t.Errorf("%d turns are not given back", len(h.cfg.Handshakes))
		}
	})
}

// TestWhoStallsHoldsNoTurn: clients that stall in their handshake, before the
// first octet or in the middle, keep nobody from theirs.
func TestWhoStallsHoldsNoTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandshakes(t, 1)
		close(h.let)
		for i := range 5 {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			cfg := *h.cfg
			go func() { _ = Serve(t.Context(), ours, &cfg, openDiscard) }()
			if i > 0 {
				if _, err := io.WriteString(theirs, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[:i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		began := time.Now()
		defer h.begin(t, "good", time.Minute)()
		if err := <-h.ended; err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		for range 5 { // T07: they have their deadline
			if err := <-h.ended; !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "timeouts.tls") || time.Since(began) != 30*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
	})
}

// TestForceEndsTheWaitForATurn: Conn.Close does not leave a handshake waiting.
func TestForceEndsTheWaitForATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHandshakes(t, 1)
		defer h.begin(t, "one", time.Hour)()
		synctest.Wait()
		var conn *Conn
		h.cfg.OnConnect = func(c *Conn) { conn = c }
		defer h.begin(t, "two", time.Hour)()
		synctest.Wait()
		began := time.Now()
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-h.ended; err == nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(h.let)
		if err := <-h.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestPanicOfAHandshakesHookIsSurvived: it ends the connection and is told.
func TestPanicOfAHandshakesHookIsSurvived(t *testing.T) {
	t.Parallel()
	var where string
	var end Closing
	cfg := &Config{TLSMode: TLSImplicit, TLS: testTLS(t), OnClosed: func(_ *Conn, c Closing) { end = c },
		OnHandshake: func(*Conn, *tls.ConnectionState, time.Duration, error) { panic("boom") },
		OnPanic:     func(_ *Conn, at string, _ any, _ []byte) { where = at }}
	nc, served := serveOne(t, cfg, &fake{})
	go func() {
		_ = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(context.Background())
	}()
	if err := <-served; err == nil || where != "smtp" || end.Reason != "panic" {
		t.Errorf("%v, %q, %+v", err, where, end)
	}
}

// TestGoexitInACertificateCallbackEndsTheConnection, and not only its goroutine.
func TestGoexitInACertificateCallbackEndsTheConnection(t *testing.T) {
	t.Parallel()
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { runtime.Goexit(); return nil, nil }}
	nc, served := serveOneTo(t, &Config{TLSMode: TLSImplicit, TLS: config}, &fake{})
	go func() {
		_ = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(context.Background())
	}()
	if err := <-served; err == nil {
		t.Error("no error")
	}
}
