package smtp

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cutKeyword takes "FROM:" or "TO:" off the argument of MAIL and RCPT, and the
// white space behind it, which many clients send.
func cutKeyword(args []byte, keyword string) (rest []byte, ok bool) {
	if len(args) < len(keyword) || !isWord(args[:len(keyword)], keyword) {
		return nil, false
	}
	return bytes.TrimLeft(args[len(keyword):], " \t"), true
}

// forgiven is an address without angle brackets in them, for a peer of whom that
// is taken.
func (c *Conn) forgiven(rest []byte) []byte {
	if rest[0] == '<' || !c.lenient() {
		return rest
	}
	end := bytes.IndexAny(rest, " \t")
	if end < 0 {
		end = len(rest)
	}
	return slices.Concat([]byte("<"), rest[:end], []byte(">"), rest[end:])
}

func (c *Conn) lenient() bool { return c.cfg.Lenient != nil && c.cfg.Lenient(c.peer) }

func (c *Conn) doMail(ctx context.Context, args []byte) answer {
	c.forgetSender()
	from, p, wrong := c.parseMail(args)
	if wrong == replyTooBig {
		p.Size = math.MaxInt64 // at least
	} else if wrong != nil {
		return answer{reply: wrong, stage: stageMail}
	}
	c.from, c.hasFrom = from, true
	if wrong != nil || p.Size > c.limits().MessageSize {
		c.hit("limits.message_size", p.Size, c.limits().MessageSize)
		return answer{reply: replyTooBig, stage: stageMail, why: because("limits.message_size")}
	}
	if err := c.ask("session mail", func() error { return c.session.Mail(ctx, from, p) }); err != nil {
		return refusal(stageMail, err)
	}
	c.inTx, c.utf8, c.recipients, c.afterData = true, p.SMTPUTF8, 0, false
	c.setPhase(phaseMail)
	return answer{reply: replyMailOK}
}

func (c *Conn) parseMail(args []byte) (Path, MailParams, *Reply) {
	rest, ok := cutKeyword(args, "FROM:")
	if !ok || len(rest) == 0 {
		return Path{}, MailParams{}, replyMailSyntax
	}
	from, nonASCII, rest, err := parsePath(c.forgiven(rest))
	switch {
	case err == errLongPath:
		return Path{}, MailParams{}, replyLongSender
	case err != nil, from.Domain == "" && !from.IsNull():
		return Path{}, MailParams{}, replyBadSender
	}
	p, err := parseMailParams(rest)
	switch {
	case err != nil:
		return Path{}, MailParams{}, paramReply(err)
	case nonASCII && !p.SMTPUTF8:
		return Path{}, MailParams{}, replyUTF8Sender
	case nonASCII && !isText(from):
		return Path{}, MailParams{}, replyBadSender
	}
	return from, p, nil
}

func (c *Conn) doRcpt(ctx context.Context, args []byte) answer {
	to, p, wrong := c.parseRcpt(args)
	if wrong != nil {
		return c.refuseRcpt(answer{reply: wrong, stage: stageRcpt, why: &detail{rcpt: string(args)}})
	}
	if c.recipients >= c.limits().Recipients {
		c.hit("limits.recipients", int64(c.recipients)+1, int64(c.limits().Recipients))
		return answer{reply: replyTooManyRecipients, stage: stageRcpt, why: &detail{reason: "limits.recipients", rcpt: to.String()}}
	}
	if err := c.ask("session rcpt", func() error { return c.session.Rcpt(ctx, to, p) }); err != nil {
		a := refusal(stageRcpt, err)
		a.why = &detail{err: a.detail().err, rcpt: to.String()}
		return c.refuseRcpt(a)
	}
	c.recipients++
	c.refused = 0
	c.setPhase(phaseRcpt)
	return answer{reply: replyRcptOK, free: true}
}

// refuseRcpt counts a refused recipient.
func (c *Conn) refuseRcpt(a answer) answer {
	if c.phase() == phaseMail {
		c.setPhase(phaseRefused)
	}
	if c.refused >= c.limits().RefusedRecipients {
		return c.overLimit(a, "limits.refused_recipients", replyTooManyRefused, c.limits().RefusedRecipients)
	}
	c.refused++
	return a
}

func (c *Conn) parseRcpt(args []byte) (Path, RcptParams, *Reply) {
	rest, ok := cutKeyword(args, "TO:")
	if !ok || len(rest) == 0 {
		return Path{}, RcptParams{}, replyRcptSyntax
	}
	to, nonASCII, rest, err := parsePath(c.forgiven(rest))
	switch {
	case err == errLongPath:
		return Path{}, RcptParams{}, replyLongPath
	case err != nil, to.IsNull(), to.Domain == "" && !isWord(to.Local, "postmaster"):
		return Path{}, RcptParams{}, replyBadRecipient
	case nonASCII && !c.utf8:
		return Path{}, RcptParams{}, replyNeedsUTF8
	case nonASCII && !isText(to):
		return Path{}, RcptParams{}, replyBadRecipient
	}
	p, err := parseRcptParams(rest, c.utf8)
	if err != nil {
		return Path{}, RcptParams{}, paramReply(err)
	}
	return to, p, nil
}

// isText reports whether an address over ASCII is UTF-8 without control
// characters: those of U+0080 to U+009F move a terminal's cursor too.
func isText(p Path) bool {
	return utf8.ValidString(p.Local) && utf8.ValidString(p.Domain) &&
		!strings.ContainsFunc(p.Local, unicode.IsControl) && !strings.ContainsFunc(p.Domain, unicode.IsControl)
}

func paramReply(err error) *Reply {
	switch err {
	case errUnknownParam:
		return replyUnknownParam
	case errBodyParam:
		return replyBodyParam
	case errTooBig:
		return replyTooBig
	}
	return replyBadParam
}
