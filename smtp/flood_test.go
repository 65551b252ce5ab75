package smtp

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFloodThatReadsNothingIsNotReadEither: a client that sends commands without
// end and takes no reply is read from until a buffer of replies waits, and no
// further. It is closed without a reply once the write has taken too long.
func TestFloodThatReadsNothingIsNotReadEither(t *testing.T) {
	for _, command := range []string{"HELP\r\n", "NOOP\r\n", "FOO\r\n", "EHLO x\r\n", "RCPT TO:<b@y.example>\r\n", "BDAT 0\r\n"} {
		t.Run(strings.TrimSpace(command), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				none := Limits{Commands: -1, Errors: -1, Recipients: -1, SessionSize: -1}
				d := begin(t, Config{Limits: none}, &fake{})
				d.want("220")
				d.ask("HELO x", "250")
				d.ask("MAIL FROM:<a@x.example>", "250")
				d.ask("RCPT TO:<b@y.example>", "250")
				started := d.since()
				sent := make(chan int64)
				go func() {
					var n int64
					flood := strings.Repeat(command, 100)
					for {
						m, err := io.WriteString(d.nc, flood)
						n += int64(m)
						if err != nil {
							sent <- n
							return
						}
					}
				}()
				<-d.served
				if took := d.since() - started; took < 5*time.Minute || took > 5*time.Minute+5*time.Minute/16 {
					t.Errorf("over after %v", took)
				}
				if d.end.Reason != closedWrite.String() || d.end.Err == nil {
					t.Errorf("ended %+v", d.end)
				}
				// What makes a buffer of replies, and what was read in one piece with it.
				if n := <-sent; n > flushAt+bigBuffer {
					t.Errorf("%d octets were read", n)
				}
				if err := d.nc.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// writeWatch sees what is written to a connection.
type writeWatch struct {
	*net.TCPConn
	biggest, waiting *atomic.Int64
}

func (w writeWatch) Write(p []byte) (int, error) {
	for n := w.biggest.Load(); int64(len(p)) > n && !w.biggest.CompareAndSwap(n, int64(len(p))); n = w.biggest.Load() {
	}
	w.waiting.Add(1)
	n, err := w.TCPConn.Write(p)
	w.waiting.Add(-1)
	return n, err
}

// TestFloodThatReadsNothingIsSmall: many such clients on real sockets cost two
// buffers and a stack each, and end when they go. It is not parallel: it
// measures the process.
func TestFloodThatReadsNothingIsSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const n = 100
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var biggest, waiting atomic.Int64
	cfg := &Config{Hostname: "mx.example", Limits: Limits{Commands: -1, SessionSize: -1}, Timeouts: Timeouts{Write: -1}}
	var served, floods sync.WaitGroup
	before := memory()
	var clients []*net.TCPConn
	flood := []byte(strings.Repeat("HELP\r\n", 1000))
	for range n {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if err := client.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		served.Go(func() {
			// It ends when the client goes: how differs.
			_ = Serve(t.Context(), writeWatch{nc.(*net.TCPConn), &biggest, &waiting}, cfg, openDiscard)
		})
		expect(t, bufio.NewReaderSize(client, 64), "220")
		clients = append(clients, client.(*net.TCPConn))
		floods.Go(func() {
			for {
				if _, err := client.Write(flood); err != nil {
					return
				}
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); waiting.Load() < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d wait for their client", waiting.Load(), n)
		}
		<-time.After(time.Millisecond)
	}
	each := (memory() - before) / n
	t.Logf("%d octets a connection, the biggest write had %d", each, biggest.Load())
	// The stacks of both ends, and buffers on their way back, are beside the two.
	if most := uint64(2*bigBuffer + 24<<10); each > most {
		t.Errorf("%d octets a connection, want at most %d", each, most)
	}
	if biggest.Load() > bigBuffer {
		t.Errorf("%d octets were written at once", biggest.Load())
	}
	for _, client := range clients {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	floods.Wait()
	served.Wait()
}
