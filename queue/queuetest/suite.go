package queuetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

const (
	// patience is how long anything may take that must happen.
	patience = time.Minute
	// quiet is how long nothing must happen where nothing may.
	quiet = 60 * time.Millisecond
	// soon is a wait that a test can afford.
	soon = 200 * time.Millisecond
)

var errTest = errors.New("as the test wants")

// plain is the text of a message whose text does not matter.
const plain = "Subject: x\r\n\r\nbody\r\n"

// suite is one test of one queue. Its helpers end the test when the queue does
// not do what is asked of it.
type suite struct {
	*testing.T
	q      queue.Queue
	ctx    context.Context
	reopen func() // closes the queue and opens what it kept
}

func (s *suite) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *suite) mustBe(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func to(addresses ...string) queue.Envelope {
	env := queue.Envelope{MailFrom: "from@x.example"}
	for _, a := range addresses {
		env.RcptTo = append(env.RcptTo, queue.Recipient{Address: a})
	}
	return env
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func (s *suite) begin() queue.Draft {
	s.Helper()
	d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: now()})
	s.must("Begin", err)
	return d
}

func (s *suite) write(d queue.Draft, text string) {
	s.Helper()
	if n, err := io.WriteString(d, text); n != len(text) || err != nil {
		s.Fatalf("Write of %d octets: %d, %v", len(text), n, err)
	}
}

// put commits a message.
func (s *suite) put(text string) queue.ID {
	s.Helper()
	return s.putAs(to("to@y.example"), queue.Origin{ReceivedAt: now()}, text, queue.Final{})
}

func (s *suite) putAt(at time.Time) queue.ID {
	s.Helper()
	return s.putAs(to("to@y.example"), queue.Origin{ReceivedAt: at}, plain, queue.Final{})
}

func (s *suite) putAs(env queue.Envelope, o queue.Origin, text string, f queue.Final) queue.ID {
	s.Helper()
	d, err := s.q.Begin(s.ctx, env, o)
	s.must("Begin", err)
	s.write(d, text)
	m, err := d.Commit(s.ctx, f)
	s.must("Commit", err)
	if m.ID != d.ID() || m.ID == "" {
		s.Fatalf("Commit says ID %q, the draft %q", m.ID, d.ID())
	}
	return m.ID
}

// lease takes the next message.
func (s *suite) lease() queue.Lease {
	s.Helper()
	l, err := s.q.Lease(s.ctx)
	s.must("Lease", err)
	if first := l.Message(); first == nil || first != l.Message() {
		s.Fatal("Message is not the same pointer at each call")
	}
	return l
}

// leaseOf takes the next message, which must be id.
func (s *suite) leaseOf(id queue.ID) queue.Lease {
	s.Helper()
	l := s.lease()
	if l.Message().ID != id {
		s.Fatalf("leased %s, want %s", l.Message().ID, id)
	}
	return l
}

// leaseLater leases on another goroutine; the channel yields nil when that
// failed. Nothing tells when a Lease has begun to wait, so it is given a moment:
// without it a test would be less sharp, never wrong.
func (s *suite) leaseLater() <-chan queue.Lease {
	got := make(chan queue.Lease, 1)
	go func() {
		l, err := s.q.Lease(s.ctx)
		if err != nil {
			s.Errorf("Lease: %v", err)
			l = nil
		}
		got <- l
	}()
	<-time.After(quiet)
	return got
}

// wokenFor checks that a leaseLater got id.
func (s *suite) wokenFor(id queue.ID, got <-chan queue.Lease) queue.Lease {
	s.Helper()
	l := <-got
	if l == nil || l.Message().ID != id {
		s.Fatalf("a waiting Lease did not get %s", id)
	}
	return l
}

// nothing checks that no message is offered.
func (s *suite) nothing(why string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, quiet)
	defer cancel()
	l, err := s.q.Lease(ctx)
	if err == nil {
		s.Fatalf("%s: %s was offered", why, l.Message().ID)
	}
	s.mustBe(why+": Lease", err, context.DeadlineExceeded)
}

func (s *suite) read(open func() (io.ReadCloser, error)) string {
	s.Helper()
	r, err := open()
	s.must("Open", err)
	text, err := io.ReadAll(r)
	s.must("read", err)
	s.must("close of a reader", r.Close())
	return string(text)
}

func (s *suite) text(m *queue.Message) string {
	s.Helper()
	text := s.read(func() (io.ReadCloser, error) { return m.Open() })
	if int64(len(text)) != m.Size {
		s.Errorf("Size is %d of a message that reads %d octets", m.Size, len(text))
	}
	return text
}

func (s *suite) sameText(what, got, want string) {
	s.Helper()
	if got != want {
		s.Fatalf("%s: %d octets, %.200q\nwant %d, %.200q", what, len(got), got, len(want), want)
	}
}

// depth checks the counts, the oldest aside.
func (s *suite) depth(when string, want queue.Depth) {
	s.Helper()
	got := s.q.Depth()
	got.Oldest = time.Time{}
	if got != want {
		s.Fatalf("%s: Depth is %+v, want %+v", when, got, want)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// inspector is the queue's; without one the test is skipped.
func (s *suite) inspector() queue.Inspector {
	s.Helper()
	in, ok := s.q.(queue.Inspector)
	if !ok {
		s.Skip("the queue is no Inspector")
	}
	return in
}

func (s *suite) get(id queue.ID) queue.Entry {
	s.Helper()
	e, err := s.inspector().Get(s.ctx, id)
	s.must("Get", err)
	return e
}

func (s *suite) list(f queue.Filter) []queue.ID {
	s.Helper()
	var ids []queue.ID
	for e, err := range s.inspector().List(s.ctx, f) {
		s.must("List", err)
		ids = append(ids, e.ID)
	}
	return ids
}

func compact(f queue.Facts) map[string]string {
	out := map[string]string{}
	for k, v := range f {
		var b bytes.Buffer
		if err := json.Compact(&b, v); err != nil {
			out[k] = fmt.Sprintf("no JSON: %v", err)
			continue
		}
		out[k] = b.String()
	}
	return out
}
