package deliverytest

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// verdicts are about who is answered for, and how often.
var verdicts = []check{
	{"an ID that comes again is delivered again", func(s *suite) {
		text := textOf(short)
		e := entry("01JAGAIN", "a@y.example")
		s.must(text.message(e))
		e.Attempts = 1
		s.must(text.message(e))
		s.lies(text, "a@y.example")
		if copies, can := s.arrived(); can && s.Once && len(copies) != 1 {
			s.Errorf("an ID delivered twice lies there %d times", len(copies))
		}
	}},
	{"an ID that is given to two at once is delivered", func(s *suite) {
		text := textOf(short)
		var wg sync.WaitGroup
		for range 2 { // as when an attempt that was abandoned is overtaken
			wg.Go(func() { s.takes(text.message(entry("01JRACE", "a@y.example"))) })
		}
		wg.Wait()
		s.lies(text, "a@y.example")
	}},
	{"only those who are still owed are delivered to and answered for", func(s *suite) {
		text := textOf(short)
		e := entry("01JLESS", "a@y.example", "b@y.example")
		e.Settled = []queue.Outcome{{Recipient: "c@y.example"}}
		m := text.message(e)
		m = m.Narrow(m.Envelope.RcptTo[1:])
		verdict := s.deliver(s.Context(), m)
		s.only(verdict, m)
		for rcpt, err := range delivery.Results(verdict, m.Envelope.Addresses()) {
			if err != nil {
				s.Fatalf("it was not delivered to %s: %v", rcpt, err)
			}
		}
		s.lies(text, "b@y.example")
	}},
	{"many messages are delivered at once", func(s *suite) {
		text := textOf(short)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				s.takes(text.message(entry(queue.ID(fmt.Sprintf("01J%02d", i)), fmt.Sprintf("r%d@y.example", i))))
			})
		}
		wg.Wait()
		copies, can := s.arrived()
		s.whole(copies, text)
		if can && len(copies) != 16 {
			s.Errorf("of 16 messages %d have arrived", len(copies))
		}
	}},
	{"a message is not changed, and its readers are closed", func(s *suite) {
		text := textOf(short)
		e := entry("01JSAME", "a@y.example", "b@y.example")
		m := text.message(e)
		m.Envelope.RcptTo = slices.Clone(m.Envelope.RcptTo)
		s.must(m)
		if n := text.open.Load(); n != 0 {
			s.Errorf("Deliver returned with %d of its readers open", n)
		}
		if !reflect.DeepEqual(m.Envelope, e.Envelope) || m.ID != e.ID || !reflect.DeepEqual(m.Origin, e.Origin) {
			s.Errorf("the message was changed: %+v", m.Envelope)
		}
	}},
	{"an adapter that is closed takes nothing more, and can be closed twice", func(s *suite) {
		c, ok := s.Adapter.(io.Closer)
		if !ok {
			s.Skip("it has no Close")
		}
		s.must(textOf(short).message(entry("01JOPEN", "a@y.example")))
		for range 2 {
			if err := c.Close(); err != nil {
				s.Errorf("Close: %v", err)
			}
		}
		m := textOf(short).message(entry("01JSHUT", "a@y.example"))
		s.retry("after Close", s.deliver(s.Context(), m), m)
	}},
}

// takes is must for another goroutine than the test's.
func (s *suite) takes(m *queue.Message) {
	for rcpt, err := range delivery.Results(delivery.Call(s.Context(), s.Adapter, m), m.Envelope.Addresses()) {
		if err != nil {
			s.Errorf("message %s was not delivered to %s: %v", m.ID, rcpt, err)
		}
	}
}
