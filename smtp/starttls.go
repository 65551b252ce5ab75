package smtp

import (
	"crypto/tls"
	"time"
)

func (c *Conn) offersTLS() bool {
	return !c.encrypted() && c.cfg.TLSMode != TLSDisabled
}

// doStartTLS is STARTTLS (RFC 3207). Nothing that was said in clear survives it:
// not the hello, not the transaction, not an octet of input.
func (c *Conn) doStartTLS(args []byte) answer {
	switch {
	case len(args) > 0:
		return answer{reply: replyNoArguments, stage: stageStartTLS}
	case c.encrypted():
		return answer{reply: replyTLSAlready, stage: stageStartTLS}
	case !c.offersTLS():
		return answer{reply: replyNoTLS, stage: stageStartTLS}
	case !c.in.empty():
		c.smuggling("starttls_pipelined")
		return answer{reply: replyTLSPipelined, stage: stageStartTLS, why: because("input behind STARTTLS"), close: closedJunk}
	}
	c.clear()
	c.setHello("", false)
	c.setPhase(phaseStart)
	c.put(replyStartTLS)
	if err := c.flush(); err != nil {
		return c.broken(err)
	}
	return c.handshake()
}

// handshake makes the connection a TLS connection. One that fails is the end:
// nothing is ever read in clear afterwards.
func (c *Conn) handshake() answer {
	began := c.now()
	if !c.beginHandshake(began) {
		return answer{close: closedDrain}
	}
	t := tls.Server(c.raw, c.tlsConfig())
	err := c.ask("tls handshake", t.Handshake) // it calls back into the configuration
	state := t.ConnectionState()
	c.mu.Lock()
	c.waiting = false
	drained := c.draining
	if err == nil {
		c.tls = &state
	}
	c.mu.Unlock()
	if c.cfg.OnHandshake != nil {
		c.cfg.OnHandshake(c, &state, c.now()-began, err)
	}
	switch {
	case err == nil:
		c.nc = t
		return answer{}
	case drained:
		return answer{close: closedDrain, why: failed(err)}
	}
	return answer{close: closedTLS, why: failed(err)}
}

// beginHandshake sets the deadline for all of it, unless we drain.
func (c *Conn) beginHandshake(now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return false
	}
	c.waiting = true
	c.clock = clock{}
	if c.timeouts().TLS > 0 {
		due := after(now, c.timeouts().TLS)
		c.clock = clock{read: due, write: due}
	}
	// An error means that the connection is closed: the handshake fails.
	_ = c.raw.SetDeadline(c.at(c.clock.read))
	return true
}

// tlsConfig is the configuration without session tickets, which break the
// senders of a large provider (golang/go#70232), and which a server that is
// connected to by other servers hardly needs.
func (c *Conn) tlsConfig() *tls.Config {
	if c.cfg.TLS.SessionTicketsDisabled {
		return c.cfg.TLS
	}
	config := c.cfg.TLS.Clone()
	config.SessionTicketsDisabled = true
	return config
}
