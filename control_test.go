package incoming_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
)

// Q20: the drain finds sessions in each state. All but those whose text is
// coming in get 421 4.3.2 at once.
func TestDrainEndsSessionsInEachState(t *testing.T) {
	t.Parallel()
	for name, dialogue := range map[string]string{
		"after the banner": "S: 220",
		"after EHLO":       "S: 220\nC: EHLO x\nS: 250",
		"after MAIL":       "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250",
		"after RCPT":       ehloMailRcpt,
		"after a message":  toData + "C: X: y\nC: \nC: .\nS: 250",
		"after a refusal":  "S: 220\nC: RCPT TO:<b@example.org>\nS: 503",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newQueue(t, nil)
			srv := incomingtest.NewServer(t, incoming.Config{Queue: q})
			c := srv.Dial()
			c.Play(dialogue)
			stopped := make(chan error, 1)
			go func() { stopped <- srv.Stop() }()
			c.Expect("421 4.3.2")
			c.ExpectClosed()
			if err := <-stopped; err != nil {
				t.Errorf("Run returned %v", err)
			}
			if d := q.Depth(); d.Drafts != 0 {
				t.Errorf("left behind: %+v", d)
			}
		})
	}
}

// Q20.
func TestDrainLetsATextFinish(t *testing.T) {
	t.Parallel()
	for _, text := range []struct{ before, begin, rest string }{
		{"C: DATA\nS: 354", "X: y", "\r\n\r\n.\r\n"},
		{"", "BDAT 8 LAST\r\nX: y", "\r\n\r\n"},
		{"C: BDAT 0\nS: 250", "", "BDAT 8 LAST\r\nX: y\r\n\r\n"}, // between chunks
	} {
		srv := incomingtest.NewServer(t, incoming.Config{})
		c := srv.Dial()
		c.Play(ehloMailRcpt + text.before)
		c.Write(text.begin)
		waitFor(t, "the text to begin", func() bool { return srv.Status().States[incoming.SessionData] == 1 })
		stopped := make(chan error, 1)
		go func() { stopped <- srv.Stop() }()
		waitFor(t, "the listener to be closed", func() bool { return srv.Status().Draining })
		if nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Addr); err == nil {
			nc.Close()
			t.Error("a connection is accepted while draining")
		}
		c.Write(text.rest).Expect("250 2.0.0 Ok: queued as ")
		c.Expect("421 4.3.2")
		c.ExpectClosed()
		if err := <-stopped; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

// A text that never ends is cut off at the deadline, without a 250, and leaves
// nothing behind. Q20.
func TestDrainEndsByForceAtItsDeadline(t *testing.T) {
	t.Parallel()
	q := newQueue(t, nil)
	s, run := start(t, incoming.Config{Queue: q, Timeouts: incoming.Timeouts{Drain: 50 * time.Millisecond}})
	c := incomingtest.Dial(t, s.Addr("").String())
	c.Play(toData)
	c.Write("X: y")
	waitFor(t, "the text to begin", func() bool { return s.Status().States[incoming.SessionData] == 1 })
	if err := run(); !errors.Is(err, incoming.ErrForced) {
		t.Errorf("Run returned %v", err)
	}
	c.ExpectClosed()
	if d := q.Depth(); d.Live() != 0 {
		t.Errorf("left behind: %+v", d)
	}
}

// R14.
func TestForceEndsAPolicyThatWaits(t *testing.T) {
	t.Parallel()
	for _, stage := range []policy.Stage{policy.StageConnect, policy.StageMail, policy.StageMessage} {
		asked := make(chan struct{})
		s, run := start(t, incoming.Config{
			Queue: newQueue(t, nil), Timeouts: incoming.Timeouts{Drain: time.Nanosecond},
			Policies: []incoming.Policy{policy.Func(func(ctx context.Context, at policy.Stage, _ *policy.Transaction) error {
				if at == stage {
					close(asked)
					<-ctx.Done()
				}
				return nil
			})},
		})
		c := incomingtest.Dial(t, s.Addr("").String())
		switch stage {
		case policy.StageMail:
			c.Play("S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>")
		case policy.StageMessage:
			c.Play(toData + "C: X: y\nC: \nC: .")
		}
		<-asked
		began := time.Now()
		if err := run(); !errors.Is(err, incoming.ErrForced) {
			t.Errorf("%v: Run returned %v", stage, err)
		}
		if took := time.Since(began); took > incomingtest.Wait {
			t.Errorf("%v: it took %v", stage, took)
		}
		if d := s.Status().Queue; d.Live() != 0 {
			t.Errorf("%v: left behind: %+v", stage, d)
		}
	}
}

// A commit once begun is finished, even when the connection is cut. Q21.
func TestForceLetsACommitFinish(t *testing.T) {
	t.Parallel()
	mem := newQueue(t, nil)
	committing, release := make(chan struct{}), make(chan struct{})
	q := &tamper{Queue: mem, commit: func(do func() (*queue.Message, error)) (*queue.Message, error) {
		close(committing)
		<-release
		return do()
	}}
	s, run := start(t, incoming.Config{Queue: q, Timeouts: incoming.Timeouts{Drain: time.Nanosecond}})
	c := incomingtest.Dial(t, s.Addr("").String())
	c.Play(toData + "C: X: y\nC: \nC: .")
	<-committing
	ran := make(chan error, 1)
	go func() { ran <- run() }()
	c.ExpectClosed()
	close(release)
	if err := <-ran; !errors.Is(err, incoming.ErrForced) {
		t.Errorf("Run returned %v", err)
	}
	if d := mem.Depth(); d.Ready != 1 {
		t.Errorf("the committed message is gone: %+v", d)
	}
}

func TestTheThreeActsApart(t *testing.T) {
	t.Parallel()
	s, run := start(t, incoming.Config{Queue: newQueue(t, nil)})
	addr := s.Addr("").String()
	c := incomingtest.Dial(t, addr)
	c.Play("S: 220\nC: EHLO x\nS: 250")
	s.StopAccepting()
	s.StopAccepting()
	if nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr); err == nil {
		nc.Close()
		t.Error("a connection is accepted after StopAccepting")
	}
	if st := s.Status(); st.Ready() || !st.Draining {
		t.Errorf("status %+v", st)
	}
	c.Play(strings.TrimPrefix(strings.TrimSpace(toData), "S: 220 mx.test ESMTP incoming"))
	c.Write("X: y\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain with a text open returned %v", err)
	}
	c.Write("\r\n.\r\n").Expect("250")
	c.Expect("421 4.3.2")
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("Drain returned %v", err)
	}
	s.ForceClose()
	if err := run(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	s, run := start(t, incoming.Config{Queue: newQueue(t, nil)})
	c := incomingtest.Dial(t, s.Addr("").String())
	c.Play("S: 220")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	c.Expect("421 4.3.2")
	if err := run(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, incoming.ErrClosed) {
		t.Errorf("a second Run returned %v", err)
	}

	s, run = start(t, incoming.Config{Queue: newQueue(t, nil)})
	c = incomingtest.Dial(t, s.Addr("").String())
	c.Play(toData)
	waitFor(t, "the text to begin", func() bool { return s.Status().States[incoming.SessionData] == 1 })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ended); !errors.Is(err, incoming.ErrForced) || !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown with an ended ctx returned %v", err)
	}
	if err := run(); !errors.Is(err, incoming.ErrForced) {
		t.Errorf("Run returned %v", err)
	}
}

func TestShutdownBeforeRun(t *testing.T) {
	t.Parallel()
	s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, incoming.ErrClosed) {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunTellsWhichListenerItCannotBind(t *testing.T) {
	t.Parallel()
	taken := loopback(t)
	defer taken.Close()
	s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil), Listeners: []incoming.Listener{
		{Name: "free", Address: "127.0.0.1:0"}, {Name: "mx", Address: taken.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `listener "mx"`) {
		t.Errorf("Run returned %v", err)
	}
	if free := s.Addr("free"); free != nil {
		if nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", free.String()); err == nil {
			nc.Close()
			t.Error("the other listener still listens")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), incomingtest.Wait)
	defer cancel()
	if err := s.Drain(ctx); err != nil { // there is nothing left to wait for
		t.Errorf("Drain after a Run that failed: %v", err)
	}
}

func TestRunEndsWhenAListenerIsClosedUnderIt(t *testing.T) {
	t.Parallel()
	ln := loopback(t)
	s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil), Listeners: []incoming.Listener{{Name: "mx", Net: ln}}})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(t.Context()) }()
	<-s.Ready()
	ln.Close()
	if err := <-ran; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), `listener "mx"`) {
		t.Errorf("Run returned %v", err)
	}
}

// start runs a server; run ends it and returns what Run did.
func start(t *testing.T, cfg incoming.Config) (s *incoming.Server, run func() error) {
	t.Helper()
	if cfg.Listeners == nil {
		cfg.Listeners = []incoming.Listener{{Name: "test", Address: "127.0.0.1:0"}}
	}
	cfg.Hostname = "mx.test"
	s, err := incoming.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(cancel)
	select {
	case <-s.Ready():
	case err := <-ran:
		t.Fatal(err)
	}
	return s, func() error {
		cancel()
		err := <-ran
		ran <- err
		return err
	}
}
