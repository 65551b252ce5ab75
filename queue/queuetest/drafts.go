package queuetest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// drafts is the contract of Draft: from Begin to Commit or Discard.
var drafts = []check{
	{"CommittedBytesComeBack", committedBytesComeBack},
	{"TwentyMegabytesComeBack", twentyMegabytesComeBack},
	{"WriteCopiesWhatItIsGiven", writeCopies},
	{"WhatIsKnownOfAMessageIsKept", everythingIsKept},
	{"PrependAndSkipShapeWhatIsRead", prependAndSkip},
	{"OpenReadsADraftFromItsStart", openDraft},
	{"AnUncommittedDraftIsNotOffered", uncommittedIsNotOffered},
	{"DiscardDropsADraft", discardDrops},
	{"DiscardAfterCommitDoesNothing", discardAfterCommit},
	{"ADraftCommitsOnce", draftCommitsOnce},
	{"CommitIsFinishedThoughItsContextEnded", commitIgnoresContext},
	{"CommitLeasedCannotBeTakenByAWorker", commitLeasedIsExclusive},
	{"IDsDiffer", idsDiffer},
}

// oddTexts is messages that a store may be tempted to change.
var oddTexts = map[string]string{
	"empty":             "",
	"no header":         "just text\r\n",
	"no end of line":    "Subject: x\r\n\r\nbody",
	"header only":       "Subject: x\r\n",
	"empty line only":   "\r\n",
	"eight bits":        "Subject: \xe9\xff\xfe\r\n\r\n\x80\x00\xff\r\n",
	"bare line ends":    "A: 1\nB: 2\rC: 3\r\n\r\nx\ny\rz",
	"dots":              ".\r\n..\r\n.\r\n",
	"every octet":       everyOctet(),
	"no line end, long": strings.Repeat("x", 100_000),
}

func everyOctet() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return strings.Repeat(string(b), 20)
}

func committedBytesComeBack(s *suite) {
	want := map[queue.ID]string{}
	for _, text := range oddTexts {
		want[s.put(text)] = text
	}
	for range oddTexts {
		l := s.lease()
		s.sameText("what was leased", s.text(l.Message()), want[l.Message().ID])
		if _, err := l.Message().Header(); err != nil {
			s.Errorf("Header: %v", err)
		}
		s.must("Ack", l.Ack(s.ctx))
	}
	s.nothing("all were acked")
}

func twentyMegabytesComeBack(s *suite) {
	const size = 20 << 20
	seed := [32]byte{1}
	d := s.begin()
	if n, err := io.CopyN(d, rand.NewChaCha8(seed), size); n != size || err != nil {
		s.Fatalf("Write: %d, %v", n, err)
	}
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)

	want, got := sha256.New(), sha256.New()
	if _, err := io.CopyN(want, rand.NewChaCha8(seed), size); err != nil {
		s.Fatal(err)
	}
	l := s.lease()
	r, err := l.Message().Open()
	s.must("Open", err)
	n, err := io.Copy(got, r)
	if n != size || err != nil || string(got.Sum(nil)) != string(want.Sum(nil)) {
		s.Errorf("%d octets came back, %v, or others than were written", n, err)
	}
	s.must("close of a reader", r.Close())
	s.must("Ack", l.Ack(s.ctx))
}

func writeCopies(s *suite) {
	d := s.begin()
	buf := []byte("one ")
	for _, word := range []string{"one ", "two ", "six "} {
		copy(buf, word)
		s.write(d, string(buf))
		if _, err := d.Write(buf); err != nil {
			s.Fatal(err)
		}
		clear(buf)
	}
	if n, err := d.Write(nil); n != 0 || err != nil {
		s.Errorf("Write of nothing: %d, %v", n, err)
	}
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	s.sameText("the message", s.text(s.lease().Message()), "one one two two six six ")
}

// full is a message of which everything is known.
func full() (queue.Envelope, queue.Origin, queue.Final) {
	env := queue.Envelope{
		MailFrom: "\"odd local\"@x.example",
		RcptTo: []queue.Recipient{
			{Address: "b@y.example", Notify: "SUCCESS,FAILURE", ORcpt: "rfc822;b@old.example"},
			{Address: "a@y.example"},
			{Address: "ü@y.example", Notify: "NEVER"},
		},
		SMTPUTF8: true, Body: "8BITMIME", Ret: "HDRS", EnvID: "env=1 +x",
	}
	o := queue.Origin{
		ReceivedAt: time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC),
		Listener:   "mx", Peer: "192.0.2.1:4711", Hello: "client.example",
		TLS: &queue.TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.example"},
	}
	f := queue.Final{
		Facts: queue.Facts{
			"spf.result": json.RawMessage(`"pass"`),
			"other.list": json.RawMessage(`[1,{"a":null}]`),
		},
		Quarantine: "looks odd",
	}
	return env, o, f
}

func (s *suite) checkFull(where string, m *queue.Message) {
	s.Helper()
	env, o, f := full()
	s.equal(where+": Envelope", m.Envelope, env)
	s.equal(where+": Origin", m.Origin, o)
	s.equal(where+": Facts", compact(m.Facts), compact(f.Facts))
	s.equal(where+": Quarantine", m.Quarantine, f.Quarantine)
}

func everythingIsKept(s *suite) {
	env, o, f := full()
	// Finer than is kept, and not in UTC.
	given := o
	given.ReceivedAt = o.ReceivedAt.Add(123_456 * time.Nanosecond).In(time.FixedZone("x", 3600))
	d, err := s.q.Begin(s.ctx, env, given)
	s.must("Begin", err)
	s.write(d, plain)
	m, err := d.Commit(s.ctx, f)
	s.must("Commit", err)
	s.checkFull("of Commit", m)
	if m.Size != int64(len(plain)) {
		s.Errorf("Commit says Size %d, want %d", m.Size, len(plain))
	}
	if _, err := m.Open(); err == nil {
		s.Error("the Message of Commit opens")
	} else {
		s.mustBe("Open of the Message of Commit", err, queue.ErrLeaseEnded)
	}

	l := s.lease()
	s.checkFull("of Lease", l.Message())
	if m := l.Message(); m.Attempt != 1 || len(m.Settled) != 0 || !m.RequeuedAt.IsZero() {
		s.Errorf("at the first lease: Attempt %d, Settled %v, RequeuedAt %v", m.Attempt, m.Settled, m.RequeuedAt)
	}
	s.must("Ack", l.Ack(s.ctx))

	// The null sender, no TLS, no facts.
	s.putAs(queue.Envelope{RcptTo: env.RcptTo[:1]}, queue.Origin{ReceivedAt: o.ReceivedAt}, plain, queue.Final{})
	got := s.lease().Message()
	if got.Envelope.MailFrom != "" || got.TLS != nil || len(got.Facts) != 0 || got.Quarantine != "" {
		s.Errorf("of a message of which little is known: %+v, %+v, %v, %q", got.Envelope, got.Origin, got.Facts, got.Quarantine)
	}
}

func prependAndSkip(s *suite) {
	const text = "A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody"
	id := s.putAs(to("to@y.example"), queue.Origin{ReceivedAt: now()}, text, queue.Final{
		Prepend: []byte("Received: x\r\n"),
		Skip:    []queue.Range{{Start: 0, End: 6}, {Start: 12, End: 18}},
	})
	const want = "Received: x\r\nB: 2\r\n\r\nbody"
	for attempt := 1; attempt <= 2; attempt++ {
		l := s.leaseOf(id)
		s.sameText("the message", s.text(l.Message()), want)
		r, err := l.Message().Open()
		s.must("Open", err)
		for _, at := range []int64{int64(len(want)), 13, 0, 5, 20} {
			if pos, err := r.Seek(at, io.SeekStart); pos != at || err != nil {
				s.Fatalf("Seek to %d: %d, %v", at, pos, err)
			}
			rest, err := io.ReadAll(r)
			s.must("read", err)
			s.sameText("from a Seek", string(rest), want[at:])
		}
		if pos, err := r.Seek(-4, io.SeekEnd); pos != int64(len(want)-4) || err != nil {
			s.Errorf("Seek from the end: %d, %v", pos, err)
		}
		s.must("close of a reader", r.Close())
		h, err := l.Message().Header()
		s.must("Header", err)
		s.equal("header fields", []string{h.Get("Received"), h.Get("A"), h.Get("B"), h.Get("C")}, []string{"x", "", "2", ""})
		s.must("Retry", l.Retry(s.ctx, time.Now(), errTest))
	}
	if in, ok := s.q.(queue.Inspector); ok {
		s.sameText("Inspector.Open", s.read(func() (io.ReadCloser, error) { return in.Open(s.ctx, id) }), want)
		s.sameText("Entry.Prepend", string(s.get(id).Prepend), "Received: x\r\n")
		if e := s.get(id); e.Size != int64(len(text)) {
			s.Errorf("Entry.Size %d is not that of the stored text, %d", e.Size, len(text))
		}
	}
}

func openDraft(s *suite) {
	d := s.begin()
	s.sameText("an empty draft", s.read(d.Open), "")
	s.write(d, "Subject: x\r\n\r\n")
	s.sameText("a header", s.read(d.Open), "Subject: x\r\n\r\n")
	s.write(d, "body")
	s.sameText("all", s.read(d.Open), "Subject: x\r\n\r\nbody")
	s.sameText("all again", s.read(d.Open), "Subject: x\r\n\r\nbody")
	big := strings.Repeat("0123456789abcdef", 1<<16)
	s.write(d, big)
	s.sameText("a large one", s.read(d.Open), "Subject: x\r\n\r\nbody"+big)
	_, err := d.Commit(s.ctx, queue.Final{Prepend: []byte("R: 0\r\n")})
	s.must("Commit", err)
	s.sameText("the message", s.text(s.lease().Message()), "R: 0\r\nSubject: x\r\n\r\nbody"+big)
}

func uncommittedIsNotOffered(s *suite) {
	d := s.begin()
	s.write(d, plain)
	s.nothing("a draft")
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	s.leaseOf(d.ID())
}

func discardDrops(s *suite) {
	d := s.begin()
	s.write(d, plain)
	s.must("Discard", d.Discard())
	s.must("a second Discard", d.Discard())
	s.depth("after Discard", queue.Depth{})
	if _, err := d.Commit(s.ctx, queue.Final{}); err == nil {
		s.Error("a discarded draft was committed")
	}
	if _, err := d.Write([]byte("x")); err == nil {
		s.Error("a discarded draft takes text")
	}
	s.nothing("a discarded draft")
}

func discardAfterCommit(s *suite) {
	d := s.begin()
	s.write(d, plain)
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	s.must("Discard after Commit", d.Discard())
	s.depth("after Discard after Commit", queue.Depth{Ready: 1})
	l := s.leaseOf(d.ID())
	s.must("Discard while leased", d.Discard())
	s.sameText("the message", s.text(l.Message()), plain)

	d = s.begin()
	s.write(d, plain)
	l, err = d.CommitLeased(s.ctx, queue.Final{})
	s.must("CommitLeased", err)
	s.must("Discard after CommitLeased", d.Discard())
	s.sameText("the message", s.text(l.Message()), plain)
}

func draftCommitsOnce(s *suite) {
	d := s.begin()
	s.write(d, plain)
	_, err := d.Commit(s.ctx, queue.Final{})
	s.must("Commit", err)
	if _, err := d.Commit(s.ctx, queue.Final{}); err == nil {
		s.Error("a second Commit succeeded")
	}
	if _, err := d.CommitLeased(s.ctx, queue.Final{}); err == nil {
		s.Error("CommitLeased after Commit succeeded")
	}
	if _, err := d.Write([]byte("x")); err == nil {
		s.Error("a committed draft takes text")
	}
	s.depth("after a second Commit", queue.Depth{Ready: 1})
	l := s.leaseOf(d.ID())
	s.sameText("the message", s.text(l.Message()), plain)
	s.must("Ack", l.Ack(s.ctx))
	s.nothing("committed once, acked")
}

func commitIgnoresContext(s *suite) {
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	d := s.begin()
	s.write(d, plain)
	_, err := d.Commit(over, queue.Final{})
	s.must("Commit with a context that ended", err)
	s.must("Ack", s.leaseOf(d.ID()).Ack(s.ctx))
	d = s.begin()
	l, err := d.CommitLeased(over, queue.Final{})
	s.must("CommitLeased with a context that ended", err)
	s.must("Ack", l.Ack(s.ctx))
}

func commitLeasedIsExclusive(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	taken := make(chan queue.ID, 100)
	over := make(chan struct{})
	const workers = 4
	for range workers {
		go func() {
			defer func() { over <- struct{}{} }()
			for {
				l, err := s.q.Lease(ctx)
				if err != nil {
					return
				}
				taken <- l.Message().ID
				if err := l.Ack(s.ctx); err != nil {
					s.Errorf("Ack: %v", err)
				}
			}
		}()
	}
	var mine []queue.Lease
	for range 20 {
		d := s.begin()
		s.write(d, plain)
		l, err := d.CommitLeased(s.ctx, queue.Final{})
		s.must("CommitLeased", err)
		if l.Message().ID != d.ID() || l.Message().Attempt != 1 {
			s.Fatalf("CommitLeased: ID %s, Attempt %d", l.Message().ID, l.Message().Attempt)
		}
		s.sameText("the message", s.text(l.Message()), plain)
		mine = append(mine, l)
	}
	if n := s.q.Depth().Leased; n != len(mine) {
		s.Errorf("%d leased, want %d", n, len(mine))
	}
	for _, l := range mine[1:] {
		s.must("Ack", l.Ack(s.ctx))
	}
	s.must("Release", mine[0].Release(s.ctx))
	if id := <-taken; id != mine[0].Message().ID {
		s.Errorf("a worker took %s", id)
	}
	cancel()
	for range workers {
		<-over
	}
	if len(taken) > 0 {
		s.Errorf("a worker took %s", <-taken)
	}
}

func idsDiffer(s *suite) {
	seen := map[queue.ID]bool{}
	at := now()
	for range 50 {
		d, err := s.q.Begin(s.ctx, to("to@y.example"), queue.Origin{ReceivedAt: at})
		s.must("Begin", err)
		if first := d.ID(); first == "" || first != d.ID() || seen[first] {
			s.Fatalf("ID %q is empty, changing or not new", d.ID())
		}
		seen[d.ID()] = true
		s.must("Discard", d.Discard())
	}
}
