package incoming_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// Whoever ends the server, in whatever company: each call returns, and so does
// Run, with sessions in every state.
func TestAllEndsAtOnce(t *testing.T) {
	t.Parallel()
	ends := map[string]func(s *incoming.Server, cancel func()){
		"ctx":      func(_ *incoming.Server, cancel func()) { cancel() },
		"stop":     func(s *incoming.Server, _ func()) { s.StopAccepting() },
		"shutdown": func(s *incoming.Server, _ func()) { _ = s.Shutdown(t.Context()) },
		"hasty": func(s *incoming.Server, _ func()) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = s.Shutdown(ended)
		},
		"drain":  func(s *incoming.Server, _ func()) { _ = s.Drain(t.Context()) },
		"force":  func(s *incoming.Server, _ func()) { s.ForceClose() },
		"look":   func(s *incoming.Server, _ func()) { s.Status(); s.Addr("") },
		"list":   func(s *incoming.Server, _ func()) { s.Sessions()(func(incoming.SessionInfo) bool { return true }) },
		"reload": func(s *incoming.Server, _ func()) { _ = s.Reload(incoming.Config{}) },
	}
	for range 5 {
		q := newQueue(t, nil)
		s, run := start(t, incoming.Config{Queue: q, Adapter: incoming.AdapterFunc(
			func(ctx context.Context, _ *incoming.Message) error { <-ctx.Done(); return ctx.Err() })})
		addr := s.Addr("").String()
		for _, dialogue := range []string{"", "S: 220", ehloMailRcpt, toData, toData + "C: X: y\nC: \nC: .\nS: 250"} {
			incomingtest.Dial(t, addr).Play(dialogue)
		}
		var all sync.WaitGroup
		for _, end := range ends {
			for range 2 {
				all.Go(func() { end(s, func() { go func() { _ = run() }() }) })
			}
		}
		all.Wait()
		if err := run(); !errors.Is(err, incoming.ErrForced) {
			t.Errorf("Run returned %v", err)
		}
		if d := q.Depth(); d.Ready != 1 || d.Live() != 1 {
			t.Errorf("of one accepted message is left: %+v", d)
		}
	}
}

// Before Run each end makes Run impossible, closes a listener it was given, and
// may come again.
func TestEndsBeforeRun(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*incoming.Server) error{
		"StopAccepting": func(s *incoming.Server) error { s.StopAccepting(); return nil },
		"Drain":         func(s *incoming.Server) error { return s.Drain(t.Context()) },
		"ForceClose":    func(s *incoming.Server) error { s.ForceClose(); return nil },
		"Shutdown":      func(s *incoming.Server) error { return s.Shutdown(t.Context()) },
	} {
		ln := loopback(t)
		if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(incomingtest.Wait)); err != nil {
			t.Fatal(err)
		}
		s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil), Listeners: []incoming.Listener{{Name: "mx", Net: ln}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := end(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := s.Run(t.Context()); !errors.Is(err, incoming.ErrClosed) {
			t.Errorf("%s: Run returned %v", name, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener: %v", name, err)
		}
	}
}

// Run and its end may be called at the same moment: either Run is told that it
// came too late, or it ends by itself.
func TestRunAndShutdownAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil), Listeners: []incoming.Listener{
			{Name: "one", Address: "127.0.0.1:0"}, {Name: "two", Address: "127.0.0.1:0"}}})
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error, 1)
		go func() { ran <- s.Run(t.Context()) }()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatalf("Shutdown returned %v", err)
		}
		if err := <-ran; err != nil && !errors.Is(err, incoming.ErrClosed) && !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Run returned %v", err)
		}
	}
}

// A client that is in the middle of a handshake has nothing to lose: it does not
// hold the drain up.
func TestDrainEndsHandshakes(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	conf := ca.Issue(t, testcert.Options{}).ServerConfig()
	srv := incomingtest.NewServer(t, incoming.Config{Timeouts: incoming.Timeouts{Drain: time.Hour, TLS: time.Hour}, Listeners: []incoming.Listener{
		{Name: "starttls", Address: "127.0.0.1:0", TLS: incoming.TLSRequired, TLSConfig: conf},
		{Name: "implicit", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, TLSConfig: conf}}})
	asked, silent := srv.Dial(), incomingtest.Dial(t, srv.Server.Addr("implicit").String())
	asked.Play("S: 220\nC: EHLO x\nS: 250\nC: STARTTLS\nS: 220")
	silent.Write("\x16\x03\x01")
	ready := incomingtest.DialTLS(t, srv.Server.Addr("implicit").String(), ca.ClientConfig("localhost"))
	ready.Play("S: 220\nC: EHLO x\nS: 250")
	waitFor(t, "all three", func() bool { return srv.Status().Sessions == 3 })
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Stop() }()
	ready.Expect("421 4.3.2")
	ready.ExpectClosed()
	asked.ExpectClosed()
	silent.ExpectClosed()
	if err := <-stopped; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// A policy that is at work when the drain begins may finish; then the client is
// told.
func TestDrainLetsAPolicyFinish(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage    policy.Stage
		dialogue string
		reply    string // to what was asked, before the 421; "" is none
	}{
		{policy.StageConnect, "", "220"},
		{policy.StageHello, "S: 220\nC: EHLO x", "250"},
		{policy.StageMail, "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>", "250 2.1.0"},
		{policy.StageRcpt, strings.TrimSuffix(strings.TrimSpace(ehloMailRcpt), "S: 250 2.1.5"), "250 2.1.5"},
		{policy.StageMessage, toData + "C: X: y\nC: \nC: .", "250 2.0.0 Ok: queued as "},
	} {
		t.Run(c.stage.String(), func(t *testing.T) {
			t.Parallel()
			asked, answer := make(chan struct{}), make(chan struct{})
			srv := incomingtest.NewServer(t, incoming.Config{Policies: []incoming.Policy{policy.Func(
				func(_ context.Context, stage policy.Stage, _ *policy.Transaction) error {
					if stage == c.stage {
						close(asked)
						<-answer
					}
					return nil
				})}})
			client := srv.Dial()
			client.Play(c.dialogue)
			<-asked
			stopped := make(chan error, 1)
			go func() { stopped <- srv.Stop() }()
			waitFor(t, "the drain to begin", func() bool { return srv.Status().Draining })
			close(answer)
			client.Expect(c.reply)
			client.Expect("421 4.3.2")
			client.ExpectClosed()
			if err := <-stopped; err != nil {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// A delivery in hand finishes in a drain; one that is cut off by force is given
// back and has cost no attempt.
func TestDeliveriesAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		q := newQueue(t, nil)
		begun, finish := make(chan struct{}), make(chan struct{})
		cfg := incoming.Config{Queue: q, Adapter: incoming.AdapterFunc(func(ctx context.Context, _ *incoming.Message) error {
			close(begun)
			select {
			case <-finish:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})}
		if force {
			cfg.Timeouts.Drain = time.Nanosecond
		}
		s, run := start(t, cfg)
		c := incomingtest.Dial(t, s.Addr("").String())
		c.Play(toData + "C: X: y\nC: \nC: .\nS: 250")
		<-begun
		ran := make(chan error, 1)
		go func() { ran <- run() }()
		if !force {
			c.Expect("421 4.3.2")
			close(finish)
			if err := <-ran; err != nil || q.Depth().Live() != 0 {
				t.Errorf("Run returned %v, left: %+v", err, q.Depth())
			}
			continue
		}
		if err := <-ran; !errors.Is(err, incoming.ErrForced) {
			t.Errorf("Run returned %v", err)
		}
		l, err := q.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a := l.Message().Attempt; a != 1 {
			t.Errorf("it cost an attempt: the next is number %d", a)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Q21, E18: a commit that has begun is finished though the client is gone, and
// the message is delivered.
func TestACommitFinishesThoughTheClientIsGone(t *testing.T) {
	t.Parallel()
	committing, release := make(chan struct{}), make(chan struct{})
	q := &tamper{Queue: newQueue(t, nil), commit: func(do func() (*queue.Message, error)) (*queue.Message, error) {
		close(committing)
		<-release
		return do()
	}}
	srv := incomingtest.NewServer(t, incoming.Config{Queue: q})
	c := srv.Dial()
	c.Play(toData + "C: X: y\nC: \nC: .")
	<-committing
	c.Reset()
	close(release)
	srv.Next(t)
	waitFor(t, "the session to end", func() bool { return srv.Status().Sessions == 0 })
}

// E17: whatever a text is broken off by, no file of it stays. E16.
func TestABrokenOffTextLeavesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// No buffers: each draft goes to a file at once.
	q, err := diskqueue.Open(dir, &diskqueue.Options{NoFsync: true, Buffers: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the server, which has a Cleanup of its own
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Limits: incoming.Limits{MessageSize: 300 << 10, Received: 1},
		Policies: []incoming.Policy{policy.OnMessage(func(context.Context, *policy.Transaction) error { return policy.Reject("No") })}})
	big := strings.Repeat("text\r\n", 30_000)
	for name, end := range map[string]func(c *incomingtest.Client){
		"reset in the header":  func(c *incomingtest.Client) { c.Send("DATA").Expect("354"); c.Write("Subject: x\r\nX-"); c.Reset() },
		"reset in the text":    func(c *incomingtest.Client) { c.Send("DATA").Expect("354"); c.Write("X: y\r\n\r\n" + big); c.Reset() },
		"closed in the text":   func(c *incomingtest.Client) { c.Send("DATA").Expect("354"); c.Write("X: y\r\n\r\n" + big); c.Close() },
		"reset in a chunk":     func(c *incomingtest.Client) { c.Write("BDAT 1000000\r\nX: y\r\n\r\n" + big); c.Reset() },
		"reset between chunks": func(c *incomingtest.Client) { c.Write("BDAT 8\r\nX: y\r\n\r\n").Expect("250"); c.Reset() },
		"RSET between chunks":  func(c *incomingtest.Client) { c.Write("BDAT 8\r\nX: y\r\n\r\nRSET\r\n").Expect("250"); c.Expect("250") },
		"EHLO between chunks": func(c *incomingtest.Client) {
			c.Write("BDAT 8\r\nX: y\r\n\r\nEHLO x\r\n").Expect("250")
			c.Expect("250")
		},
		"too big": func(c *incomingtest.Client) {
			c.Send("DATA").Expect("354")
			c.Text("X: y\r\n\r\n" + big + big).Expect("552")
		},
		"refused for header": func(c *incomingtest.Client) {
			c.Send("DATA").Expect("354")
			c.Text("Received: x\r\nReceived: y\r\n\r\n" + big).Expect("554 5.4.6")
		},
		"refused at the end": func(c *incomingtest.Client) { c.Send("DATA").Expect("354"); c.Text("X: y\r\n\r\n" + big).Expect("550") },
	} {
		c := srv.Dial()
		c.Play(ehloMailRcpt)
		end(c)
		c.Close()
		waitFor(t, "the session to end: "+name, func() bool { return srv.Status().Sessions == 0 })
		if left := filesUnder(t, dir, "incoming", "committed", "processing", "dead"); len(left) > 0 || q.Depth() != (queue.Depth{}) {
			t.Errorf("%s: left behind %q, depth %+v", name, left, q.Depth())
		}
		waitFor(t, "the trash to be emptied: "+name, func() bool { return len(filesUnder(t, dir, "trash")) == 0 })
	}
}

func filesUnder(t *testing.T, dir string, under ...string) (names []string) {
	t.Helper()
	for _, u := range under {
		root := filepath.Join(dir, u)
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if path != root && err == nil {
				names = append(names, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what is taken away while we look is not left behind
			t.Fatal(err)
		}
	}
	return names
}

// What Run's ctx carries reaches whoever is given a ctx; its end does not.
func TestValuesOfRunsContextArrive(t *testing.T) {
	t.Parallel()
	type key struct{}
	var mu sync.Mutex
	seen := make(map[string]string)
	note := func(who string, ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		seen[who] = fmt.Sprint(ctx.Value(key{}), ctx.Err())
	}
	dead := make(chan struct{})
	s, err := incoming.New(incoming.Config{
		Queue:     newQueue(t, nil),
		Hostname:  "mx.test",
		Listeners: []incoming.Listener{{Name: "test", Address: "127.0.0.1:0"}},
		Policies: []incoming.Policy{policy.Func(func(ctx context.Context, stage policy.Stage, _ *policy.Transaction) error {
			note(stage.String(), ctx)
			return nil
		})},
		Recipient: func(ctx context.Context, _ incoming.Address) error { note("recipient", ctx); return nil },
		Adapter: incoming.AdapterFunc(func(ctx context.Context, _ *incoming.Message) error {
			note("adapter", ctx)
			return incoming.Reject(errors.New("no"))
		}),
		Delivery: incoming.Delivery{
			Before: func(ctx context.Context, _ *incoming.Message) { note("before", ctx) },
			After:  func(ctx context.Context, _ *incoming.Message, _ error) { note("after", context.WithoutCancel(ctx)) },
		},
		OnDead: func(ctx context.Context, _ *incoming.Message, _ error) {
			note("dead", context.WithoutCancel(ctx))
			close(dead)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	<-s.Ready()
	c := incomingtest.Dial(t, s.Addr("").String())
	c.Play(toData)
	cancel() // the rest comes in the drain
	c.Text("X: y\r\n\r\n").Expect("250")
	if err := <-ran; err != nil {
		t.Error(err)
	}
	for _, who := range []string{"connect", "hello", "mail", "rcpt", "recipient", "data", "header", "message"} {
		if seen[who] != "value<nil>" {
			t.Errorf("%s has %s", who, seen[who])
		}
	}
}

// A hook that panics takes neither the 250 of a committed message away nor the
// process.
func TestPanickingHooksChangeNothing(t *testing.T) {
	t.Parallel()
	boom := func() { panic("hook") }
	var mu sync.Mutex
	told := make(map[string]int)
	srv := incomingtest.NewServer(t, incoming.Config{Limits: incoming.Limits{Connections: 1}, Hooks: telemetry.Hooks{
		SessionConnect:  func(telemetry.SessionConnect) { boom() },
		SessionAccepted: func(telemetry.SessionAccepted) { boom() },
		SessionRejected: func(telemetry.SessionRejected) { boom() },
		SessionClosed:   func(telemetry.SessionClosed) { boom() },
		MessageQueued:   func(telemetry.MessageQueued) { boom() },
		DeliveryResult:  func(telemetry.DeliveryResult) { boom() },
		QueueDepth:      func(telemetry.QueueDepth) { boom() },
		LimitHit:        func(telemetry.LimitHit) { boom() },
		Panic: func(e telemetry.Panic) {
			mu.Lock()
			defer mu.Unlock()
			told[e.Where]++
		},
	}})
	c := srv.Dial()
	c.Play(toData)
	c.Text("X: y\r\n\r\n").Expect("250 2.0.0 Ok: queued as ")
	srv.Dial().Expect("421 4.3.2") // turned away by the acceptor
	c.Play("C: RCPT TO:<b@example.org>\nS: 503\nC: QUIT\nS: 221")
	if m := srv.Next(t); m.Attempt != 1 {
		t.Errorf("attempt %d", m.Attempt)
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	srv.None()
	for _, fact := range []string{"session.connect", "session.accepted", "session.rejected", "session.closed", "message.queued",
		"delivery.result", "queue.depth", "limit.hit"} {
		if told["hook "+fact] == 0 {
			t.Errorf("nothing was told of %s, but %v", fact, told)
		}
	}
}

// What a peer says as its name stands in the Received field, and nowhere else.
// A15.
func TestAHostileHelloStaysInItsPlace(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	for _, hello := range []string{"a)(X:", "[1.2.3.4]", "a;b", `a"b\c`, "<a@b>", "x,y", "=?utf-8?q?x?=", "a\x01b", "a\x00b", "j\xf6rg", "jörg", "a\u202eb", strings.Repeat("x", 600)} {
		c := srv.Dial()
		c.Expect("220")
		c.Send("EHLO " + hello)
		if reply := c.Expect(""); !strings.HasPrefix(reply, "250") {
			c.Close()
			continue // refused: it will not be in any field
		}
		c.Play("C: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354")
		c.Text("Subject: x\r\n\r\n").Expect("250")
		c.Close()
		m := srv.Next(t)
		if m.Header.Len() != 2 || m.Header.Count("Received") != 1 || m.Header.Count("Subject") != 1 {
			t.Errorf("%q became %q", hello, m.Raw)
		}
		field, _, _ := bytes.Cut(m.Raw, []byte("Subject:"))
		name, rest, ok := strings.Cut(strings.TrimPrefix(string(field), "Received: from "), " ([127.0.0.1])\r\n\tby mx.test with ESMTP id ")
		if !ok || strings.ContainsAny(name, " ()<>;,\"\\\r\n\t=") || len(name) > 255 {
			t.Errorf("%q became %q", hello, field)
		}
		if want := string(m.ID) + "\r\n\tfor <b@example.org>;\r\n\t" + m.ReceivedAt.UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n"; rest != want {
			t.Errorf("%q: after it %q, want %q", hello, rest, want)
		}
	}
}

// A refusal tells the log which policy it was, and why, at every stage.
func TestRefusalsNamePolicyAndReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage policy.Stage
		reply string
		after string // the dialogue up to the refusal
	}{
		{policy.StageConnect, "554 5.7.1 No", ""},
		{policy.StageHello, "550 5.7.1 No", "S: 220\nC: EHLO x"},
		{policy.StageMail, "550 5.7.1 No", "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<a@example.net>"},
		{policy.StageRcpt, "550 5.7.1 No", strings.TrimSuffix(strings.TrimSpace(ehloMailRcpt), "S: 250 2.1.5")},
		{policy.StageData, "550 5.7.1 No", ehloMailRcpt + "C: DATA"},
		{policy.StageHeader, "550 5.7.1 No", toData + "C: X: y\nC: \nC: ."},
		{policy.StageMessage, "550 5.7.1 No", toData + "C: X: y\nC: \nC: ."},
	} {
		t.Run(c.stage.String(), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var told []telemetry.SessionRejected
			srv := incomingtest.NewServer(t, incoming.Config{
				Hooks: telemetry.Hooks{SessionRejected: func(e telemetry.SessionRejected) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, e)
				}},
				Policies: []incoming.Policy{policy.Named("strict", policy.Func(
					func(_ context.Context, stage policy.Stage, _ *policy.Transaction) error {
						if stage == c.stage {
							return fmt.Errorf("for a reason of ours: %w", policy.Reject("No"))
						}
						return nil
					}))},
			})
			client := srv.Dial()
			client.Play(c.after)
			client.Expect(c.reply)
			client.Close()
			waitFor(t, "the session to end", func() bool { return srv.Status().Sessions == 0 })
			mu.Lock()
			defer mu.Unlock()
			if len(told) != 1 {
				t.Fatalf("told %+v", told)
			}
			e := told[0]
			if e.Stage != c.stage.String() || e.Policy != "strict" || !strings.Contains(e.Reason, "for a reason of ours") || withoutRef(e.Reply) != c.reply || e.Because.Ref == "" ||
				e.ID == "" || e.Listener != "test" || !e.Peer.IsValid() {
				t.Errorf("told %+v", e)
			}
			if hello := e.Hello == "x" || e.Hello == "client.test"; hello != (c.stage >= policy.StageHello) {
				t.Errorf("told of the name %q", e.Hello)
			}
			if from := c.stage >= policy.StageMail; from != (e.MailFrom == "a@example.net") || (c.stage == policy.StageRcpt) != (e.Rcpt == "b@example.org") {
				t.Errorf("told %+v", e)
			}
		})
	}
}

// addrListener gives its connections addresses of the test's choice.
type addrListener struct {
	net.Listener
	addrs chan string
}

func (l addrListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return addrConn{nc.(*net.TCPConn), net.ParseIP(<-l.addrs)}, nil
}

type addrConn struct {
	*net.TCPConn
	ip net.IP
}

func (c addrConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.ip, Port: 25} }

// One /64 is one peer over all listeners; an exempt one is not counted out.
func TestOnePeerOverAllListeners(t *testing.T) {
	t.Parallel()
	addrs := make(chan string, 1)
	one, two := addrListener{loopback(t), addrs}, addrListener{loopback(t), addrs}
	srv := incomingtest.NewServer(t, incoming.Config{
		Limits:    incoming.Limits{ConnectionsPerIP: 2, Exempt: prefixes("2001:db8:ee::/48")},
		Listeners: []incoming.Listener{{Name: "one", Net: one}, {Name: "two", Net: two}}})
	for i, c := range []struct{ addr, reply string }{
		{"2001:db8:0:1::1", "220"},
		{"2001:db8:0:1::2", "220"},
		{"2001:db8:0:1:ffff::3", "421 4.7.0"},
		{"2001:db8:0:1::1", "421 4.7.0"},
		{"2001:db8:0:2::1", "220"},
		{"192.0.2.1", "220"},
		{"::ffff:192.0.2.1", "220"},
		{"192.0.2.1", "421 4.7.0"},
		{"192.0.2.2", "220"},
		{"2001:db8:ee::1", "220"},
		{"2001:db8:ee::1", "220"},
		{"2001:db8:ee::1", "220"},
	} {
		addrs <- c.addr
		ln := []net.Listener{one, two}[i%2]
		client := incomingtest.Dial(t, ln.Addr().String())
		client.Expect(c.reply)
		if c.reply != "220" {
			client.ExpectClosed()
		}
	}
	if n := srv.Status().Sessions; n != 9 {
		t.Errorf("%d sessions", n)
	}
}
