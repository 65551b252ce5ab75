package smtp

import (
	"context"
	"errors"
	"io"
	"math"
)

// intake is the text of a message on its way to the Body.
type intake struct {
	body   Body   // nil between texts
	size   int64  // octets so far, those dropped included
	tooBig bool   // it is over the limit, which was reported
	failed bool   // the rest is read through and dropped
	answer answer // to be given then
}

// doData is DATA: the text follows its 354.
func (c *Conn) doData(ctx context.Context, args []byte) answer {
	if len(args) > 0 {
		return answer{reply: replyNoArguments, stage: stageData}
	}
	if a := c.beginText(ctx, DataParams{}); a.reply != nil {
		return a
	}
	c.setPhase(phaseData)
	c.put(replyStartData)
	c.in.enlarge()
	if a := c.readText(); a.close != goesOn {
		return a
	}
	a := c.endText(ctx)
	a.text = true
	return a
}

// beginText asks the Session for a Body. A refusal ends the transaction.
func (c *Conn) beginText(ctx context.Context, p DataParams) answer {
	c.decoder, c.text, c.pace = textDecoder{}, intake{}, pace{}
	err := c.ask("session data", func() error {
		body, err := c.session.Data(ctx, p)
		if err == nil && body == nil {
			err = errors.New("smtp: Session.Data returned no Body")
		}
		if err == nil {
			c.text.body = body
		}
		return err
	})
	if err == nil {
		return answer{}
	}
	c.reset()
	c.setPhase(phaseReady)
	return refusal(stageData, err)
}

// readText reads the text of DATA to its end, whatever becomes of it.
func (c *Conn) readText() answer {
	for {
		used, done := c.decoder.decode(c.in.unread(), c)
		c.in.skip(used)
		c.pace.octets += int64(used)
		c.lookAtLineEnds()
		switch {
		case c.text.size > c.twiceSize():
			// How much was looked at behind the limit is chance, so nothing is said
			// of what was seen there.
			return answer{reply: replyTooBig, stage: stageMessage, why: because("twice limits.message_size"), close: closedLimit, text: true}
		case done:
			c.reportSuspicion()
			return answer{}
		}
		if err := c.fillText(); err != nil {
			c.reportSuspicion()
			return c.lostText(err)
		}
	}
}

// take gives one piece of text to the Body, unless the message has failed
// already. What is over the size limit is not given, but what is before it is:
// which of two failures comes first must not depend on how the text was cut.
func (c *Conn) take(p []byte) {
	t := &c.text
	fits := max(c.limits().MessageSize-t.size, 0)
	t.size += int64(len(p))
	tooBig := int64(len(p)) > fits
	if tooBig {
		p = p[:fits]
	}
	if len(p) > 0 && !t.failed {
		n, err := c.writeBody(p)
		if err == nil && n != len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			t.fail(refusal(stageMessage, err))
		}
	}
	if tooBig {
		c.tooBig(c.limits().MessageSize + 1) // at least; how much was read at once is chance
	}
}

func (c *Conn) writeBody(p []byte) (n int, err error) {
	defer c.recovered("body write", &err)
	return c.text.body.Write(p)
}

// tooBig reports a text over the limit, once.
func (c *Conn) tooBig(size int64) {
	if c.text.tooBig {
		return
	}
	c.text.tooBig = true
	c.hit("limits.message_size", size, c.limits().MessageSize)
	c.text.fail(answer{reply: replyTooBig, stage: stageMessage, why: because("limits.message_size")})
}

// fail keeps the first failure.
func (t *intake) fail(a answer) {
	if !t.failed {
		t.failed, t.answer = true, a
	}
}

// twiceSize is where a text is no longer read through.
func (c *Conn) twiceSize() int64 {
	if c.limits().MessageSize > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return 2 * c.limits().MessageSize
}

// lookAtLineEnds refuses a text with bare line ends from a peer of which none
// is wanted. It goes before any other failure, for which of them is seen first
// depends on how the text was cut.
func (c *Conn) lookAtLineEnds() {
	if c.decoder.bareLF+c.decoder.bareCR == 0 || c.text.answer.reply == replyBareNewline || c.cfg.RejectBareNewline == nil {
		return
	}
	if c.cfg.RejectBareNewline(c.peer) {
		c.text.failed = true
		c.text.answer = answer{reply: replyBareNewline, stage: stageMessage, why: because("bare CR or LF")}
	}
}

func (c *Conn) reportSuspicion() {
	if c.decoder.suspect&suspectLF != 0 {
		c.smuggling("bare_lf")
	}
	if c.decoder.suspect&suspectCR != 0 {
		c.smuggling("bare_cr")
	}
}

// endText ends a text that has come to its end, and the transaction.
func (c *Conn) endText(ctx context.Context) answer {
	c.setPhase(phaseReady)
	if c.text.failed {
		return c.failText()
	}
	body := c.text.body
	c.text.body, c.inTx = nil, false // whatever End says: both have ended
	receipt, err := c.end(ctx, body)
	if err != nil {
		return refusal(stageMessage, err)
	}
	c.messages++
	c.commands, c.errors = 0, 0
	if receipt == "" {
		receipt = "Ok"
	}
	c.scratch = Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Text: receipt}
	return answer{reply: &c.scratch, free: true}
}

// failText ends a text that failed, and the transaction.
func (c *Conn) failText() answer {
	c.abort()
	c.reset()
	a := c.text.answer
	c.text.answer = answer{}
	return a
}
