package smtp

import (
	"context"
	"strconv"
	"unicode/utf8"
)

// obey does what one command line asks.
func (c *Conn) obey(ctx context.Context, line []byte) answer {
	v, args := parseCommand(line)
	c.showCommand(v, line)
	switch {
	case v == verbHTTP && !c.afterData:
		c.smuggling("http_request")
		return answer{close: closedJunk}
	case c.isDraining() && !(v == verbBDAT && c.phase() == phaseBDAT):
		return answer{reply: replyDrain, why: because("drain"), close: closedDrain}
	case (v == verbUnknown || v == verbHTTP) && c.afterData:
		return c.notText()
	case v != verbQUIT && c.betweenTransactions() && c.taken() > c.limits().SessionSize:
		c.hit("limits.session_size", c.taken(), c.limits().SessionSize)
		return answer{reply: replyTooMuch, why: because("limits.session_size"), close: closedLimit}
	}
	// Whether RCPT and BDAT count is known only when they are done.
	late := v == verbRCPT || v == verbBDAT
	if !late && v != verbQUIT && !c.count() {
		return c.overLimit(answer{}, "limits.commands", replyTooManyCommands, c.limits().Commands)
	}
	a := c.execute(ctx, v, args)
	if late && !a.free && a.close == goesOn && !c.count() {
		return c.overLimit(a, "limits.commands", replyTooManyCommands, c.limits().Commands)
	}
	if v == verbDATA && a.stage == stageData {
		c.afterData = true
	}
	return a
}

// notText is the answer to what can only be the text that was to follow a DATA
// which was refused.
func (c *Conn) notText() answer {
	c.smuggling("data_after_refusal")
	return answer{reply: replyNotText, why: because("text after a refused DATA"), close: closedJunk}
}

// betweenTransactions reports whether no text can be lost by ending here: that of
// a transaction whose chunk failed is lost already.
func (c *Conn) betweenTransactions() bool {
	p := c.phase()
	return p <= phaseReady || p == phaseFailed
}

// taken is how much of what the peer sent was dealt with, the command in hand
// included.
func (c *Conn) taken() int64 { return c.bytesIn - int64(len(c.in.unread())) }

// count counts one command, and says whether it is within the limit.
func (c *Conn) count() bool {
	c.commands++
	return c.commands <= c.limits().Commands
}

func (c *Conn) showCommand(v verb, line []byte) {
	if c.cfg.OnDialogue == nil {
		return
	}
	if v == verbRefused && len(line) >= 4 && isWord(line[:4], "AUTH") {
		line = []byte("AUTH") // what follows may be a password
	}
	c.cfg.OnDialogue(c, true, string(line))
}

// execute runs a command that is in order.
func (c *Conn) execute(ctx context.Context, v verb, args []byte) answer {
	if v == verbLHLO && !c.cfg.LMTP {
		v = verbRefused
	}
	if v == verbBDAT {
		return c.doBDAT(ctx, args) // whatever the order, its octets follow
	}
	if wrong := c.outOfOrder(v); wrong != nil {
		return answer{reply: wrong, stage: stageOf(v)}
	}
	switch v {
	case verbLHLO:
		return c.doHello(ctx, args, true)
	case verbEHLO, verbHELO:
		if c.cfg.LMTP {
			return answer{reply: replyNotSMTP, stage: stageHello}
		}
		return c.doHello(ctx, args, v == verbEHLO)
	case verbMAIL:
		return c.doMail(ctx, args)
	case verbRCPT:
		return c.doRcpt(ctx, args)
	case verbDATA:
		return c.doData(ctx, args)
	case verbSTARTTLS:
		return c.doStartTLS(ctx, args)
	case verbRSET:
		return c.doRset(args)
	case verbQUIT:
		if len(args) > 0 {
			return answer{reply: replyNoArguments}
		}
		return answer{reply: replyBye, close: closedQuit}
	case verbVRFY:
		if len(args) == 0 {
			return answer{reply: replyVrfySyntax}
		}
		return harmless(args, replyVrfy)
	case verbNOOP:
		return harmless(args, replyOK)
	case verbHELP:
		if c.cfg.LMTP {
			return harmless(args, replyHelpLMTP)
		}
		return harmless(args, replyHelp)
	case verbXCLIENT:
		return answer{reply: replyXclient}
	case verbRefused:
		return answer{reply: replyNotHere}
	}
	if hasControl(args) {
		return answer{reply: replyControl}
	}
	return answer{reply: replyUnknown}
}

func stageOf(v verb) stage {
	switch v {
	case verbMAIL:
		return stageMail
	case verbRCPT:
		return stageRcpt
	case verbDATA, verbBDAT:
		return stageData
	}
	return stageCommand
}

// harmless is the answer to a command that changes nothing and whose argument
// is not looked at.
func harmless(args []byte, r *Reply) answer {
	switch {
	case hasControl(args):
		return answer{reply: replyControl}
	case !utf8.Valid(args):
		return answer{reply: replyBadParam}
	}
	return answer{reply: r}
}

func (c *Conn) doRset(args []byte) answer {
	if len(args) > 0 {
		return answer{reply: replyNoArguments}
	}
	c.clear()
	if p := c.phase(); p > phaseReady {
		c.setPhase(phaseReady)
	}
	return answer{reply: replyOK}
}

// doHello is EHLO, HELO and LHLO. Each ends a transaction (RFC 5321 §4.1.4).
func (c *Conn) doHello(ctx context.Context, args []byte, esmtp bool) answer {
	name, ok := parseHello(args)
	if !ok && c.lenient() {
		name, ok = helloOfSorts(args)
	}
	if !ok {
		if c.cfg.LMTP {
			return answer{reply: replyLHLOSyntax, stage: stageHello}
		}
		if esmtp {
			return answer{reply: replyHelloSyntax, stage: stageHello}
		}
		return answer{reply: replyHELOSyntax, stage: stageHello}
	}
	c.clear()
	before, after := phaseStart, phaseReady
	if c.phase() == phaseClear {
		before, after = phaseClear, phaseClear
	}
	c.setHello(name, esmtp)
	if err := c.ask("session hello", func() error { return c.session.Hello(ctx, name) }); err != nil {
		c.setHello("", false)
		c.setPhase(before)
		return refusal(stageHello, err)
	}
	c.setPhase(after)
	if !esmtp {
		return answer{reply: replyHello}
	}
	return answer{reply: c.extensions()}
}

// extensions is the reply to EHLO.
func (c *Conn) extensions() *Reply {
	var room [512]byte // a hostname has 255 octets at most
	text := append(room[:0], c.cfg.Hostname...)
	text = append(text, "\nPIPELINING\nSIZE"...)
	if c.cfg.Limits.MessageSize >= 0 {
		text = strconv.AppendInt(append(text, ' '), c.limits().MessageSize, 10)
	}
	text = append(text, "\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING"...)
	if c.cfg.Limits.Recipients >= 0 {
		text = append(text, "\nLIMITS RCPTMAX="...)
		text = strconv.AppendInt(text, int64(c.limits().Recipients), 10)
	}
	if c.offersTLS() {
		text = append(text, "\nSTARTTLS"...)
	}
	return &Reply{Code: 250, Text: string(text)}
}
