package smtp

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// fake is a Session that writes down what it is asked, and refuses by rule.
type fake struct {
	conn  *Conn
	facts connFacts         // in conn's place, of a receiver that has none
	rules map[string]string // "rcpt no@y.example" or "rcpt" → "550 5.1.1 text", "error text", "panic text"

	mu     sync.Mutex
	log    []string
	closed int
	faults []string // breaches of the contract of Session and Body

	inTx bool
	body *fakeBody // open
}

type connFacts interface {
	Hello() (name string, esmtp bool)
	BareLineEnds() (lf, cr int)
}

// about is the connection as the Session may ask of it.
func (s *fake) about() connFacts {
	if s.facts != nil {
		return s.facts
	}
	return s.conn
}

type fakeBody struct {
	s    *fake
	text []byte
	over bool
}

func (s *fake) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *fake) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// saw is a copy of the log, and what was wrong.
func (s *fake) saw() (log, faults []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults = append([]string{}, s.faults...)
	if s.closed != 1 {
		faults = append(faults, fmt.Sprintf("Close was called %d times", s.closed))
	}
	if s.body != nil {
		faults = append(faults, "a Body was left open")
	}
	return shorten(s.log), faults
}

// shorten writes lines that come often in a row once.
func shorten(log []string) []string {
	var out []string
	for i := 0; i < len(log); {
		n := 1
		for i+n < len(log) && log[i+n] == log[i] {
			n++
		}
		if n > 5 {
			out = append(out, fmt.Sprintf("%s, %d times", log[i], n))
		} else {
			out = append(out, log[i:i+n]...)
		}
		i += n
	}
	return out
}

func (s *fake) rule(what, arg string) error {
	if s.body != nil && what != "write" && what != "end" {
		s.fault("%s while a Body is open", what)
	}
	r, ok := s.rules[what+" "+arg]
	if !ok {
		r, ok = s.rules[what]
	}
	if !ok {
		return nil
	}
	kind, text, _ := strings.Cut(r, " ")
	switch kind {
	case "error":
		return errors.New(text)
	case "panic":
		panic(text)
	}
	return parseRule(r)
}

// parseRule reads "550 5.1.1 text"; the enhanced code may be missing.
func parseRule(r string) *Reply {
	code, text, _ := strings.Cut(r, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		panic(fmt.Sprintf("bad rule %q", r))
	}
	reply := &Reply{Code: n, Text: text}
	enhanced, rest, _ := strings.Cut(text, " ")
	var e EnhancedCode
	if _, err := fmt.Sscanf(enhanced, "%d.%d.%d", &e[0], &e[1], &e[2]); err == nil {
		reply.Enhanced, reply.Text = e, rest
	}
	reply.Text = strings.ReplaceAll(reply.Text, `\n`, "\n")
	return reply
}

// replied reports whether a reply's text is of a rule.
func (s *fake) replied(text string) bool {
	for _, r := range s.rules {
		if strings.HasSuffix(strings.ReplaceAll(r, `\n`, "\n"), text) {
			return true
		}
	}
	return false
}

func (s *fake) Hello(ctx context.Context, name string) error {
	if s.inTx {
		s.fault("Hello within a transaction")
	}
	got, esmtp := s.about().Hello()
	if got != name {
		s.fault("Conn.Hello is %q within Hello(%q)", got, name)
	}
	s.say("hello %s esmtp=%t", name, esmtp)
	return s.rule("hello", name)
}

func (s *fake) Mail(ctx context.Context, from Path, p MailParams) error {
	if s.inTx {
		s.fault("Mail within a transaction")
	}
	line := "mail <" + from.String() + ">"
	if p != (MailParams{}) {
		line += fmt.Sprintf(" size=%d body=%s utf8=%t ret=%s envid=%s auth=%s", p.Size, p.Body, p.SMTPUTF8, p.Ret, p.EnvID, p.Auth)
	}
	s.say("%s", transcript.Escape([]byte(line)))
	if err := s.rule("mail", from.String()); err != nil {
		return err
	}
	s.inTx = true
	return nil
}

func (s *fake) Rcpt(ctx context.Context, to Path, p RcptParams) error {
	if !s.inTx {
		s.fault("Rcpt without a transaction")
	}
	line := "rcpt <" + to.String() + ">"
	if p != (RcptParams{}) {
		line += fmt.Sprintf(" notify=%s orcpt=%s", p.Notify, p.ORcpt)
	}
	s.say("%s", transcript.Escape([]byte(line)))
	return s.rule("rcpt", to.String())
}

func (s *fake) Data(ctx context.Context, p DataParams) (Body, error) {
	if !s.inTx {
		s.fault("Data without a transaction")
	}
	if p.BDAT {
		s.say("bdat")
	} else {
		s.say("data")
	}
	if err := s.rule("data", ""); err != nil {
		return nil, err
	}
	s.body = &fakeBody{s: s}
	return s.body, nil
}

func (s *fake) Reset() {
	if s.body != nil {
		s.fault("Reset before Abort")
	}
	if !s.inTx {
		s.fault("Reset without a transaction")
	}
	s.inTx = false
	s.say("reset")
	_ = s.rule("reset", "")
}

func (s *fake) Close() error {
	s.mu.Lock()
	s.closed++
	s.mu.Unlock()
	_ = s.rule("close", "")
	return nil
}

func (b *fakeBody) Write(p []byte) (int, error) {
	if b.over {
		b.s.fault("Write after the end, or after an error")
	}
	if len(p) > bigBuffer {
		b.s.fault("%d octets at once", len(p))
	}
	b.text = append(b.text, p...)
	// The rule strikes at the 4th octet, wherever the text is cut.
	if r, ok := b.s.rules["write"]; ok && len(b.text) >= 4 && r != "" {
		b.over = true
		return 0, b.s.rule("write", "")
	}
	return len(p), nil
}

func (b *fakeBody) finish(what string) {
	if b.s.body != b {
		b.s.fault("%s of a Body that is over", what)
	}
	b.over, b.s.body = true, nil
}

func (b *fakeBody) End(ctx context.Context) (string, error) {
	if b.over {
		b.s.fault("End after an error")
	}
	b.finish("End")
	b.s.inTx = false
	if ctx.Done() != nil {
		b.s.fault("End's context may end")
	}
	lf, cr := b.s.about().BareLineEnds()
	line := "message " + showText(b.text)
	if lf+cr > 0 {
		line += fmt.Sprintf(" lf=%d cr=%d", lf, cr)
	}
	b.s.say("%s", line)
	if err := b.s.rule("end", ""); err != nil {
		return "", err
	}
	return "Ok: stored", nil
}

func (b *fakeBody) Abort() {
	b.finish("Abort")
	b.s.say("abort")
	_ = b.s.rule("abort", "")
}

func showText(text []byte) string {
	if len(text) > 300 {
		return fmt.Sprintf("of %d octets, crc %08x", len(text), crc32.ChecksumIEEE(text))
	}
	return `"` + transcript.Escape(text) + `"`
}

// played is one connection that was served.
type played struct {
	said   string
	turns  []string
	saw    []string
	faults []string
	events []string // what the engine reported
	end    Closing
}

// play serves pieces to a fake Session.
func play(cfg *Config, rules map[string]string, pieces [][]byte) played {
	return playBy(Serve, cfg, rules, pieces)
}

// serve is Serve, or as good.
type serve func(ctx context.Context, nc net.Conn, cfg *Config, open func(context.Context, *Conn) (Session, error)) error

// serveInTLS is Serve behind a handshake, with a false TLS that leaves every
// octet as it is.
func serveInTLS(ctx context.Context, nc net.Conn, cfg *Config, open func(context.Context, *Conn) (Session, error)) error {
	c := newConn(nc, cfg)
	c.nc = struct{ net.Conn }{nc}
	ctx, stop := c.attach(ctx)
	defer stop()
	c.run(ctx, open)
	return c.result()
}

// frugal is a connection that sees how much is asked of it at once, and how
// often.
type frugal struct {
	*transcript.Conn
	most, reads int
}

func (f *frugal) Read(p []byte) (int, error) {
	f.most = max(f.most, len(p))
	f.reads++
	return f.Conn.Read(p)
}

func (f *frugal) Write(p []byte) (int, error) {
	f.most = max(f.most, len(p))
	return f.Conn.Write(p)
}

func playBy(serve serve, cfg *Config, rules map[string]string, pieces [][]byte) played {
	var p played
	s := &fake{rules: rules}
	mine := *cfg
	mine.OnSmuggling = func(_ *Conn, what string) { p.events = append(p.events, "smuggling "+what) }
	mine.OnLimit = func(_ *Conn, limit string, use, most int64) {
		p.events = append(p.events, fmt.Sprintf("limit %s %d of %d", limit, use, most))
	}
	mine.OnPanic = func(_ *Conn, where string, v any, stack []byte) {
		if len(stack) == 0 {
			s.fault("a panic without its stack")
		}
		p.events = append(p.events, fmt.Sprintf("panic %s: %v", where, v))
	}
	refused := 0
	mine.OnRefused = func(_ *Conn, r Refusal) {
		refused++
		if r.Reply == nil || r.Reason == "" && r.Err == nil && !s.replied(r.Reply.Text) {
			s.fault("refused without a reason: %v", r.Reply)
		}
	}
	closed := 0
	mine.OnClosed = func(_ *Conn, c Closing) { p.end = c; closed++ }
	nc := &frugal{Conn: transcript.NewConn(pieces)}
	err := serve(context.Background(), nc, &mine, func(_ context.Context, c *Conn) (Session, error) {
		s.conn = c
		s.closed++ // as if, should the rule refuse
		if err := s.rule("open", ""); err != nil {
			return nil, err
		}
		s.closed--
		return s, nil
	})
	said, inOrder := nc.Said()
	p.said, p.turns = string(said), nc.Turns()
	p.saw, p.faults = s.saw()
	if !inOrder {
		p.faults = append(p.faults, "something was written after CloseWrite")
	}
	if !nc.Closed() || closed != 1 {
		p.faults = append(p.faults, fmt.Sprintf("closed: %t, OnClosed called %d times", nc.Closed(), closed))
	}
	if p.end.Err != err {
		p.faults = append(p.faults, fmt.Sprintf("Closing.Err %v, Serve returned %v", p.end.Err, err))
	}
	alert := cfg.TLS != nil && p.end.Reason == "tls" // why a handshake fails is said by TLS, and is not counted
	if p.end.Duration < 0 || p.end.Duration > time.Minute || p.end.BytesOut != int64(len(said)) && !alert {
		p.faults = append(p.faults, fmt.Sprintf("closing %+v, %d octets said", p.end, len(said)))
	}
	// In LMTP a text refused is one refusal, and a reply for each recipient.
	if n := countRefusals(p.said); n != refused && !(cfg.LMTP && n > refused) {
		p.faults = append(p.faults, fmt.Sprintf("%d refusals reported, %d given", refused, n))
	}
	most := max(bigBuffer, 2*cfg.Limits.CommandLine)
	if cfg.TLS != nil {
		most = 64 << 10 // a record of TLS, in a buffer that grows as it comes
	}
	if nc.most > most {
		p.faults = append(p.faults, fmt.Sprintf("%d octets read or written at once, %d is the most", nc.most, most))
	}
	if c := s.conn; c.in.big != nil || c.out.lent != nil || c.decoder.piece != nil || len(c.in.buf) > smallBuffer {
		p.faults = append(p.faults, "a buffer was not given back")
	}
	sent := 0
	for _, piece := range pieces {
		sent += len(piece)
	}
	if most := 2*len(pieces) + sent/32 + 10; nc.reads > most {
		p.faults = append(p.faults, fmt.Sprintf("%d reads for %d octets in %d pieces", nc.reads, sent, len(pieces)))
	}
	return p
}

// countRefusals counts the replies of 4xx and 5xx.
func countRefusals(said string) (n int) {
	for line := range strings.Lines(said) {
		if len(line) > 3 && (line[0] == '4' || line[0] == '5') && line[3] != '-' {
			n++
		}
	}
	return n
}
