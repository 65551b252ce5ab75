package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"syscall"
)

// stage is a Refusal's.
type stage uint8

const (
	stageCommand stage = iota // none of those below
	stageConnect
	stageHello
	stageMail
	stageRcpt
	stageData
	stageMessage
	stageStartTLS
)

func (s stage) String() string {
	return [...]string{"command", "connect", "hello", "mail", "rcpt", "data", "message", "starttls"}[s]
}

// ending is a Closing's reason.
type ending uint8

const (
	goesOn ending = iota // it has not ended
	closedQuit
	closedEOF
	closedEOFInData // nothing was accepted of that text
	closedReset
	closedTimeout
	closedDrain
	closedLimit
	closedTLS
	closedJunk
	closedWrite
	closedRefused
	closedForced // by Conn.Close or the caller
	closedPanic  // of the engine or a hook; a Session's are survived
	closedError
)

func (e ending) String() string {
	return [...]string{"", "quit", "eof", "eof_in_data", "reset", "timeout", "drain", "limit", "tls", "junk", "write",
		"refused", "closed", "panic", "error"}[e]
}

// answer is what a command comes to: a reply, or the end of the connection, or
// both. The zero answer is neither: what was to be said has been said. It is
// small because it is handed up through every call between the wait for a
// command and what obeys it, whose frames decide how big a stack a connection
// needs: see TestAHelloNeedsNoBigStack.
type answer struct {
	reply *Reply
	why   *detail // nil: there is nothing to add
	stage stage
	close ending
	free  bool // not counted against Limits.Commands
	text  bool // to a text that came to its end: in LMTP each recipient gets it
}

// detail is what is told of an answer beside it.
type detail struct {
	err    error  // as Refusal.Err, or as Closing.Err
	reason string // as Refusal.Reason
	rcpt   string // as Refusal.Rcpt
}

func because(reason string) *detail { return &detail{reason: reason} }
func failed(err error) *detail      { return &detail{err: err} }

// detail is never nil.
func (a answer) detail() detail {
	if a.why == nil {
		return detail{}
	}
	return *a.why
}

// give sends an answer's reply, counts and reports it, and says how the
// connection ends: "" when it goes on.
func (c *Conn) give(a answer) answer {
	if a.reply == nil {
		return a
	}
	if isError(a.reply.Code) {
		if c.errors >= c.limits().Errors {
			a = c.overLimit(a, "limits.errors", replyTooManyErrors, c.limits().Errors)
		} else {
			c.errors++
		}
	}
	a.reply = a.reply.named(c.cfg.Hostname)
	c.put(a.reply)
	if a.text && c.cfg.LMTP {
		for range c.recipients - 1 {
			c.put(a.reply)
		}
	}
	if a.reply.Code == 421 && a.close == goesOn {
		a.close = closedRefused
	}
	if a.reply.Code >= 400 && c.cfg.OnRefused != nil {
		c.cfg.OnRefused(c, c.asRefusal(a))
	}
	if !c.inTx {
		c.forgetSender() // it was kept for the refusal that ended the transaction
	}
	return a
}

func (c *Conn) asRefusal(a answer) Refusal {
	d := a.detail()
	r := Refusal{Stage: a.stage.String(), Reply: a.reply, Err: d.err, Reason: d.reason, Rcpt: d.rcpt}
	if r.Reason == "" && r.Err == nil {
		r.Reason = reasonOf(a.reply)
	}
	switch a.stage {
	case stageMail, stageRcpt, stageData, stageMessage:
		r.MailFrom = c.sender()
	}
	return r
}

// sender is the reverse-path of the transaction, for a Refusal.
func (c *Conn) sender() string {
	if c.hasFrom && c.from.IsNull() {
		return "<>"
	}
	return c.from.String()
}

func (c *Conn) forgetSender() { c.from, c.hasFrom = Path{}, false }

// isError reports whether a reply counts against Limits.Errors.
func isError(code int) bool { return code >= 500 && code <= 504 || code == 555 }

// overLimit is the answer in a's place when use number most+1 of a limit was
// refused.
func (c *Conn) overLimit(a answer, limit string, reply *Reply, most int) answer {
	c.hit(limit, int64(most)+1, int64(most))
	return answer{reply: reply, stage: a.stage, why: &detail{reason: limit, rcpt: a.detail().rcpt}, close: closedLimit}
}

func (c *Conn) hit(limit string, use, most int64) {
	if c.cfg.OnLimit != nil {
		c.cfg.OnLimit(c, limit, use, most)
	}
}

func (c *Conn) smuggling(what string) {
	if c.cfg.OnSmuggling != nil {
		c.cfg.OnSmuggling(c, what)
	}
}

// refusal is the answer to an error of the Session: a *Reply goes out as it is,
// of anything else the peer learns nothing.
func refusal(at stage, err error) answer {
	var r *Reply
	if errors.As(err, &r) {
		if sent := sendable(r); sent != nil {
			a := answer{reply: sent, stage: at}
			if err != error(r) {
				a.why = failed(err)
			}
			return a
		}
	}
	return answer{reply: replyInternal, stage: at, why: failed(err)}
}

// lost is the answer to an error of waiting for a command.
func (c *Conn) lost(err error) answer {
	switch err {
	case errOverlong:
		c.overlong++
		c.hit("limits.command_line", int64(c.limits().CommandLine)+1, int64(c.limits().CommandLine))
		if c.afterData {
			return c.notText()
		}
		a := answer{reply: replyOverlong, why: because("command line too long")}
		if c.overlong >= 3 {
			a.close = closedJunk
		}
		return a
	case errEndless:
		c.hit("limits.command_line", int64(c.in.skipped), int64(c.limits().CommandLine))
		return answer{reply: replyOverlong, why: because("command line without end"), close: closedJunk}
	case errTLSRecord:
		c.smuggling("tls_in_clear")
		return answer{close: closedJunk, why: failed(err)}
	case errTimeout:
		return answer{reply: replyTimeout, why: because("no command came in time: " + c.whichTimeout()), close: closedTimeout}
	case errBusy:
		return answer{reply: replyTimeout, why: because("no command came in 30s, and connections run out: limits.connections"), close: closedTimeout}
	case errDrain:
		return answer{reply: replyDrain, why: because("drain"), close: closedDrain}
	}
	a := c.broken(err)
	if a.close == closedEOF && c.phase() == phaseBDAT {
		a.close = closedEOFInData
	}
	return a
}

// whichTimeout is the option by which a wait for a command has just ended.
func (c *Conn) whichTimeout() string {
	switch p := c.phase(); {
	case p <= phaseReady && c.timeouts().Session > 0 && c.clock.due >= c.timeouts().Session:
		return "timeouts.session"
	case p == phaseBDAT && c.clock.due-c.clock.began != c.timeouts().Command:
		return "timeouts.data"
	}
	return "timeouts.command"
}

// lostText is the answer to an error of waiting for text.
func (c *Conn) lostText(err error) answer {
	if err == errTimeout {
		reason := "no text came in time: timeouts.data"
		if c.decoder.bareLF > 0 {
			reason += "; it has a bare LF: bare_lf" // the peer may believe that it has ended
		}
		return answer{reply: replyTimeout, stage: stageMessage, why: because(reason), close: closedTimeout}
	}
	a := c.broken(err)
	if a.close == closedEOF {
		a.close = closedEOFInData
	}
	return a
}

// broken is the end of a connection that can take no reply.
func (c *Conn) broken(err error) answer {
	switch {
	case c.out.err != nil:
		return answer{close: closedWrite, why: failed(c.out.err)}
	case errors.Is(err, io.EOF):
		return answer{close: closedEOF}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return answer{close: closedEOF, why: failed(err)} // TLS was cut off
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return answer{close: closedForced, why: failed(err)}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return answer{close: closedReset, why: failed(err)}
	case c.encrypted() && ofTLS(err):
		return answer{close: closedTLS, why: failed(err)}
	}
	return answer{close: closedError, why: failed(err)}
}

// ofTLS reports whether an error is of the TLS stream and not of the network under
// it: crypto/tls tells alerts, its own and the peer's, as errors of an operation.
func ofTLS(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op == "local error" || op.Op == "remote error"
	}
	var network net.Error
	return !errors.As(err, &network)
}

// ask calls the Session and survives its panic.
func (c *Conn) ask(where string, f func() error) (err error) {
	defer c.recovered(where, &err)
	return f()
}

// recovered is deferred around every call of a Session or Body.
func (c *Conn) recovered(where string, err *error) {
	if v := recover(); v != nil {
		c.panicked(where, v)
		*err = fmt.Errorf("smtp: panic in %s: %v", where, v)
	}
}

func (c *Conn) panicked(where string, v any) {
	if c.cfg.OnPanic != nil {
		defer func() { _ = recover() }() // of OnPanic itself: nobody is left to be told
		c.cfg.OnPanic(c, where, v, debug.Stack())
	}
}

// clear ends a transaction that did not come to its end.
func (c *Conn) clear() {
	c.abort()
	c.reset()
	c.recipients, c.utf8, c.afterData = 0, false, false
}

// abort ends a Body that did not come to its end.
func (c *Conn) abort() {
	body := c.text.body
	if body == nil {
		return
	}
	c.text.body = nil
	// Nothing more can be done about a Body whose Abort panics: it was reported.
	_ = c.ask("body abort", func() error { body.Abort(); return nil })
}

// reset tells the Session that its transaction is over, if it has one.
func (c *Conn) reset() {
	if !c.inTx {
		return
	}
	c.inTx = false
	_ = c.ask("session reset", func() error { c.session.Reset(); return nil }) // as in abort
}

// end ends the text. What was begun is finished even when the connection ends
// meanwhile.
func (c *Conn) end(ctx context.Context, body Body) (receipt string, err error) {
	defer c.recovered("body end", &err)
	return body.End(context.WithoutCancel(ctx))
}
