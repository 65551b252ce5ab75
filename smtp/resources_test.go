package smtp

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// loopback is a server that discards, and clients of it.
type loopback struct {
	t       testing.TB
	ln      net.Listener
	served  sync.WaitGroup
	clients []net.Conn
}

func listen(t testing.TB, cfg *Config) *loopback {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &loopback{t: t, ln: ln}
	cfg.Hostname = "mx.example"
	l.served.Go(func() { serveAll(t.Context(), ln, cfg) })
	return l
}

func (l *loopback) dial() net.Conn {
	nc, err := net.Dial("tcp", l.ln.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		l.t.Fatal(err)
	}
	l.clients = append(l.clients, nc)
	return nc
}

func (l *loopback) close() {
	_ = l.ln.Close()
	for _, nc := range l.clients {
		_ = nc.Close()
	}
	l.served.Wait()
}

// expect reads up to the last line of one reply.
func expect(t testing.TB, r *bufio.Reader, code string) {
	t.Helper()
	for {
		line, err := r.ReadSlice('\n')
		if err != nil || !strings.HasPrefix(string(line), code) {
			t.Fatalf("got %q, %v, want %s", line, err, code)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// memory is what the process keeps of heap and stacks once the garbage is gone.
func memory() uint64 {
	for range 4 { // a stack shrinks by half each time
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestIdleConnectionIsSmall: after a message each connection costs at most 8 KiB
// in clear and 25 KiB with TLS, the client's end included. It is not parallel:
// it measures the process.
func TestIdleConnectionIsSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const n = 400
	for _, c := range []struct {
		name string
		cfg  Config
		text int // octets of the message
		most uint64
	}{
		{"in clear", Config{}, 64 << 10, 8 << 10},
		{"TLS", Config{TLSMode: TLSImplicit, TLS: testTLS(t)}, 2 << 10, 25 << 10},
		// crypto/tls keeps the buffer of the longest record, up to 16 KiB.
		{"TLS after long records", Config{TLSMode: TLSImplicit, TLS: testTLS(t)}, 64 << 10, 45 << 10},
	} {
		message := envelope + "DATA\r\n" + strings.Repeat("0123456789abcde\n", c.text/16) + "\r\n.\r\n"
		l := listen(t, &c.cfg)
		before := memory()
		r := bufio.NewReader(nil)
		for range n {
			nc := l.dial()
			if c.cfg.TLSMode == TLSImplicit {
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			}
			r.Reset(nc)
			expect(t, r, "220")
			if _, err := io.WriteString(nc, message); err != nil {
				t.Fatal(err)
			}
			for _, code := range []string{"250", "250", "250", "354", "250"} {
				expect(t, r, code)
			}
		}
		each := (memory() - before) / n
		t.Logf("%s: %d octets a connection", c.name, each)
		if each > c.most {
			t.Errorf("%s: %d octets a connection, want at most %d", c.name, each, c.most)
		}
		l.close()
	}
}

// TestAHelloNeedsNoBigStack: a connection that has said hello has a stack of at
// most 4 KiB, before any garbage collection could have shrunk it. What begins a
// connection and obeys a command must have small frames for that. It is not
// parallel: it measures the process.
func TestAHelloNeedsNoBigStack(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes bigger frames")
	}
	const n = 400
	runtime.GC() // what has to be shrunk or freed is, before it is measured
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	l := listen(t, &Config{OnConnect: func(*Conn) {}})
	defer l.close()
	stacks := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	r := bufio.NewReader(nil)
	before := stacks()
	for range n {
		nc := l.dial()
		r.Reset(nc)
		expect(t, r, "220")
		if _, err := io.WriteString(nc, "EHLO client.example\r\n"); err != nil {
			t.Fatal(err)
		}
		expect(t, r, "250")
	}
	each := (stacks() - before) / n
	t.Logf("%d octets of stack a connection", each)
	if each > 4<<10+512 {
		t.Errorf("%d octets of stack a connection, want at most 4 KiB", each)
	}
}

// TestConnFillsItsSizeClass: one field more costs each connection 128 octets,
// which is to be known when it is added.
func TestConnFillsItsSizeClass(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(Conn{}); size > 768-8 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a Conn is %d octets", size)
	}
}

// TestNothingIsLeftBehind: R16. Connections that end in any way leave no
// goroutine.
func TestNothingIsLeftBehind(t *testing.T) {
	l := listen(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t)})
	before := runtime.NumGoroutine()
	for i := range 300 {
		nc := l.dial()
		sent := []string{"", "EHLO x\r\n", envelope, envelope + "DATA\r\nabc", envelope + "BDAT 9\r\nabc", envelope + "BDAT 3\r\nabc", "STARTTLS\r\n", "QUIT\r\n", "\x16\x03\x01", "GET / HTTP/1.1\r\n"}[i%10]
		if _, err := io.WriteString(nc, sent); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := nc.(*net.TCPConn).SetLinger(0); err != nil { // close by a reset
				t.Fatal(err)
			}
		}
		if err := nc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.clients = nil
	l.close() // waits for each Serve
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

// TestResetInDataLeavesNothing: E17. The Body is aborted, and the end is told
// from a client that closes in order.
func TestResetInDataLeavesNothing(t *testing.T) {
	t.Parallel()
	s := &fake{}
	var end Closing
	nc, served := serveOne(t, &Config{OnClosed: func(_ *Conn, c Closing) { end = c }}, s)
	d := talk(t, nc)
	d.envelope()
	d.ask("DATA", "354")
	d.send("abc\r\n")
	if err := nc.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := nc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, syscall.ECONNRESET) || end.Reason != closedReset.String() {
		t.Errorf("%v, %+v", err, end)
	}
	log, faults := s.saw()
	if log[len(log)-1] != "abort" || len(faults) > 0 {
		t.Errorf("saw %q, %q", log, faults)
	}
}

// TestHugeCommandLine: R01. 100 MB without a line end cost no memory, get one
// reply and a close; 10 MB are read through and the session goes on.
func TestHugeCommandLine(t *testing.T) {
	for megabytes, goesOn := range map[int]bool{10: true, 100: false} {
		l := listen(t, &Config{})
		nc := l.dial()
		r := bufio.NewReader(nc)
		expect(t, r, "220")
		before := memory()
		junk := make([]byte, 1<<20)
		sent := 0
		for range megabytes {
			if _, err := nc.Write(junk); err != nil {
				break // closed already
			}
			sent++
		}
		if goesOn {
			if _, err := io.WriteString(nc, "\r\nNOOP\r\n"); err != nil {
				t.Fatal(err)
			}
			expect(t, r, "500")
			expect(t, r, "250")
		} else if sent == megabytes {
			t.Errorf("all %d MB were read", sent)
		}
		if after := memory(); after > before+2<<20 {
			t.Errorf("%d MB: memory grew by %d octets", megabytes, after-before)
		}
		l.close()
	}
}

// TestMessageMemoryDoesNotDependOnItsSize: R03. One line of 200 MB.
func TestMessageMemoryDoesNotDependOnItsSize(t *testing.T) {
	l := listen(t, &Config{Limits: Limits{MessageSize: -1}})
	defer l.close()
	nc := l.dial()
	r := bufio.NewReader(nc)
	expect(t, r, "220")
	if _, err := io.WriteString(nc, envelope+"DATA\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"250", "250", "250", "354"} {
		expect(t, r, code)
	}
	piece := make([]byte, 1<<20)
	before := memory()
	for i := range 200 {
		if _, err := nc.Write(piece); err != nil {
			t.Fatal(err)
		}
		if i == 150 {
			if after := memory(); after > before+1<<20 {
				t.Errorf("memory grew by %d octets", after-before)
			}
		}
	}
	if _, err := io.WriteString(nc, "\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "250")
}

// TestLastReplyIsNotDestroyed: a client that is still sending when the
// connection is closed on it can read why.
func TestLastReplyIsNotDestroyed(t *testing.T) {
	t.Parallel()
	for range 20 {
		nc, served := serveOne(t, &Config{Limits: Limits{MessageSize: 1000}}, &fake{})
		sent := envelope + "DATA\r\n" + strings.Repeat("a", 100_000)
		if _, err := io.WriteString(nc, sent); err != nil {
			t.Fatal(err)
		}
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(nc)
		if err != nil || !strings.HasSuffix(string(said), "552 5.3.4 Message too big\r\n") {
			t.Fatalf("%v, %q", err, said)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestHooksComeInOrder: connect, accepted, closed, each once, with what it
// carries.
func TestHooksComeInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	s := &fake{}
	nc, served := serveOne(t, &Config{
		OnConnect:  func(c *Conn) { got = append(got, "connect "+c.Phase()) },
		OnAccepted: func(c *Conn) { got = append(got, "accepted") },
		OnClosed:   func(c *Conn, e Closing) { got = append(got, "closed "+e.Reason) },
	}, s)
	d := talk(t, nc)
	d.envelope()
	if s.conn.Phase() != "rcpt" || len(s.conn.ID()) != 16 || !s.conn.Peer().IsValid() || s.conn.Peer().String() != nc.LocalAddr().String() ||
		s.conn.LocalAddr().String() != nc.RemoteAddr().String() || time.Since(s.conn.Started()) > time.Minute {
		t.Errorf("%s %s %s", s.conn.Phase(), s.conn.ID(), s.conn.Peer())
	}
	d.ask("QUIT", "221")
	_ = nc.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if want := "connect start|accepted|closed quit"; strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
}

// TestPanicInAHookEndsOneConnection, and is reported: the Session is closed all
// the same.
func TestPanicInAHookEndsOneConnection(t *testing.T) {
	t.Parallel()
	s := &fake{}
	where := ""
	nc, served := serveOne(t, &Config{
		OnRefused: func(*Conn, Refusal) { panic("boom") },
		OnPanic:   func(_ *Conn, w string, _ any, _ []byte) { where = w },
	}, s)
	d := talk(t, nc)
	d.envelope()
	d.send("FOO\r\n")
	if err := <-served; err == nil || where != "smtp" {
		t.Errorf("%v, %q", err, where)
	}
	if _, faults := s.saw(); len(faults) > 0 {
		t.Error(faults)
	}
}

// TestPanicInOnPanicLeavesNothingOpen: the Session is closed even then.
func TestPanicInOnPanicLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	s := &fake{rules: map[string]string{"mail": "panic boom"}}
	nc, served := serveOne(t, &Config{
		OnRefused: func(*Conn, Refusal) { panic("boom") },
		OnPanic:   func(*Conn, string, any, []byte) { panic("boom") },
	}, s)
	d := talk(t, nc)
	d.want("220")
	d.ask("HELO c.example", "250")
	d.ask("MAIL FROM:<a@x.example>", "451 4.3.0")
	_ = nc.Close()
	if err := <-served; err == nil {
		t.Error("no error")
	}
	if _, faults := s.saw(); len(faults) > 0 {
		t.Error(faults)
	}
}

// TestNoAllocationForEachLineOrMessage: a message costs a fixed number of small
// allocations, whatever its lines.
func TestNoAllocationForEachLineOrMessage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	measure := func(lines int) float64 {
		l := listen(t, &Config{Limits: Limits{MessageSize: -1}})
		defer l.close()
		nc := l.dial()
		r := bufio.NewReader(nc)
		expect(t, r, "220")
		message := []byte("MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n" + strings.Repeat("..0123456789\r\n", lines) + ".\r\n")
		if _, err := io.WriteString(nc, "HELO x\r\n"); err != nil {
			t.Fatal(err)
		}
		expect(t, r, "250")
		return testing.AllocsPerRun(50, func() {
			if _, err := nc.Write(message); err != nil {
				t.Fatal(err)
			}
			for _, code := range []string{"250", "250", "354", "250"} {
				expect(t, r, code)
			}
		})
	}
	few, many := measure(10), measure(100_000)
	t.Logf("%v allocations for 10 lines, %v for 100000", few, many)
	if few > 12 || many > few+12 {
		t.Errorf("%v allocations for 10 lines, %v for 100000", few, many)
	}
}

// BenchmarkMessage is one client that waits for each reply, as smtp-source does.
func BenchmarkMessage(b *testing.B) {
	l := listen(b, &Config{})
	defer l.close()
	nc := l.dial()
	if err := nc.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(nc)
	ask := func(s []byte, code string) {
		if _, err := nc.Write(s); err != nil {
			b.Fatal(err)
		}
		expect(b, r, code)
	}
	expect(b, r, "220")
	ask([]byte("HELO x\r\n"), "250")
	mail, rcpt, data := []byte("MAIL FROM:<a@x.example>\r\n"), []byte("RCPT TO:<b@y.example>\r\n"), []byte("DATA\r\n")
	text := []byte(strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51) + ".\r\n")
	b.ReportAllocs()
	for b.Loop() {
		ask(mail, "250")
		ask(rcpt, "250")
		ask(data, "354")
		ask(text, "250")
	}
}
