// Package incomingtest helps to test software that receives mail with
// Incoming: [NewServer] runs a server on a free loopback port that keeps
// messages in memory, [Server.Next] waits for what arrived, and [Dial] is a
// client that says what a test tells it to, for dialogues that no mail library
// would hold.
//
//	srv := incomingtest.NewServer(t, incoming.Config{Policies: mine})
//	srv.Send("a@example.net", []string{"b@example.org"}, "Subject: hello\r\n\r\nHello\r\n")
//	m := srv.Next(t)
//
// [Server.Faulty] and [Server.Fill] make a way to it slow or break off, and its
// queue full. [Message] is a message from a file, for what needs no server.
//
// Every wait is bounded, and everything ends with the test.
package incomingtest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// Wait is how long Next, Expect and the others wait before they fail the test.
const Wait = 30 * time.Second

// Received is one message as the server's adapter was given it.
type Received struct {
	ID       queue.ID
	Envelope incoming.Envelope
	queue.Origin
	Attempt    int
	Facts      queue.Facts
	Quarantine string
	Header     header.Header // of Raw
	Raw        []byte        // the whole message, Received on top
}

// Server is a server for one test.
type Server struct {
	*incoming.Server
	// Addr is where the first listener listens, host:port.
	Addr string

	t    testing.TB
	got  chan *Received
	stop func() error
	own  *fillable // nil: cfg.Queue was given
}

// NewServer starts a server for t and ends it with t. What cfg does not say is
// chosen for tests: one listener on a free port of 127.0.0.1, the hostname
// mx.test, a memqueue. Each delivery is kept for Next, then given to
// cfg.Adapter; without one it is done.
func NewServer(t testing.TB, cfg incoming.Config) *Server {
	t.Helper()
	s := &Server{t: t, got: make(chan *Received, 10_000)}
	if cfg.Queue == nil {
		s.own = &fillable{Queue: memqueue.New(nil)}
		cfg.Queue = s.own
	}
	if cfg.Listeners == nil {
		cfg.Listeners = []incoming.Listener{{Name: "test", Address: "127.0.0.1:0"}}
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.test"
	}
	cfg.Adapter = s.keep(cfg.Adapter)
	var err error
	if s.Server, err = incoming.New(cfg); err != nil {
		t.Fatalf("incomingtest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- s.Server.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ran
		if s.own != nil {
			err = errors.Join(err, s.own.Close())
		}
		return err
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("incomingtest: the server ended with: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ran:
		ran <- err
		t.Fatalf("incomingtest: %v", err)
	}
	s.Addr = s.Server.Addr("").String()
	return s
}

// Stop drains the server, as the end of Run's context does, and returns what Run
// returned. The end of the test does it otherwise.
func (s *Server) Stop() error { return s.stop() }

// keep is an adapter that keeps a copy of each message before it gives it on.
func (s *Server) keep(next incoming.Adapter) incoming.Adapter {
	return front{incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
		r, err := receive(m)
		if err != nil {
			return err
		}
		select {
		case s.got <- r:
		default:
			return errors.New("incomingtest: too many messages that no Next has asked for")
		}
		if next == nil {
			return nil
		}
		return next.Deliver(ctx, m)
	}), next}
}

// front is an adapter that stands in front of another.
type front struct {
	incoming.Adapter
	next incoming.Adapter
}

// Unwrap is what delivery.Find looks behind.
func (f front) Unwrap() incoming.Adapter { return f.next }

func receive(m *incoming.Message) (*Received, error) {
	text, err := m.Open()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(text)
	if err = errors.Join(err, text.Close()); err != nil {
		return nil, err
	}
	return &Received{ID: m.ID, Envelope: m.Envelope, Origin: m.Origin, Attempt: m.Attempt, Facts: m.Facts,
		Quarantine: m.Quarantine, Header: header.Parse(raw), Raw: raw}, nil
}

// Next is the next delivery. It waits for one, and fails t, the test that wants it, when
// none comes.
func (s *Server) Next(t testing.TB) *Received {
	t.Helper()
	timeout := time.NewTimer(Wait)
	defer timeout.Stop()
	select {
	case r := <-s.got:
		return r
	case <-timeout.C:
		t.Fatalf("incomingtest: no message in %v", Wait)
		return nil
	}
}

// None fails the test when a delivery waits for Next, or a message stays in the
// queue. It gives those that Next returned the time to leave it.
func (s *Server) None() {
	s.t.Helper()
	timeout := time.NewTimer(Wait)
	defer timeout.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		d := s.Status().Queue
		select {
		case r := <-s.got:
			s.t.Errorf("incomingtest: a message that should not be: %s from <%s>:\n%s", r.ID, r.Envelope.MailFrom, r.Raw)
			return
		default:
		}
		if d.Live() == 0 {
			return
		}
		select {
		case <-look.C:
		case <-timeout.C:
			s.t.Errorf("incomingtest: the queue is not empty: %+v", d)
			return
		}
	}
}

// Dial is Dial to this server.
func (s *Server) Dial() *Client {
	s.t.Helper()
	return Dial(s.t, s.Addr)
}

// Send sends one message, with line ends as they are, and fails the test when it
// is not accepted. It returns the receipt, such as "Ok: queued as 01J…".
func (s *Server) Send(from string, to []string, text string) string {
	s.t.Helper()
	c := s.Dial()
	defer c.Close()
	c.Expect("220")
	c.Send("EHLO client.test").Expect("250")
	c.Send("MAIL FROM:<" + from + ">").Expect("250")
	for _, rcpt := range to {
		c.Send("RCPT TO:<" + rcpt + ">").Expect("250")
	}
	c.Send("DATA").Expect("354")
	receipt := c.Text(text).Expect("250 2.0.0 ")
	c.Send("QUIT").Expect("221")
	return receipt
}
