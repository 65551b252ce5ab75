package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// What a transcript cannot say, since it is about time, about a client that is
// gone, or about TLS. The rest of a family is in testdata.

// TestEndOfDataMayComeSlowly: E15. Wherever the end of the text is cut, and
// however long the rest of it takes, it is one end and no text.
func TestEndOfDataMayComeSlowly(t *testing.T) {
	const end = "\r\n.\r\n"
	for cut := 1; cut < len(end); cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &fake{}
				d := begin(t, Config{}, s)
				d.envelope()
				d.ask("DATA", "354")
				d.send("a" + end[:cut])
				time.Sleep(time.Second)
				d.send(end[cut:])
				d.want("250 2.0.0 Ok: stored")
				d.ask("QUIT", "221")
				d.over(closedQuit, time.Second+linger)
				if log, _ := s.saw(); log[len(log)-1] != `message "a\r\n"` {
					t.Errorf("saw %q", log)
				}
			})
		})
	}
}

// TestClientGoneBeforeThe250: E18 and RFC 1047. A message whose end has come is
// accepted whole, and once, though nobody reads the 250; that it could not be
// told is no failure of the message.
func TestClientGoneBeforeThe250(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closed": (*net.TCPConn).Close,
		"reset": func(nc *net.TCPConn) error {
			if err := nc.SetLinger(0); err != nil {
				return err
			}
			return nc.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &gateSession{reached: make(chan struct{}), gate: make(chan struct{})}
			var end Closing
			nc, served := serveOneTo(t, &Config{OnClosed: func(_ *Conn, c Closing) { end = c }}, s)
			d := talk(t, nc)
			d.envelope()
			d.ask("DATA", "354")
			d.send("a\r\n" + strings.Repeat("0123456789abcdef", 4096) + "\r\n.\r\nQUIT\r\n")
			<-s.reached
			if err := leave(nc); err != nil {
				t.Fatal(err)
			}
			close(s.gate)
			<-served
			if end.Messages != 1 || s.ended != 1 || s.aborted != 0 {
				t.Errorf("%+v, End %d times, Abort %d times", end, s.ended, s.aborted)
			}
		})
	}
}

// TestQuitIsTheEndThoughNobodyReadsTheReply: E19. The client has pipelined QUIT
// behind its text and is gone: the message is accepted, and that the replies
// find nobody is no fault of anyone.
func TestQuitIsTheEndThoughNobodyReadsTheReply(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behind string
		reason ending
	}{"with QUIT": {"QUIT\r\n", closedQuit}, "without": {"NOOP\r\n", closedWrite}} {
		s := &fake{}
		var end Closing
		nc := &goneConn{transcript.NewConn([][]byte{[]byte(envelope + "DATA\r\na\r\n.\r\n" + c.behind)})}
		err := Serve(t.Context(), nc, &Config{Hostname: "mx.example", OnClosed: func(_ *Conn, e Closing) { end = e }},
			func(_ context.Context, c *Conn) (Session, error) { s.conn = c; return s, nil })
		if end.Messages != 1 || end.Reason != c.reason.String() || (err == nil) != (c.reason == closedQuit) || err != end.Err {
			t.Errorf("%s: %+v, Serve returned %v", name, end, err)
		}
		if log, faults := s.saw(); log[len(log)-1] != `message "a\r\n"` || len(faults) > 0 {
			t.Errorf("%s: saw %q, %q", name, log, faults)
		}
	}
}

// goneConn is a Conn whose client has gone after it was greeted and said all.
type goneConn struct{ *transcript.Conn }

func (c *goneConn) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "220 ") {
		return c.Conn.Write(p)
	}
	return 0, syscall.EPIPE
}

// TestClientGoneWhileTheSessionThinks: R14. What the Session comes to is for
// nobody: the connection ends, without a write that is tried again and again.
func TestClientGoneWhileTheSessionThinks(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	s := &ctxSession{wait: make(chan struct{})}
	nc := &countingConn{Conn: server}
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), nc, &Config{Hostname: "mx.example"}, func(_ context.Context, c *Conn) (Session, error) {
			s.conn = c
			return s, nil
		})
	}()
	d := &dialog{t: t, nc: client, lines: bufio.NewReader(client), began: time.Now()}
	d.want("220")
	d.ask("HELO c.example", "250")
	d.send("MAIL FROM:<a@x.example>\r\n")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	close(s.wait)
	if err := <-served; err == nil {
		t.Error("no error of a connection that is gone")
	}
	if nc.writes != 3 {
		t.Errorf("%d writes for a banner and two replies", nc.writes)
	}
	if s.mail.Err() == nil {
		t.Error("the context outlives the connection")
	}
}

// gateSession stops in End until the gate opens.
type gateSession struct {
	discardSession
	reached, gate  chan struct{}
	ended, aborted int
}

type gateBody struct{ s *gateSession }

func (s *gateSession) Data(context.Context, DataParams) (Body, error) { return gateBody{s}, nil }
func (b gateBody) Write(p []byte) (int, error)                        { return len(p), nil }
func (b gateBody) Abort()                                             { b.s.aborted++ }
func (b gateBody) End(context.Context) (string, error) {
	b.s.ended++
	close(b.s.reached)
	<-b.s.gate
	return "Ok", nil
}

// TestCloseAtAnyTime: R18. To close a connection, and to look at it, is allowed
// from anywhere at any time.
func TestCloseAtAnyTime(t *testing.T) {
	t.Parallel()
	for i, state := range append(slices.Clone(states), "EHLO x\r\nSTARTTLS\r\n") {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s := &fake{}
			nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t)}, s)
			d := talk(t, nc)
			d.want("220")
			d.send(state)
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					_, _ = s.conn.Hello()
					_, _ = s.conn.Phase(), s.conn.TLS()
					_ = s.conn.Close() // but for the first it is closed already
				})
			}
			<-served
			all.Wait()
			if _, faults := s.saw(); len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
}

// TestAnyServerNameIsServed: T13. A name that no certificate has, an odd one, an
// address or none at all get the certificate there is.
func TestAnyServerNameIsServed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "other.example", "a_b.example", "192.0.2.1", "mx.example."} {
		nc, served := serveOne(t, &Config{TLSMode: TLSImplicit, TLS: testTLS(t)}, &fake{})
		client := tls.Client(nc, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		d := talk(t, client)
		d.want("220")
		d.ask("QUIT", "221")
		_ = nc.Close()
		if err := <-served; err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestWhyAHandshakeFailed: T09. The hook is told what the peer did not like, and
// who it asked for.
func TestWhyAHandshakeFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		client *tls.Config
		want   string
	}{
		"does not trust us": {&tls.Config{ServerName: "mx.example"}, "bad certificate"},
		"is too old":        {&tls.Config{ServerName: "mx.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "unsupported versions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var why error
			var end Closing
			nc, served := serveOne(t, &Config{
				TLSMode: TLSImplicit, TLS: testTLS(t),
				OnHandshake: func(_ *Conn, _ *tls.ConnectionState, _ time.Duration, err error) { why = err },
				OnClosed:    func(_ *Conn, c Closing) { end = c },
			}, &fake{})
			if err := tls.Client(nc, c.client).Handshake(); err == nil {
				t.Error("a handshake that should fail")
			}
			_ = nc.Close()
			<-served
			if why == nil || !strings.Contains(why.Error(), c.want) || end.Reason != closedTLS.String() {
				t.Errorf("%v, %+v; want %q", why, end, c.want)
			}
		})
	}
}

// TestIdleTLSOutlivesItsHandshakesDeadline: T07's neighbour. The 30 s are the
// handshake's; what follows has a command's time, and a write its own.
func TestIdleTLSOutlivesItsHandshakesDeadline(t *testing.T) {
	certificate := testTLS(t)
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{TLSMode: TLSImplicit, TLS: certificate}, &fake{})
		client := tls.Client(d.nc, &tls.Config{InsecureSkipVerify: true})
		d.nc, d.lines = client, bufio.NewReader(client)
		d.want("220")
		for range 3 {
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			d.ask("NOOP", "250")
		}
		d.want("421 4.4.2")
		if _, err := d.lines.ReadString('\n'); err != io.EOF {
			t.Errorf("%v: want a TLS close_notify", err)
		}
		if d.since() != 17*time.Minute {
			t.Errorf("after %v", d.since())
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		<-d.served
	})
}
