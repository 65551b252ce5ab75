package milter

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	gomilter "github.com/d--j/go-milter"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// conversation is what is said to one filter about one message, or one recipient.
type conversation struct {
	t      *policy.Transaction
	s      *gomilter.ClientSession
	macros macros
	at     string // where it is

	act   *gomilter.Action // the filter's verdict; nil while it goes along
	reply *smtp.Reply      // in its words; nil when it has said none
	shown []shown          // the fields it was given, in order
	mark  error            // that it quarantines the message; nil when it does not
}

// shown is a field that a filter was given.
type shown struct {
	header.Field
	prepended bool   // by a policy before; else it is of the message
	gone      bool   // the filter took it out
	now       *field // what the filter put in its place; nil for nothing
}

// talk goes through the conversation until the filter has its verdict.
func (c *conversation) talk(stage policy.Stage) error {
	type step struct {
		at string
		do func() error
	}
	steps := []step{{"connect", c.connect}, {"hello", c.hello}, {"mail", c.mail}}
	if stage == policy.StageRcpt {
		steps = append(steps, step{"rcpt", func() error { return c.rcpt(c.t.Rcpt()) }})
	} else {
		steps = append(steps, step{"rcpt", c.recipients}, step{"data", c.data}, step{"header", c.header},
			step{"body", c.body}, step{"end", c.end})
	}
	for _, step := range steps {
		c.at = step.at
		if err := step.do(); err != nil {
			return err
		}
		if c.act != nil {
			break
		}
	}
	return nil
}

// said takes the filter's answer to one event.
func (c *conversation) said(act *gomilter.Action, err error) error {
	if err != nil || act.Type == gomilter.ActionContinue {
		return err
	}
	c.act = act
	if act.Type == gomilter.ActionRejectWithCode {
		// Filters write a percent sign twice: sendmail reads a format.
		c.reply, err = policy.Worded(strings.ReplaceAll(act.SMTPReply, "%%", "%"))
	}
	return err
}

func (c *conversation) connect() error {
	addr := c.t.Peer.Addr().Unmap()
	switch {
	case addr.Is4():
		return c.said(c.s.Conn(unknown, gomilter.FamilyInet, c.t.Peer.Port(), addr.String()))
	case addr.Is6():
		return c.said(c.s.Conn(unknown, gomilter.FamilyInet6, c.t.Peer.Port(), addr.String()))
	}
	return c.said(c.s.Conn(unknown, gomilter.FamilyUnknown, 0, ""))
}

func (c *conversation) hello() error { return c.said(c.s.Helo(c.t.Hello)) }

func (c *conversation) mail() error {
	p := c.t.FromParams
	var args []string
	if p.Size > 0 {
		args = append(args, fmt.Sprintf("SIZE=%d", p.Size))
	}
	if p.Body != "" {
		args = append(args, "BODY="+p.Body)
	}
	if p.SMTPUTF8 {
		args = append(args, "SMTPUTF8")
	}
	return c.said(c.s.Mail(c.t.From.String(), strings.Join(args, "\x00")))
}

func (c *conversation) recipients() error {
	for _, r := range c.t.To {
		if err := c.rcpt(r); err != nil || c.act != nil || c.s.Skip() {
			return err
		}
	}
	return nil
}

func (c *conversation) rcpt(r policy.Recipient) error {
	c.macros.path("rcpt", r.Path)
	var args string
	if r.Params.Notify != "" {
		args = "NOTIFY=" + r.Params.Notify
	}
	return c.said(c.s.Rcpt(r.Path.String(), args))
}

func (c *conversation) data() error { return c.said(c.s.DataStart()) }

// header shows the message's header as the policies before have left it.
func (c *conversation) header() error {
	for f := range header.Parse(c.t.Prepended()).Fields() {
		c.shown = append(c.shown, shown{Field: f, prepended: true})
	}
	removed := make(map[int64]bool)
	for _, f := range c.t.Removed() {
		removed[f.Offset] = true
	}
	for f := range c.t.Header.Fields() {
		if !removed[f.Offset] {
			c.shown = append(c.shown, shown{Field: f})
		}
	}
	for _, f := range c.shown {
		if err := c.said(c.s.HeaderField(c.told(f.Field))); err != nil || c.act != nil {
			return err
		}
		if c.s.Skip() {
			break
		}
	}
	return c.said(c.s.HeaderEnd())
}

// told is a field as filters are told it: the value with LF between its lines, and
// without the space after the colon unless the filter has asked for that. NUL
// cannot be told in this protocol, and is left out.
func (c *conversation) told(f header.Field) (name, value string, _ map[gomilter.MacroName]string) {
	_, raw, _ := bytes.Cut(f.Raw, []byte(":"))
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	raw = bytes.ReplaceAll(bytes.TrimSuffix(raw, []byte("\n")), []byte("\x00"), nil)
	if !c.s.ProtocolOption(gomilter.OptHeaderLeadingSpace) {
		raw = bytes.TrimPrefix(raw, []byte(" "))
	}
	name = strings.ReplaceAll(f.Name, "\x00", "")
	return name, string(raw[:min(len(raw), max(0, mostData-len(name)-len("\x00\x00")))]), nil
}

// mostData is the most octets that a packet to a filter may have: what filters of
// every version take.
const mostData = int(gomilter.DataSize64K)

var chunks = sync.Pool{New: func() any { return new([mostData]byte) }}

// body streams the text behind the header.
func (c *conversation) body() error {
	chunk := chunks.Get().(*[mostData]byte)
	defer chunks.Put(chunk)
	if c.s.ProtocolOption(gomilter.OptNoBody) {
		return c.said(c.s.BodyChunk(nil)) // which is not sent
	}
	r, err := c.t.Open()
	if err != nil {
		return fmt.Errorf("open the text: %w", err)
	}
	defer r.Close() // it was only read: nothing can be lost
	text := bufio.NewReader(r)
	if err := skipHeader(text, c.t.Header); err != nil {
		return fmt.Errorf("read the text: %w", err)
	}
	for sent := false; ; sent = true {
		n, err := io.ReadFull(text, chunk[:])
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return fmt.Errorf("read the text: %w", err)
		}
		if n > 0 || !sent { // an empty body is one empty chunk
			if err := c.said(c.s.BodyChunk(chunk[:n])); err != nil {
				return err
			}
		}
		if end || c.act != nil || c.s.Skip() {
			return nil
		}
	}
}

// skipHeader goes to where the body begins: behind the last field, and the empty
// line if there is one.
func skipHeader(text *bufio.Reader, h header.Header) error {
	var size int64
	for f := range h.Fields() {
		size = f.Offset + int64(len(f.Raw))
	}
	if _, err := io.CopyN(io.Discard, text, size); err != nil {
		return err
	}
	for _, empty := range []string{"\r\n", "\n"} {
		if next, _ := text.Peek(len(empty)); string(next) == empty { // an error comes again
			_, err := text.Discard(len(empty))
			return err
		}
	}
	return nil
}

func (c *conversation) end() error {
	said, act, err := c.s.End()
	if err != nil {
		return err
	}
	var changes []gomilter.ModifyAction
	for _, ch := range said {
		switch ch.Type {
		case gomilter.ActionQuarantine:
			c.mark = policy.Quarantine(ch.Reason)
		case gomilter.ActionAddHeader, gomilter.ActionChangeHeader, gomilter.ActionInsertHeader:
			changes = append(changes, ch)
		default:
			return fmt.Errorf("made a change that was not offered: %.200s", ch)
		}
	}
	if act.Type == gomilter.ActionAccept || act.Type == gomilter.ActionContinue {
		return c.apply(changes)
	}
	return c.said(act, nil)
}

// verdict is what the filter's answer means.
func (c *conversation) verdict() error {
	at := slog.String("at", c.at)
	switch {
	case c.reply != nil:
		return policy.Because(c.reply, "reply", at)
	case c.act == nil:
		return policy.Because(c.mark, "quarantine", at)
	}
	switch c.act.Type {
	case gomilter.ActionReject:
		return policy.Because(replyRefused, "reject", at)
	case gomilter.ActionTempFail:
		return policy.Because(replyDeferred, "tempfail", at)
	case gomilter.ActionDiscard:
		return policy.Because(policy.Discard, "discard", at)
	}
	return nil // accept, before the end
}
