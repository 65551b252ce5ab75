package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

type stored struct{ io.ReaderAt }

func (stored) Close() error { return nil }

func textMessage(e Entry, text string) *Message {
	e.Size = int64(len(text))
	return NewMessage(e, func() (Raw, error) { return stored{strings.NewReader(text)}, nil })
}

func TestAFingerprintIsOfWhatTheSenderSent(t *testing.T) {
	t.Parallel()
	to := func(addresses ...string) (rs []Recipient) {
		for _, a := range addresses {
			rs = append(rs, Recipient{Address: a})
		}
		return rs
	}
	const text = "X-Forged: 1\r\nSubject: x\r\n\r\nbody\r\n"
	first := textMessage(Entry{ID: "1", Envelope: Envelope{MailFrom: "a@x", RcptTo: to("c@y", "b@y")}}, text)
	sum := sha256.Sum256([]byte("a@x\nb@y\nc@y\n\n" + text))
	want := hex.EncodeToString(sum[:])
	narrowed := first.Narrow(first.Envelope.RcptTo[:1])
	for name, m := range map[string]*Message{
		"the message": first,
		"sent again": textMessage(Entry{ID: "2", Attempts: 3, Envelope: Envelope{MailFrom: "a@x", RcptTo: to("b@y", "c@y"), Body: "8BITMIME"},
			Prepend: []byte("Received: now\r\n"), Skip: []Range{{0, 13}}}, text),
		"one settled":    textMessage(Entry{ID: "1", Envelope: Envelope{MailFrom: "a@x", RcptTo: to("b@y")}, Settled: []Outcome{{Recipient: "c@y"}}}, text),
		"narrowed":       narrowed,
		"narrowed twice": narrowed.Narrow(nil),
	} {
		if got, err := m.Fingerprint(); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
	}
	for name, m := range map[string]*Message{
		"another sender":    textMessage(Entry{Envelope: Envelope{MailFrom: "", RcptTo: to("b@y", "c@y")}}, text),
		"another recipient": textMessage(Entry{Envelope: Envelope{MailFrom: "a@x", RcptTo: to("b@y")}}, text),
		"another text":      textMessage(Entry{Envelope: Envelope{MailFrom: "a@x", RcptTo: to("b@y", "c@y")}}, text+"\r\n"),
	} {
		if got, err := m.Fingerprint(); err != nil || got == want {
			t.Errorf("%s: %s, %v, want another than that", name, got, err)
		}
	}
}

func TestAFingerprintIsNotOfLessThanTheMessage(t *testing.T) {
	t.Parallel()
	m := NewMessage(Entry{ID: "1", Size: 100}, func() (Raw, error) { return stored{strings.NewReader("short")}, nil })
	if got, err := m.Fingerprint(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%s, %v", got, err)
	}
	m.Expire()
	if _, err := m.Fingerprint(); !errors.Is(err, ErrLeaseEnded) {
		t.Errorf("after the lease: %v", err)
	}
}

// Several adapters may ask for it in one attempt, and each for several recipients.
func TestAFingerprintIsMadeOnceForAMessage(t *testing.T) {
	t.Parallel()
	opened := 0
	m := NewMessage(Entry{ID: "1", Size: 4}, func() (Raw, error) {
		if opened++; opened == 1 {
			return nil, errors.New("not now")
		}
		return stored{strings.NewReader("text")}, nil
	})
	if got, err := m.Fingerprint(); err == nil {
		t.Errorf("%s of what could not be read", got)
	}
	first, err := m.Fingerprint()
	for _, m := range []*Message{m, m.Narrow(nil), m.Narrow(nil).Narrow(nil)} {
		if got, err2 := m.Fingerprint(); got != first || err != nil || err2 != nil {
			t.Errorf("%s, %v, and then %s, %v", first, err, got, err2)
		}
	}
	if opened != 2 {
		t.Errorf("the text was opened %d times, want 2", opened)
	}
}
