package queue_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// raw is stored text that says when it was closed.
type raw struct {
	*bytes.Reader
	closed *int
}

func (r raw) Close() error { *r.closed++; return nil }

func message(text string, e queue.Entry) (*queue.Message, *int) {
	closed := new(int)
	e.Size = int64(len(text))
	return queue.NewMessage(e, func() (queue.Raw, error) {
		return raw{bytes.NewReader([]byte(text)), closed}, nil
	}), closed
}

func TestMessageReadsPrependedFieldsThenTextWithoutSkippedRanges(t *testing.T) {
	t.Parallel()
	const text = "A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody"
	for _, tc := range []struct {
		name    string
		prepend string
		skip    []queue.Range
		want    string
	}{
		{"as stored", "", nil, text},
		{"prepended", "R: 0\r\n", nil, "R: 0\r\n" + text},
		{"first skipped", "", []queue.Range{{Start: 0, End: 6}}, "B: 2\r\nC: 3\r\n\r\nbody"},
		{"two skipped", "R: 0\r\n", []queue.Range{{Start: 0, End: 6}, {Start: 12, End: 18}}, "R: 0\r\nB: 2\r\n\r\nbody"},
		{"neighbours skipped", "", []queue.Range{{Start: 0, End: 6}, {Start: 6, End: 12}}, "C: 3\r\n\r\nbody"},
		{"end skipped", "", []queue.Range{{Start: 18, End: 24}}, "A: 1\r\nB: 2\r\nC: 3\r\n"},
		{"all skipped", "R: 0\r\n", []queue.Range{{Start: 0, End: 24}}, "R: 0\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, _ := message(text, queue.Entry{Prepend: []byte(tc.prepend), Skip: tc.skip})
			if m.Size != int64(len(tc.want)) {
				t.Errorf("Size = %d, want %d", m.Size, len(tc.want))
			}
			r, err := m.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := iotest.TestReader(r, []byte(tc.want)); err != nil {
				t.Error(err)
			}
			for at := range len(tc.want) + 1 {
				if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || string(got) != tc.want[at:] {
					t.Fatalf("from %d: %q, %v; want %q", at, got, err, tc.want[at:])
				}
			}
		})
	}
}

func TestMessageEndsWithItsLease(t *testing.T) {
	t.Parallel()
	m, closed := message("A: 1\r\n\r\nbody", queue.Entry{ID: "X"})
	r, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	m.Expire()
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("Read = %d, %v", n, err)
	}
	if _, err := m.Open(); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("Open: %v", err)
	}
	if _, err := m.Header(); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("Header: %v", err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil || *closed != 1 {
		t.Errorf("Close: %v; the text was closed %d times", err, *closed)
	}
}

func TestStorageThatHoldsLessThanItPromisedIsAnError(t *testing.T) {
	t.Parallel()
	m := queue.NewMessage(queue.Entry{Size: 10}, func() (queue.Raw, error) {
		return raw{bytes.NewReader([]byte("short")), new(int)}, nil
	})
	r, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestMessageCountsAttemptsFromOne(t *testing.T) {
	t.Parallel()
	m, _ := message("", queue.Entry{Attempts: 2})
	if m.Attempt != 3 || m.Size != 0 {
		t.Errorf("Attempt %d, Size %d", m.Attempt, m.Size)
	}
	if h, err := m.Header(); err != nil || h.Len() != 0 {
		t.Errorf("Header of nothing: %d fields, %v", h.Len(), err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	seen := map[queue.ID]bool{}
	last := queue.NewID(now.Add(-time.Millisecond))
	for i := range 1000 {
		id := queue.NewID(now.Add(time.Duration(i) * time.Millisecond))
		if len(id) != 26 || id <= last || seen[id] {
			t.Fatalf("%q after %q", id, last)
		}
		seen[id], last = true, id
	}
}

func TestKindComesFromTheOutermostCause(t *testing.T) {
	t.Parallel()
	inner := &queue.Cause{Kind: queue.KindPanic, Err: io.EOF}
	outer := &queue.Cause{Kind: queue.KindSpent, Err: inner}
	if queue.KindOf(io.EOF) != queue.KindRejected || queue.KindOf(inner) != queue.KindPanic || queue.KindOf(outer) != queue.KindSpent {
		t.Error("KindOf is wrong")
	}
	if !errors.Is(outer, io.EOF) || outer.Error() != "EOF" {
		t.Error("a Cause hides its error")
	}
}

func TestFilterMatchesWhenEveryFieldSetDoes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	live := queue.Entry{
		ID: "A", State: queue.StateWaiting, LastError: "Connection refused",
		Envelope: queue.Envelope{MailFrom: "a@x.example", RcptTo: []queue.Recipient{{Address: "b@Y.example"}}},
		Settled:  []queue.Outcome{{Recipient: "c@z.example"}},
		Origin:   queue.Origin{ReceivedAt: now},
	}
	dead := live
	dead.State, dead.Dead = queue.StateDead, &queue.Dead{RejectedAt: now.Add(time.Hour), Reason: "No such user", Kind: queue.KindRejected}
	for _, tc := range []struct {
		name       string
		f          queue.Filter
		live, dead bool
	}{
		{"zero", queue.Filter{}, true, true},
		{"id", queue.Filter{IDs: []queue.ID{"B", "A"}}, true, true},
		{"other id", queue.Filter{IDs: []queue.ID{"B"}}, false, false},
		{"state", queue.Filter{States: []queue.State{queue.StateDead}}, false, true},
		{"from", queue.Filter{From: "A@X.example"}, true, true},
		{"from domain", queue.Filter{From: "@x.EXAMPLE"}, true, true},
		{"from part of a domain", queue.Filter{From: "@example"}, false, false},
		{"null sender", queue.Filter{From: "<>"}, false, false},
		{"rcpt", queue.Filter{Rcpt: "b@y.example"}, true, true},
		{"settled rcpt", queue.Filter{Rcpt: "@z.example"}, true, true},
		{"other rcpt", queue.Filter{Rcpt: "d@y.example"}, false, false},
		{"before the very time", queue.Filter{Before: now}, false, false},
		{"before a later time", queue.Filter{Before: now.Add(time.Minute)}, true, false},
		{"reason", queue.Filter{Reason: "refused"}, true, false},
		{"kind", queue.Filter{Reason: "REJECTED"}, false, true},
		{"one of two", queue.Filter{From: "a@x.example", Reason: "nothing"}, false, false},
	} {
		if got := tc.f.Match(live); got != tc.live {
			t.Errorf("%s: live %v", tc.name, got)
		}
		if got := tc.f.Match(dead); got != tc.dead {
			t.Errorf("%s: dead %v", tc.name, got)
		}
	}
	bounce := live
	bounce.Envelope.MailFrom = ""
	abroad := live
	abroad.Envelope = queue.Envelope{MailFrom: "grüße@bücher.example", RcptTo: []queue.Recipient{{Address: "b@xn--bcher-kva.example"}}}
	for _, f := range []queue.Filter{
		{From: "Grüße@xn--bcher-kva.example"}, {From: "gru\u0308ße@BÜCHER.example"}, {From: `"grüße"@bücher.example.`},
		{From: "@XN--BCHER-KVA.example"}, {Rcpt: "@bu\u0308cher.example"}, {Rcpt: "B@bücher.example"},
	} {
		if !f.Match(abroad) {
			t.Errorf("%+v does not match", f)
		}
	}
	if (queue.Filter{From: "@bucher.example"}).Match(abroad) {
		t.Error("a domain without its dots matches")
	}
	if !(queue.Filter{From: "<>"}).Match(bounce) {
		t.Error("<> does not match the null sender")
	}
}

func TestANarrowedMessageIsReadAsLongAsTheWholeOne(t *testing.T) {
	t.Parallel()
	m, closed := message("Subject: x\r\n\r\nbody", queue.Entry{ID: "m1", Attempts: 2, Prepend: []byte("R: 0\r\n"),
		Envelope: queue.Envelope{MailFrom: "s@x.example", RcptTo: []queue.Recipient{{Address: "a@x.example"}, {Address: "b@x.example"}}}})
	n := m.Narrow(m.Envelope.RcptTo[1:])
	if n.ID != m.ID || n.Attempt != 3 || n.Size != m.Size || len(m.Envelope.RcptTo) != 2 || len(n.Envelope.RcptTo) != 1 || n.Envelope.MailFrom != "s@x.example" {
		t.Errorf("narrowed to %+v", n.Envelope)
	}
	r, err := n.Open()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "R: 0\r\nSubject: x\r\n\r\nbody" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := r.Seek(6, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	m.Expire()
	if _, err := r.Read(make([]byte, 4)); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("a reader kept longer: %v", err)
	}
	if _, err := n.Open(); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("opened later: %v", err)
	}
	if err := r.Close(); err != nil || *closed != 1 {
		t.Errorf("closed %d times, %v", *closed, err)
	}
}
