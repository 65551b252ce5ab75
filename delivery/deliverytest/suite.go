package deliverytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// patience is how long anything may take that must happen.
const patience = time.Minute

var errStorage = errors.New("the storage fails, as the test wants")

// suite is one test of one adapter.
type suite struct {
	testing.TB
	Place
	patience <-chan time.Time
}

func newSuite(t testing.TB, p Place) *suite {
	t.Helper()
	if p.Adapter == nil {
		t.Fatal("deliverytest: the Place has no Adapter")
	}
	timer := time.NewTimer(patience)
	t.Cleanup(func() { timer.Stop() })
	if c, ok := p.Adapter.(io.Closer); ok {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	return &suite{TB: t, Place: p, patience: timer.C}
}

// must delivers m, and wants it taken for all its recipients.
func (s *suite) must(m *queue.Message) {
	s.Helper()
	for rcpt, err := range delivery.Results(s.deliver(s.Context(), m), m.Envelope.Addresses()) {
		if err != nil {
			s.Fatalf("message %s was not delivered to %s: %v", m.ID, rcpt, err)
		}
	}
}

// arrived is what lies at the place; false when it cannot be looked at.
func (s *suite) arrived() ([]Copy, bool) {
	s.Helper()
	if s.Arrived == nil {
		return nil, false
	}
	copies, err := s.Arrived()
	if err != nil {
		s.Fatalf("Arrived: %v", err)
	}
	return copies, true
}

// lies wants each recipient to have a whole copy of text, and nobody else
// anything.
func (s *suite) lies(text *source, to ...string) {
	s.Helper()
	copies, can := s.arrived()
	if !can {
		return
	}
	s.whole(copies, text)
	if len(copies) == 0 {
		s.Fatal("nothing has arrived")
	}
	var got []string
	for _, c := range copies {
		if c.To == nil {
			return // it is not told
		}
		got = append(got, c.To...)
	}
	slices.Sort(got)
	got = slices.Compact(got)
	slices.Sort(to)
	if !slices.Equal(got, to) {
		s.Errorf("it arrived for %q, want %q", got, to)
	}
}

// whole wants every copy to be text, all of it.
func (s *suite) whole(copies []Copy, text *source) {
	s.Helper()
	want, err := Read(nil, io.NewSectionReader(text.ReaderAt, 0, text.size))
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range copies {
		if c.Size != want.Size || c.Sum != want.Sum {
			s.Errorf("what arrived is %v, and what was received %v", c, want)
		}
	}
}

// source is the text of a message, which knows how it is read.
type source struct {
	io.ReaderAt
	size int64
	// at is called when the octet at the middle is first asked for; its error
	// is the storage's.
	at func() error

	once sync.Once
	err  atomic.Pointer[error]
	open atomic.Int64 // readers that nobody has closed
}

func textOf(text string) *source {
	return &source{ReaderAt: bytes.NewReader([]byte(text)), size: int64(len(text))}
}

// long is a text of at least size octets, whose lines are all different.
func long(size int64) *source {
	return &source{ReaderAt: newPattern(), size: (size + lineLength - 1) / lineLength * lineLength}
}

// message makes the text a message.
func (t *source) message(e queue.Entry) *queue.Message {
	e.Size = t.size
	return queue.NewMessage(e, func() (queue.Raw, error) {
		t.open.Add(1)
		return &reading{source: t}, nil
	})
}

type reading struct {
	*source
	closed atomic.Bool
}

func (r *reading) ReadAt(p []byte, off int64) (int, error) {
	if middle := r.size / 2; r.at != nil && off+int64(len(p)) > middle {
		r.once.Do(func() {
			if err := r.at(); err != nil {
				r.err.Store(&err)
			}
		})
		if err := r.err.Load(); err != nil {
			return 0, *err
		}
	}
	return r.ReaderAt.ReadAt(p, off)
}

func (r *reading) Close() error {
	if !r.closed.Swap(true) {
		r.source.open.Add(-1)
	}
	return nil
}

// lineLength is the most that a line may have (RFC 5322 §2.1.1), its end included.
const lineLength = 1000

// pattern is a long text without its end: a header of one line, the empty one, then
// numbered lines. It takes no memory for them.
type pattern struct{ first, other string }

func newPattern() pattern {
	fill := strings.Repeat("long ", lineLength/5)
	first := "Subject: a long message\r\n\r\n"
	return pattern{first + fill[:lineLength-len(first)-2] + "\r\n", "0000000000 " + fill[:lineLength-13] + "\r\n"}
}

func (t pattern) ReadAt(p []byte, off int64) (int, error) {
	var line [lineLength]byte
	for i := 0; i < len(p); {
		n, from := (off+int64(i))/lineLength, (off+int64(i))%lineLength
		text := t.other
		if n == 0 {
			text = t.first
		}
		copy(line[:], text)
		for at := 9; n > 0; at-- {
			line[at] = byte('0' + n%10)
			n /= 10
		}
		i += copy(p[i:], line[from:])
	}
	return len(p), nil
}

// heap is the octets in use, rubbish not counted.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// retry wants a verdict after which the message comes again, for each of its
// recipients.
func (s *suite) retry(what string, verdict error, m *queue.Message) {
	s.Helper()
	for rcpt, err := range delivery.Results(verdict, m.Envelope.Addresses()) {
		if delivery.Final(err) {
			s.Errorf("%s: the verdict for %s is %v, want one that is tried again", what, rcpt, err)
		}
	}
}

// only wants a verdict to speak of those that are owed alone.
func (s *suite) only(verdict error, m *queue.Message) {
	s.Helper()
	var each *delivery.RecipientsError
	if !errors.As(verdict, &each) {
		return
	}
	for rcpt := range each.Results {
		if !slices.Contains(m.Envelope.Addresses(), rcpt) {
			s.Errorf("the verdict speaks of %s, who is not owed", rcpt)
		}
	}
}

// ended is a context that is over.
func ended(s *suite) context.Context {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	return ctx
}
