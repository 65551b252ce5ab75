package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/header"
)

// Message is one message as an adapter sees it. Its fields must not be
// changed. Its methods work until Deliver returns; from then on they, and
// readers still open, answer [ErrLeaseEnded], never other bytes.
type Message struct {
	ID       ID
	Envelope Envelope // the recipients still owed
	Origin

	// Settled is the recipients done by earlier attempts, or by this one.
	Settled []Outcome
	// Size is the octets that Open yields.
	Size int64
	// Attempt is 1 at the first delivery.
	Attempt int
	// RequeuedAt is when an operator last revived it from the dead letters:
	// its age counts from then. Zero: never.
	RequeuedAt time.Time
	// Facts is what policies learned; nil when nothing was.
	Facts Facts
	// Quarantine is why a policy marked the message; "" is unmarked.
	Quarantine string

	prepend []byte
	skip    []Range
	rawSize int64
	source  Source
	whole   *Message // what this was narrowed from; nil when it was not

	// mu is held for reading while a reader touches the storage, so that
	// Expire returns only when none does.
	mu      sync.RWMutex
	expired bool

	printing    sync.Mutex // held while fingerprint is made
	fingerprint string     // "" until it has been asked for
}

// Source opens the stored text of a message; each call a new handle.
type Source func() (Raw, error)

// Raw is the stored text of a message, opened.
type Raw interface {
	io.ReaderAt
	io.Closer
}

// NewMessage is for backends: it makes the Message of an entry, whose Attempts
// count those that have failed, reading its text from src.
func NewMessage(e Entry, src Source) *Message {
	m := &Message{
		ID:         e.ID,
		Envelope:   e.Envelope,
		Origin:     e.Origin,
		Settled:    e.Settled,
		Attempt:    e.Attempts + 1,
		RequeuedAt: e.RequeuedAt,
		Facts:      e.Facts,
		Quarantine: e.Quarantine,
		prepend:    e.Prepend,
		skip:       e.Skip,
		rawSize:    e.Size,
		source:     src,
	}
	m.Size = int64(len(e.Prepend)) + e.Size
	for _, r := range e.Skip {
		m.Size -= r.End - r.Start
	}
	return m
}

// Expire is for backends: it ends the message's readers, those open and those
// to come. It waits for a read in progress.
func (m *Message) Expire() {
	m.mu.Lock()
	m.expired = true
	m.mu.Unlock()
}

// Open reads the message: the fields prepended at reception, then the text
// without the octets that policies removed. The caller closes the reader. Each
// call reads from the start by a handle of its own.
func (m *Message) Open() (io.ReadSeekCloser, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.expired {
		return nil, fmt.Errorf("message %s: %w", m.ID, ErrLeaseEnded)
	}
	raw, err := m.source()
	if err != nil {
		return nil, fmt.Errorf("message %s: open: %w", m.ID, err)
	}
	return &reader{msg: m, raw: raw, parts: m.parts()}, nil
}

// Header reads the message's header fields. A message without any has an empty
// Header; the error is the storage's.
func (m *Message) Header() (header.Header, error) {
	r, err := m.Open()
	if err != nil {
		return header.Header{}, err
	}
	defer r.Close()
	return header.Read(r)
}

// Narrow is the same message with the recipients to in place of those owed, for an
// adapter that hands it to several others. It can be read as long as m can.
func (m *Message) Narrow(to []Recipient) *Message {
	n := &Message{
		ID: m.ID, Envelope: m.Envelope, Origin: m.Origin, Settled: m.Settled, Size: m.Size, Attempt: m.Attempt,
		RequeuedAt: m.RequeuedAt, Facts: m.Facts, Quarantine: m.Quarantine,
		prepend: m.prepend, skip: m.skip, rawSize: m.rawSize, source: m.raw, whole: m,
	}
	n.Envelope.RcptTo = to
	return n
}

// raw opens the stored text for a narrowed message.
func (m *Message) raw() (Raw, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.expired {
		return nil, ErrLeaseEnded
	}
	raw, err := m.source()
	if err != nil {
		return nil, err
	}
	return &lent{raw, m}, nil
}

// lent is the stored text of a message, opened for a narrowed one.
type lent struct {
	Raw
	of *Message
}

func (l *lent) ReadAt(p []byte, off int64) (int, error) {
	l.of.mu.RLock()
	defer l.of.mu.RUnlock()
	if l.of.expired {
		return 0, ErrLeaseEnded
	}
	return l.Raw.ReadAt(p, off)
}

// part is a run of octets of the message: of the prepended fields, or of the
// stored text.
type part struct {
	at      int64 // where it begins in what Open yields
	n       int64
	from    int64 // where it begins in its source
	prepend bool
}

func (m *Message) parts() []part {
	var ps []part
	var at int64
	add := func(from, n int64, prepend bool) {
		if n > 0 {
			ps = append(ps, part{at: at, n: n, from: from, prepend: prepend})
			at += n
		}
	}
	add(0, int64(len(m.prepend)), true)
	var pos int64
	for _, r := range m.skip {
		add(pos, r.Start-pos, false)
		pos = r.End
	}
	add(pos, m.rawSize-pos, false)
	return ps
}

// reader yields the parts one after the other.
type reader struct {
	msg    *Message
	raw    Raw
	parts  []part
	pos    int64
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.msg.mu.RLock()
	defer r.msg.mu.RUnlock()
	if r.closed {
		return 0, errors.New("queue: read of a closed message")
	}
	if r.msg.expired {
		return 0, fmt.Errorf("message %s: %w", r.msg.ID, ErrLeaseEnded)
	}
	for _, pt := range r.parts {
		off := r.pos - pt.at
		if off >= pt.n {
			continue
		}
		p = p[:min(int64(len(p)), pt.n-off)]
		var n int
		var err error
		if pt.prepend {
			n, err = bytes.NewReader(r.msg.prepend).ReadAt(p, off)
		} else {
			n, err = r.raw.ReadAt(p, pt.from+off)
		}
		r.pos += int64(n)
		if n == len(p) {
			return n, nil
		}
		if err == io.EOF || err == nil {
			err = io.ErrUnexpectedEOF // the storage holds less than it promised
		}
		return n, fmt.Errorf("message %s: read: %w", r.msg.ID, err)
	}
	return 0, io.EOF
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.msg.Size
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("message %s: seek to a negative offset", r.msg.ID)
	}
	r.pos = offset
	return offset, nil
}

func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.raw.Close()
}
