package smtp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// dialog is a client on a fake network under a fake clock, and the Session it
// talks to.
type dialog struct {
	t       *testing.T
	nc      net.Conn
	lines   *bufio.Reader
	session *fake
	conn    *Conn
	drain   context.CancelFunc
	served  chan error
	end     Closing
	began   time.Time
}

// begin serves a client within a bubble of synctest.
func begin(t *testing.T, cfg Config, session *fake) *dialog {
	client, server := net.Pipe()
	d := &dialog{t: t, nc: client, lines: bufio.NewReader(client), session: session, served: make(chan error, 1), began: time.Now()}
	cfg.Hostname = "mx.example"
	cfg.OnClosed = func(_ *Conn, c Closing) { d.end = c }
	ctx, cancel := context.WithCancel(t.Context())
	d.drain = func() { cancel(); synctest.Wait() }
	go func() {
		d.served <- Serve(ctx, server, &cfg, func(_ context.Context, c *Conn) (Session, error) {
			session.conn, d.conn = c, c
			return session, nil
		})
	}()
	t.Cleanup(cancel)
	return d
}

func (d *dialog) send(s string) {
	d.t.Helper()
	if _, err := io.WriteString(d.nc, s); err != nil {
		d.t.Fatalf("sending %.20q after %v: %v; %+v", s, d.since(), err, d.end)
	}
}

// want reads the replies, of which each must begin like that.
func (d *dialog) want(replies ...string) {
	d.t.Helper()
	for _, want := range replies {
		for {
			line, err := d.lines.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, want[:3]) {
				d.t.Fatalf("after %v: got %q, %v, want %q", d.since(), line, err, want)
			}
			if line[3] == ' ' {
				if !strings.HasPrefix(line, want) {
					d.t.Fatalf("after %v: got %q, want %q", d.since(), line, want)
				}
				break
			}
		}
	}
}

func (d *dialog) ask(command string, replies ...string) {
	d.t.Helper()
	d.send(command + "\r\n")
	d.want(replies...)
}

// chunk is ask without a line end behind it.
func (d *dialog) chunk(chunk string, replies ...string) {
	d.t.Helper()
	d.send(chunk)
	d.want(replies...)
}

// envelope brings the dialogue to where DATA may follow.
func (d *dialog) envelope() {
	d.t.Helper()
	d.want("220")
	d.ask("HELO c.example", "250")
	d.ask("MAIL FROM:<a@x.example>", "250")
	d.ask("RCPT TO:<b@y.example>", "250")
}

// over waits for the connection's end and checks how and when it came.
func (d *dialog) over(reason ending, after time.Duration) {
	d.t.Helper()
	if line, err := d.lines.ReadString('\n'); err == nil {
		d.t.Fatalf("more was said: %q", line)
	}
	if took := d.since(); took != after {
		d.t.Errorf("over after %v, want %v", took, after)
	}
	if err := d.nc.Close(); err != nil {
		d.t.Error(err)
	}
	<-d.served
	if d.end.Reason != reason.String() {
		d.t.Errorf("closed for %q (%v), want %q", d.end.Reason, d.end.Err, reason)
	}
	if _, faults := d.session.saw(); len(faults) > 0 {
		d.t.Error(faults)
	}
}

func (d *dialog) since() time.Duration { return time.Since(d.began) }

// linger is how long a client that does not close is waited for.
const linger = lingerTime

func bubble(t *testing.T, f func(*testing.T)) {
	t.Parallel()
	synctest.Test(t, f)
}

func TestSilentClientIsTimedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.want("220")
		d.want("421 4.4.2 mx.example Timeout")
		if d.since() != 5*time.Minute {
			t.Errorf("after %v", d.since())
		}
		d.over(closedTimeout, 5*time.Minute+linger)
	})
}

// R06. The time is for a whole command line: an octet now and then does not help.
func TestDribblingCommandIsTimedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.want("220")
		for range 14 {
			d.send("N")
			time.Sleep(20 * time.Second)
		}
		d.want("421 4.4.2")
		d.over(closedTimeout, 5*time.Minute+linger)
	})
}

func TestEachCommandHasItsOwnTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		for range 20 {
			time.Sleep(5*time.Minute - time.Second)
			d.ask("NOOP", "250")
		}
		d.want("421 4.4.2")
		d.over(closedTimeout, 20*(5*time.Minute-time.Second)+5*time.Minute+linger)
	})
}

// TestTimeoutInDataCloses: R07. 421 and the end in one step, so that the late lines
// of the text are never read as commands.
func TestTimeoutInDataCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fake{}
		d := begin(t, Config{}, s)
		d.envelope()
		d.ask("DATA", "354")
		d.send("Subject: x\r\n")
		d.want("421 4.4.2")
		if d.since() != 3*time.Minute {
			t.Errorf("after %v", d.since())
		}
		d.send(evil) // it is read and dropped
		d.over(closedTimeout, 3*time.Minute+linger)
		if log, _ := s.saw(); log[len(log)-1] != "abort" {
			t.Errorf("saw %q", log)
		}
	})
}

// TestTimeoutAfterBareLFSaysSo: E12. The client may believe that it has ended its
// text: the log says why it had not.
func TestTimeoutAfterBareLFSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reason := ""
		d := begin(t, Config{OnRefused: func(_ *Conn, r Refusal) { reason = r.Reason }}, &fake{})
		d.envelope()
		d.ask("DATA", "354")
		d.send("a\n.\n")
		d.want("421 4.4.2")
		d.over(closedTimeout, 3*time.Minute+linger)
		if !strings.Contains(reason, "bare_lf") {
			t.Errorf("reason %q", reason)
		}
	})
}

// TestTextMustKeepItsPace: R06. After three minutes it must average 500 octets a
// second.
func TestTextMustKeepItsPace(t *testing.T) {
	for rate, fails := range map[int]time.Duration{1: 3 * time.Minute, 499: 3 * time.Minute, 500: 0, 501: 0} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := begin(t, Config{}, &fake{})
				d.envelope()
				d.ask("DATA", "354")
				second := strings.Repeat("a", rate)
				d.atPace(fails, func() { d.send(second) }, func() { d.ask("\r\n.", "250") })
			})
		})
	}
}

// atPace calls second once a second, for half an hour, and then end; or, if fails
// is not 0, wants the session to be ended for its slowness after that time.
func (d *dialog) atPace(fails time.Duration, second, end func()) {
	d.t.Helper()
	for range 1800 {
		if fails > 0 && d.since() >= fails-time.Second {
			break
		}
		second()
		wait := time.Second
		if d.since() == 0 {
			wait -= time.Millisecond // to be ahead of a deadline at a whole second
		}
		time.Sleep(wait)
	}
	if fails > 0 {
		d.want("421 4.4.2")
		d.over(closedTimeout, fails+linger)
		return
	}
	end()
	d.ask("QUIT", "221")
	d.over(closedQuit, 30*time.Minute-time.Millisecond+linger)
}

// A text that was fast has earned time, but no more than Data between two reads.
func TestFastTextMayPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		d.ask("DATA", "354")
		d.send(strings.Repeat("a", 500*600)) // ten minutes' worth
		for range 3 {
			time.Sleep(3*time.Minute - time.Second)
			d.send("a")
		}
		d.want("421 4.4.2")
		d.over(closedTimeout, 10*time.Minute+linger)
	})
}

// slowBody takes its time for each Write.
type slowBody struct {
	fakeBody
	takes time.Duration
}

func (b *slowBody) Write(p []byte) (int, error) { time.Sleep(b.takes); return len(p), nil }
func (b *slowBody) End(context.Context) (string, error) {
	return "Ok", nil
}

type slowSession struct {
	fake
	takes time.Duration
}

func (s *slowSession) Data(context.Context, DataParams) (Body, error) {
	return &slowBody{takes: s.takes}, nil
}

// TestSlowBodyIsNotThePeersFault: what we take to write a text is not held
// against the rate at which it came.
func TestSlowBodyIsNotThePeersFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := &slowSession{takes: 10 * time.Minute}
		go func() {
			_ = Serve(t.Context(), server, &Config{Hostname: "mx.example"}, func(_ context.Context, c *Conn) (Session, error) {
				s.conn = c
				return s, nil
			})
		}()
		d := &dialog{t: t, nc: client, lines: bufio.NewReader(client), began: time.Now()}
		d.envelope()
		d.ask("DATA", "354")
		for range 5 {
			d.send("a\r\n")
		}
		d.ask(".", "250")
		_ = client.Close()
	})
}

// TestChunksMustKeepTheirPace: R06, by BDAT. Only the text counts, but all of it:
// also what is read together with the command.
func TestChunksMustKeepTheirPace(t *testing.T) {
	for _, size := range []int{100, 499, 500, 501} {
		for rate, fails := range map[int]time.Duration{size - 1: 3 * time.Minute, size: 0, size + 1: 0} {
			t.Run(fmt.Sprintf("chunks of %d, %d wanted", rate, size), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					d := begin(t, Config{Timeouts: Timeouts{DataRate: size}}, &fake{})
					d.envelope()
					chunk := fmt.Sprintf("BDAT %d\r\n%s", rate, strings.Repeat("a", rate))
					d.atPace(fails, func() { d.chunk(chunk, "250") }, func() { d.chunk("BDAT 0 LAST\r\n", "250") })
				})
			})
		}
	}
}

// TestOneChunkMustKeepItsPace: R06, with all of the text in one.
func TestOneChunkMustKeepItsPace(t *testing.T) {
	for rate, fails := range map[int]time.Duration{1: 3 * time.Minute, 499: 3 * time.Minute, 500: 0, 501: 0} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := begin(t, Config{}, &fake{})
				d.envelope()
				d.send(fmt.Sprintf("BDAT %d LAST\r\n", 600*rate))
				for range 600 {
					if fails > 0 && d.since() >= fails-time.Second {
						break
					}
					d.send(strings.Repeat("a", rate))
					wait := time.Second
					if d.since() == 0 {
						wait -= time.Millisecond // as above
					}
					time.Sleep(wait)
				}
				if fails > 0 {
					d.want("421 4.4.2")
					d.over(closedTimeout, fails+linger)
					return
				}
				d.want("250")
				d.ask("QUIT", "221")
				d.over(closedQuit, 10*time.Minute-time.Millisecond+linger)
			})
		})
	}
}

// TestStallingChunkIsTimedOut: B13. The octets announced do not come.
func TestStallingChunkIsTimedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		d.send("BDAT 10\r\nabcd")
		d.want("421 4.4.2")
		d.over(closedTimeout, 3*time.Minute+linger)
	})
}

// TestBusyServerWaitsLess: 30 s for a command while connections run out, also
// for those that wait already.
func TestBusyServerWaitsLess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var busy atomic.Bool
		d := begin(t, Config{Busy: busy.Load}, &fake{})
		d.want("220")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		d.ask("NOOP", "250")
		time.Sleep(35 * time.Second)
		synctest.Wait()
		busy.Store(true)
		d.want("421 4.4.2")
		d.over(closedTimeout, 100*time.Second+linger) // the second look of that wait
	})
}

// TestHurriedServerGivesUpAtOnceWhoWaitedTooLong: and nobody else, wherever the
// dialogue stands.
func TestHurriedServerGivesUpAtOnceWhoWaitedTooLong(t *testing.T) {
	for name, upTo := range map[string]func(*dialog){
		"idle":           func(d *dialog) { d.want("220") },
		"between chunks": func(d *dialog) { d.envelope(); d.chunk("BDAT 1\r\na", "250") },
		"in a command":   func(d *dialog) { d.want("220"); d.send("NOO") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var busy atomic.Bool
				d := begin(t, Config{Busy: busy.Load}, &fake{})
				upTo(d)
				hurry := func(at time.Duration) {
					time.Sleep(at - d.since())
					d.conn.Hurry()
					synctest.Wait()
				}
				hurry(29 * time.Second) // not long enough
				hurry(40 * time.Second) // not busy
				busy.Store(true)
				hurry(45 * time.Second)
				d.want("421 4.4.2")
				d.over(closedTimeout, 45*time.Second+linger)
			})
		})
	}
}

// TestHurryLeavesTextBe: who sends text, or waits for the Session, is not hurried.
func TestHurryLeavesTextBe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{Busy: func() bool { return true }}, &fake{})
		d.envelope()
		d.ask("DATA", "354")
		time.Sleep(40 * time.Second)
		d.conn.Hurry()
		synctest.Wait()
		d.ask("a\r\n.", "250")
		d.ask("QUIT", "221")
		d.over(closedQuit, 40*time.Second+linger)
	})
}

func TestNotBusyServerWaitsInFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{Busy: func() bool { return false }}, &fake{})
		d.want("220", "421 4.4.2")
		d.over(closedTimeout, 5*time.Minute+linger)
	})
}

// TestSessionEndsBetweenTransactions: after an hour, but not in a transaction.
func TestSessionEndsBetweenTransactions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		for range 16 {
			time.Sleep(4 * time.Minute)
			d.ask("NOOP", "250")
		}
		d.ask("DATA", "354")
		d.ask("a\r\n.", "250", "421 4.4.2 mx.example Timeout")
		d.over(closedTimeout, 64*time.Minute+linger)
	})
}

func TestSessionEndsOnTheHour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.want("220")
		for range 14 {
			time.Sleep(4*time.Minute + time.Second)
			d.ask("NOOP", "250")
		}
		time.Sleep(time.Minute)
		d.want("421 4.4.2")
		d.over(closedTimeout, time.Hour+linger)
	})
}

// TestEachTimeoutIsNamed: the reply is one and the same, so the reason says by
// which option it came.
func TestEachTimeoutIsNamed(t *testing.T) {
	for _, c := range []struct {
		want  string
		after time.Duration
		cfg   Config
		say   func(d *dialog)
	}{
		{"timeouts.command", 5 * time.Minute, Config{}, func(d *dialog) { d.want("220") }},
		{"timeouts.session", time.Minute, Config{Timeouts: Timeouts{Session: time.Minute}}, func(d *dialog) { d.want("220") }},
		{"limits.connections", 30 * time.Second, Config{Busy: func() bool { return true }}, func(d *dialog) { d.want("220") }},
		{"timeouts.data", 3 * time.Minute, Config{}, func(d *dialog) { d.envelope(); d.ask("DATA", "354") }},
		{"timeouts.data", 3 * time.Minute, Config{}, func(d *dialog) { d.envelope(); d.chunk("BDAT 1\r\na", "250") }},
		{"timeouts.data", 3 * time.Minute, Config{}, func(d *dialog) { d.envelope(); d.send("BDAT 2\r\na") }},
	} {
		t.Run(c.want, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				reason := ""
				c.cfg.OnRefused = func(_ *Conn, r Refusal) { reason = r.Reason }
				d := begin(t, c.cfg, &fake{})
				c.say(d)
				d.want("421 4.4.2")
				d.over(closedTimeout, c.after+linger)
				if !strings.HasSuffix(reason, ": "+c.want) {
					t.Errorf("reason %q", reason)
				}
			})
		})
	}
}

func TestNoTimeoutsWaitForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		none := Timeouts{Command: -1, TLS: -1, Data: -1, Write: -1, Session: -1, DataRate: -1}
		d := begin(t, Config{Timeouts: none}, &fake{})
		d.want("220")
		time.Sleep(1000 * time.Hour)
		d.ask("HELO x", "250")
		d.ask("MAIL FROM:<a@x.example>", "250")
		d.ask("RCPT TO:<b@y.example>", "250")
		d.ask("DATA", "354")
		time.Sleep(1000 * time.Hour)
		d.ask("a\r\n.", "250")
		d.ask("QUIT", "221")
		d.over(closedQuit, 2000*time.Hour+linger)
	})
}

// TestPeerThatNeverReads: it is closed without a reply once a write has taken
// too long, at a sixteenth past the limit at the latest.
func TestPeerThatNeverReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		<-d.served // it never gets its banner out
		if took := d.since(); took < 5*time.Minute || took > 5*time.Minute+5*time.Minute/16 {
			t.Errorf("after %v", took)
		}
		if d.end.Reason != closedWrite.String() || d.end.Err == nil || d.end.BytesOut != 0 {
			t.Errorf("%+v", d.end)
		}
	})
}

// TestRepliesWaitForTheirBatch: S43. One write a batch, and none held back from a
// peer that we wait for.
func TestRepliesWaitForTheirBatch(t *testing.T) {
	t.Parallel()
	nc := &countingConn{Conn: nil}
	client, server := net.Pipe()
	nc.Conn = server
	go func() { _ = Serve(t.Context(), nc, &Config{Hostname: "mx.example"}, openDiscard) }()
	r := bufio.NewReader(client)
	read := func(n int) {
		for range n {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	read(1)
	if _, err := io.WriteString(client, "NOOP\r\nNOOP\r\nNOOP\r\nNO"); err != nil {
		t.Fatal(err)
	}
	read(3)
	if nc.writes != 2 {
		t.Errorf("%d writes for the banner and a batch", nc.writes)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) { c.writes++; return c.Conn.Write(p) }

// TestLingerHasAnEnd: a peer that does not stop sending is closed on after a
// second, or 256 KiB.
func TestLingerHasAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.want("220")
		d.ask("QUIT", "221")
		sent := 0
		for {
			n, err := d.nc.Write(make([]byte, 1024))
			sent += n
			if err != nil {
				break
			}
		}
		if sent < lingerOctets || sent > lingerOctets+2*smallBuffer {
			t.Errorf("%d octets were read", sent)
		}
		if d.since() != 0 {
			t.Errorf("after %v", d.since())
		}
	})
}

func TestDrainEndsTheWaitAtOnce(t *testing.T) {
	for name, lines := range map[string][]string{
		"start": nil,
		"ready": {"HELO x"},
		"mail":  {"HELO x", "MAIL FROM:<a@x.example>"},
		"rcpt":  {"HELO x", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := begin(t, Config{}, &fake{})
				d.want("220")
				for _, line := range lines {
					d.ask(line, "250")
				}
				d.send("MAI") // half a command is no command
				time.Sleep(time.Second)
				synctest.Wait()
				d.drain()
				d.want("421 4.3.2 mx.example Shutting down")
				d.over(closedDrain, time.Second+linger)
			})
		})
	}
}

func TestDrainLetsTextFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fake{}
		d := begin(t, Config{}, s)
		d.envelope()
		d.ask("DATA", "354")
		d.send("a")
		synctest.Wait()
		d.drain()
		time.Sleep(2 * time.Minute)
		d.send("bc\r\n.\r\n")
		d.want("250 2.0.0 Ok: stored", "421 4.3.2")
		d.over(closedDrain, 2*time.Minute+linger)
		if d.end.Messages != 1 {
			t.Errorf("%+v", d.end)
		}
	})
}

func TestDrainLetsChunksFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		d.chunk("BDAT 1\r\na", "250")
		synctest.Wait()
		d.drain()
		time.Sleep(time.Minute)
		d.chunk("BDAT 1\r\nb", "250")
		d.chunk("BDAT 1 LAST\r\nc", "250 2.0.0 Ok: stored", "421 4.3.2")
		d.over(closedDrain, time.Minute+linger)
	})
}

func TestDrainBetweenChunksEndsWhatElseIsAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{}, &fake{})
		d.envelope()
		d.chunk("BDAT 1\r\na", "250")
		synctest.Wait()
		d.drain()
		d.ask("NOOP", "421 4.3.2")
		d.over(closedDrain, linger)
	})
}

// TestDrainBeforeTheBanner: who comes too late is told so.
func TestDrainBeforeTheBanner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, server, &Config{Hostname: "mx.example"}, func(context.Context, *Conn) (Session, error) {
				t.Error("a session was opened")
				return nil, errors.New("x")
			})
		}()
		got, err := bufio.NewReader(client).ReadString('\n')
		if err != nil || got != "421 4.3.2 mx.example Shutting down\r\n" {
			t.Errorf("%q, %v", got, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// ctxSession keeps the contexts it is given.
type ctxSession struct {
	fake
	mail   context.Context
	wait   chan struct{} // Mail returns when it or its ctx ends
	waited error
}

func (s *ctxSession) Mail(ctx context.Context, from Path, p MailParams) error {
	s.mail = ctx
	if s.wait != nil {
		select {
		case <-s.wait:
		case <-ctx.Done():
			s.waited = ctx.Err()
		}
	}
	return nil
}

// TestDrainEndsNoContext: the Session's contexts end with the connection, and
// carry the values of Serve's.
func TestDrainEndsNoContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type key struct{}
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		s := &ctxSession{wait: make(chan struct{})}
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, server, &Config{Hostname: "mx.example"}, func(_ context.Context, c *Conn) (Session, error) {
				s.conn = c
				return s, nil
			})
		}()
		d := &dialog{t: t, nc: client, lines: bufio.NewReader(client), began: time.Now()}
		d.want("220")
		d.ask("HELO x", "250")
		d.send("MAIL FROM:<a@x.example>\r\n")
		synctest.Wait()
		cancel()
		synctest.Wait()
		if s.mail.Err() != nil || s.mail.Value(key{}) != "value" {
			t.Errorf("%v, %v", s.mail.Err(), s.mail.Value(key{}))
		}
		close(s.wait)
		d.want("250", "421 4.3.2") // the command was begun before the drain
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		<-served
		if s.mail.Err() == nil {
			t.Error("the context outlives the connection")
		}
	})
}

// TestCloseForces: Conn.Close ends a method that waits, and the connection.
func TestCloseForces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := &ctxSession{wait: make(chan struct{})}
		served := make(chan error, 1)
		var end Closing
		cfg := &Config{Hostname: "mx.example", OnClosed: func(_ *Conn, c Closing) { end = c }}
		go func() {
			served <- Serve(t.Context(), server, cfg, func(_ context.Context, c *Conn) (Session, error) {
				s.conn = c
				return s, nil
			})
		}()
		d := &dialog{t: t, nc: client, lines: bufio.NewReader(client), began: time.Now()}
		d.want("220")
		d.ask("HELO x", "250")
		d.send("MAIL FROM:<a@x.example>\r\n")
		synctest.Wait()
		if err := s.conn.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err == nil {
			t.Error("no error of a broken connection")
		}
		if !errors.Is(s.waited, context.Canceled) || end.Reason != closedWrite.String() && end.Reason != closedForced.String() {
			t.Errorf("waited %v, end %+v", s.waited, end)
		}
	})
}

// TestHandshakeIsTimedOut: T07. A silent client, and one that dribbles.
func TestHandshakeIsTimedOut(t *testing.T) {
	certificate := testTLS(t)
	for name, dribble := range map[string]bool{"silent": false, "dribbling": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := begin(t, Config{TLSMode: TLSOptional, TLS: certificate}, &fake{})
				d.want("220")
				d.ask("STARTTLS", "220")
				if dribble {
					d.send("\x16\x03\x01")
					time.Sleep(20 * time.Second)
					d.send("\x01")
				}
				d.over(closedTLS, 30*time.Second)
			})
		})
	}
}

func TestDrainEndsAHandshake(t *testing.T) {
	certificate := testTLS(t)
	bubble(t, func(t *testing.T) {
		d := begin(t, Config{TLSMode: TLSOptional, TLS: certificate}, &fake{})
		d.want("220")
		d.ask("STARTTLS", "220")
		synctest.Wait()
		d.drain()
		d.over(closedDrain, 0)
	})
}
