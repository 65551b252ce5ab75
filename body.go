package incoming

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// body is the text of one message on its way into the queue.
type body struct {
	s     *session
	ctx   context.Context // of Data: Write has none
	at    time.Time       // when the client was told to send
	id    queue.ID        // the message's
	draft queue.Draft     // nil once a policy has discarded the message, or it is over
	orig  queue.Origin
	env   queue.Envelope
	tap   io.Writer // nil: no policy reads along
	untap func()    // ends what taps have begun; nil: there are none
	head  heading
}

// begin reserves a place in the queue.
func (b *body) begin() error {
	s := b.s
	b.env, b.orig = s.envelope(), s.origin(b.at)
	draft, err := s.srv.cfg.Queue.Begin(b.ctx, b.env, b.orig)
	if err != nil {
		return s.queueRefused("data", "", err)
	}
	b.draft, b.id = draft, draft.ID()
	s.tx.ID, s.tx.OpenText = string(b.id), draft.Open
	return nil
}

// Write implements smtp.Body.
func (b *body) Write(p []byte) (int, error) {
	b.s.tx.Size += int64(len(p))
	if b.draft == nil {
		return len(p), nil // to be forgotten
	}
	if n, err := b.draft.Write(p); err != nil {
		return n, b.s.queueRefused("data", b.id, err)
	}
	if b.tap != nil {
		b.tap.Write(p) // never fails: a broken tap is answered at StageMessage
	}
	if !b.head.done() {
		if err := b.heading(p); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// heading takes the next octets of the header and, when it is in, asks the
// policies about it. It goes from line to line: which limit is passed first does
// not depend on how the text was cut.
func (b *body) heading(p []byte) error {
	b.head.expect(p)
	for len(p) > 0 && !b.head.done() {
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		p = p[len(line):]
		b.head.take(line)
		if err := b.headerLimits(b.head.scan.Sure(), b.head.scan.Fields(), b.head.scan.Received()); err != nil {
			return err
		}
	}
	if !b.head.done() {
		return nil
	}
	return b.headerIn(b.ctx)
}

// headerLimits refuses a header of that many octets, fields, and of them Received.
func (b *body) headerLimits(size int64, fields, received int) error {
	switch l := b.s.set.limits; {
	case l.Header >= 0 && size > l.Header:
		return b.overLimit("limits.header", size, l.Header, replyHeaderTooBig)
	case l.Received >= 0 && received > l.Received:
		return b.overLimit("limits.received", int64(received), int64(l.Received), replyMailLoop)
	case l.HeaderFields >= 0 && fields > l.HeaderFields:
		return b.overLimit("limits.header_fields", int64(fields), int64(l.HeaderFields), replyTooManyFields)
	}
	return nil
}

// headerIn is called once, when the header has come to its end.
func (b *body) headerIn(ctx context.Context) error {
	s := b.s
	if err := b.readHeader(); err != nil {
		return err
	}
	if h := s.tx.Header; b.head.ended { // in a line that had no end, and was not counted
		if err := b.headerLimits(b.head.scan.Size(), h.Len(), h.Count("Received")); err != nil {
			return err
		}
	}
	if err := s.ask(ctx, policy.StageHeader); err != nil {
		return err
	}
	if s.tx.Discarded() != "" {
		b.dropDraft()
	} else if b.head.big {
		s.tx.Header = header.Header{} // until StageMessage: nobody needs it while the text comes
	}
	return nil
}

// readHeader sets the transaction's header, from memory or, when it is big, from
// the draft.
func (b *body) readHeader() error {
	text := b.head.text
	if b.head.big {
		r, err := b.draft.Open()
		if err != nil {
			return b.s.queueRefused("data", b.id, err)
		}
		defer r.Close() // it was only read: nothing can be lost
		text = make([]byte, b.head.scan.Size())
		if _, err := io.ReadFull(r, text); err != nil {
			return b.s.queueRefused("data", b.id, err)
		}
	}
	b.s.tx.Header = header.Parse(text)
	return nil
}

func (b *body) overLimit(limit string, use, most int64, reply *smtp.Reply) error {
	s := b.s
	telemetry.Emit(s.srv.hooks.LimitHit, telemetry.LimitHit{
		Session: sessionOf(s.conn, s.live.listener), Limit: limit, Use: use, Max: most})
	return &refused{reply: reply, stage: "header", reason: "past " + limit}
}

// End implements smtp.Body. It is the one place where a message becomes ours:
// the last policies, the commit, then the receipt.
func (b *body) End(ctx context.Context) (receipt string, err error) {
	s := b.s
	s.live.enter(SessionEnding)
	defer b.over()
	if b.draft != nil {
		if err := b.judge(ctx); err != nil {
			return "", err
		}
	}
	if b.draft == nil {
		s.discarded(b.id)
	} else if err := b.commit(ctx); err != nil {
		return "", err
	}
	s.live.accepted()
	return "Ok: queued as " + string(b.id), nil
}

// judge asks the policies for the last time. From the final dot they share one
// policy's time.
func (b *body) judge(ctx context.Context) error {
	s := b.s
	if s.set.chain.AsksAt(policy.StageMessage) || !b.head.done() {
		var cancel context.CancelFunc
		ctx, cancel = s.set.chain.WithDeadline(ctx)
		defer cancel()
		defer context.AfterFunc(s.srv.forced, cancel)()
	}
	if !b.head.done() {
		b.head.end()
		if err := b.headerIn(ctx); err != nil || b.draft == nil {
			return err
		}
	}
	if b.head.big {
		if err := b.readHeader(); err != nil {
			return err
		}
	}
	if lf, cr := s.conn.BareLineEnds(); lf+cr > 0 {
		// When policies left no room for it among the facts, the message
		// carries it all the same: see facts.
		_ = s.tx.Found("bare_line_ends", bareFact{lf, cr})
	}
	if err := s.ask(ctx, policy.StageMessage); err != nil {
		return err
	}
	if s.tx.Discarded() != "" {
		b.dropDraft()
	}
	return nil
}

// bareLineEnds is the fact that text had line ends which were none.
const bareLineEnds = "smtp.bare_line_ends"

type bareFact struct {
	LF int `json:"lf"`
	CR int `json:"cr"`
}

// facts is what is known of the message, for the queue.
func (b *body) facts() queue.Facts {
	facts := b.s.tx.Facts()
	lf, cr := b.s.conn.BareLineEnds()
	if _, ok := facts[bareLineEnds]; ok || lf+cr == 0 {
		return facts
	}
	if facts == nil {
		facts = make(queue.Facts)
	}
	facts[bareLineEnds] = fmt.Appendf(nil, `{"lf":%d,"cr":%d}`, lf, cr)
	return facts
}

// commit hands the message over to the queue. Once it has begun, it is finished
// whatever becomes of the connection, and what it says is the reply.
func (b *body) commit(ctx context.Context) error {
	s := b.s
	final := queue.Final{Facts: b.facts(), Prepend: b.prepend(), Skip: skips(s.tx.Removed()), Quarantine: s.tx.Quarantined()}
	draft := b.draft
	b.draft = nil // Commit ends it, whatever it says
	start := time.Now()
	if !s.srv.waits() {
		if _, err := draft.Commit(context.WithoutCancel(ctx), final); err != nil {
			return s.queueRefused("message", b.id, err)
		}
		telemetry.Emit(s.srv.hooks.MessageQueued, b.queued(time.Since(start)))
		return nil
	}
	lease, err := draft.CommitLeased(context.WithoutCancel(ctx), final)
	if err != nil {
		return s.queueRefused("message", b.id, err)
	}
	return b.decide(ctx, lease, b.queued(time.Since(start)))
}

// prepend is what stands above the text: Received, then what policies added.
func (b *body) prepend() []byte {
	s := b.s
	hello, esmtp := s.conn.Hello()
	added := s.tx.Prepended()
	field := appendReceived(make([]byte, 0, 320+len(added)), trace{
		hello: hello, esmtp: esmtp, lmtp: s.set.wire[s.live.listener].LMTP, peer: s.tx.Peer.Addr(), hostname: s.set.hostname, utf8: b.env.SMTPUTF8,
		tls: b.orig.TLS, id: b.id, rcpts: b.env.RcptTo, at: b.at})
	return append(field, added...)
}

// skips is the ranges of the text that the removed fields take.
func skips(removed []header.Field) []queue.Range {
	if len(removed) == 0 {
		return nil
	}
	rs := make([]queue.Range, len(removed))
	for i, f := range removed {
		rs[i] = queue.Range{Start: f.Offset, End: f.Offset + int64(len(f.Raw))}
	}
	slices.SortFunc(rs, func(a, b queue.Range) int { return int(a.Start - b.Start) })
	return rs
}

// queued is the fact of a message that was committed; nobody listens: nothing.
func (b *body) queued(took time.Duration) (e telemetry.MessageQueued) {
	s := b.s
	if s.srv.hooks.MessageQueued == nil {
		return e
	}
	return telemetry.MessageQueued{
		Session: sessionOf(s.conn, s.live.listener), ID: string(b.id), MailFrom: b.env.MailFrom,
		Rcpts: b.env.Addresses(), Size: s.tx.Size, MessageID: s.tx.Header.Get("Message-ID"),
		TLS: versionOf(s.conn), Depth: s.srv.cfg.Queue.Depth().Live(), Commit: took, Duration: time.Since(s.conn.Started()) - s.mailAt}
}

// discarded tells of a message that was told 250 and forgotten.
func (s *session) discarded(id queue.ID) {
	if s.srv.hooks.MessageDiscarded == nil {
		return
	}
	env := s.envelope()
	s.srv.hooks.MessageDiscarded(telemetry.MessageDiscarded{
		Session: sessionOf(s.conn, s.live.listener), ID: string(id), Policy: s.tx.Discarded(),
		MailFrom: env.MailFrom, Rcpts: env.Addresses(), Size: s.tx.Size})
}

// Abort implements smtp.Body.
func (b *body) Abort() {
	b.endTaps()
	b.dropDraft()
	b.s.body = nil
}

// over ends the transaction after End.
func (b *body) over() {
	b.endTaps()
	b.dropDraft()
	b.s.body = nil
	b.s.tx.Reset()
	b.s.live.enter(SessionIdle)
}

func (b *body) endTaps() {
	if b.untap != nil {
		b.untap()
		b.untap = nil
	}
}

// dropDraft frees the place in the queue. What cannot be removed is no message:
// the queue sets it aside when it is opened again.
func (b *body) dropDraft() {
	draft := b.draft
	if draft == nil {
		return
	}
	b.draft = nil
	b.s.tx.OpenText = nil
	if err := draft.Discard(); err != nil {
		telemetry.Emit(b.s.srv.hooks.MessageEnqueueError, telemetry.MessageEnqueueError{
			Session: sessionOf(b.s.conn, b.s.live.listener), ID: string(b.id), Reason: "discard", Err: err, Size: b.s.tx.Size})
	}
}

// heading collects the header of a text that streams by.
type heading struct {
	scan  header.Scanner
	text  []byte // the header so far; nil when it is big
	big   bool   // it is read from the draft when it is asked for
	ended bool   // the text ended before the header did
}

// keepHeader is how much header is kept in memory while the text comes.
const keepHeader = 16 << 10

func (h *heading) done() bool { return h.ended || h.scan.Done() }

// end is the end of a text that is all header.
func (h *heading) end() { h.ended = true }

// expect makes room at one go for what p, which is to be taken, has of the header at
// most.
func (h *heading) expect(p []byte) {
	if h.big {
		return
	}
	if i := bytes.Index(p, []byte("\r\n\r\n")); i >= 0 {
		p = p[:i+len("\r\n")]
	}
	h.text = slices.Grow(h.text, min(len(p), keepHeader-len(h.text)))
}

func (h *heading) take(p []byte) {
	h.scan.Write(p)
	if h.big {
		return
	}
	size := h.scan.Size()
	if size > keepHeader {
		h.text, h.big = nil, true
		return
	}
	// The header may end before what was kept: a line that began like a
	// field was none.
	if have := int64(len(h.text)); size <= have {
		h.text = h.text[:size]
	} else {
		h.text = append(h.text, p[:size-have]...)
	}
}
