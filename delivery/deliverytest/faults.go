package deliverytest

import (
	"context"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// half is enough that what breaks off in the middle has begun to arrive.
const half = 1 << 20

// faults are what may break off a delivery. None of them is a reason to reject, a
// yes must be true, and nothing may arrive in part.
var faults = []check{
	{"a delivery that is over before it begins is tried again", func(s *suite) {
		text := textOf(short)
		m := text.message(entry("01JLATE", "a@y.example"))
		s.broken("cancelled before", s.deliver(ended(s), m), m, text)
		s.again(m, text)
	}},
	{"a delivery that is cancelled in the middle is tried again", func(s *suite) {
		ctx, cancel := context.WithCancel(s.Context())
		defer cancel()
		text := long(2 * half)
		text.at = func() error {
			cancel()
			return nil
		}
		m := text.message(entry("01JHALF", "a@y.example", "b@y.example"))
		s.broken("cancelled in the middle", s.deliver(ctx, m), m, text)
		s.again(m, text)
	}},
	{"storage that fails in the middle is tried again", func(s *suite) {
		text := long(2 * half)
		text.at = func() error { return errStorage }
		m := text.message(entry("01JDISK", "a@y.example", "b@y.example"))
		verdict := s.deliver(s.Context(), m)
		text.at = nil
		s.broken("the storage failed", verdict, m, text)
		text.err.Store(nil)
		s.again(m, text)
	}},
	{"a message that is taken away in the middle is tried again", func(s *suite) {
		text := long(2 * half)
		var m *queue.Message
		text.at = func() error {
			go m.Expire() // it waits for the reading that this is
			return nil
		}
		m = text.message(entry("01JGONE", "a@y.example"))
		s.broken("taken away", s.deliver(s.Context(), m), m, text)
		text.at = nil
		s.again(text.message(entry("01JGONE", "a@y.example")), text)
	}},
}

// broken wants the verdict of a delivery that was broken off to be a retry, or a
// yes that is true, and nothing to have arrived but what is whole.
func (s *suite) broken(what string, verdict error, m *queue.Message, text *source) {
	s.Helper()
	s.only(verdict, m)
	copies, can := s.arrived()
	s.whole(copies, text)
	for rcpt, err := range delivery.Results(verdict, m.Envelope.Addresses()) {
		switch {
		case err == nil && can && len(copies) == 0:
			s.Errorf("%s: %s is said to be delivered, and nothing has arrived", what, rcpt)
		case err != nil && delivery.Final(err):
			s.Errorf("%s: the verdict for %s is %v, want one that is tried again", what, rcpt, err)
		}
	}
	if n := text.open.Load(); n != 0 {
		s.Errorf("%s: Deliver returned with %d of its readers open", what, n)
	}
}

// again wants the next attempt to deliver.
func (s *suite) again(m *queue.Message, text *source) {
	s.Helper()
	text.at = nil
	m.Attempt++
	s.must(m)
	s.lies(text, m.Envelope.Addresses()...)
}
