package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"
)

func (c *Conn) offersTLS() bool {
	return !c.encrypted() && c.cfg.TLSMode != TLSDisabled
}

// doStartTLS is STARTTLS (RFC 3207). Nothing that was said in clear survives it:
// not the hello, not the transaction, not an octet of input.
func (c *Conn) doStartTLS(ctx context.Context, args []byte) answer {
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
	return c.handshake(ctx)
}

// handshake makes the connection a TLS connection. One that fails is the end:
// nothing is ever read in clear afterwards. It is done in a goroutine of its own,
// for it needs a stack of 16 KiB or more, which the connection's goroutine would
// keep for long.
func (c *Conn) handshake(ctx context.Context) answer {
	began := c.now()
	if !c.beginHandshake(began) {
		return answer{close: closedDrain}
	}
	var t *turn
	if c.cfg.Handshakes != nil {
		t = &turn{places: c.cfg.Handshakes, give: ctx.Done(), due: c.at(c.clock.read)}
	}
	a := answer{close: closedTLS, why: failed(errNoHandshake)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil { // a hook's
				a = c.ended(v)
			}
		}()
		a = c.shakeHands(secure(c.raw, c.tlsConfig(), t), began)
	}()
	<-done
	return a
}

// errNoHandshake is the failure of a handshake that a callback of the configuration
// ended with its goroutine.
var errNoHandshake = errors.New("smtp: the goroutine of the handshake was ended")

// shakeHands is handshake's goroutine.
func (c *Conn) shakeHands(s *secured, began time.Duration) answer {
	err := c.ask("tls handshake", func() error { // it calls back into the configuration
		defer s.wire.established()
		return s.Handshake()
	})
	c.mu.Lock()
	c.waiting = false
	drained := c.draining
	if err == nil {
		c.tls = s
	}
	c.mu.Unlock()
	switch {
	case errors.Is(err, ErrNoTurn):
		c.hit("limits.handshakes", int64(cap(c.cfg.Handshakes))+1, int64(cap(c.cfg.Handshakes)))
	case errors.Is(err, os.ErrDeadlineExceeded) && !drained:
		err = fmt.Errorf("smtp: no handshake in time: timeouts.tls: %w", err)
	}
	if err != nil && c.cfg.TLSMode == TLSImplicit && !s.wire.heard {
		if a := c.broken(err); a.close == closedEOF || a.close == closedReset {
			return a // who left without a word has not tried: a balancer that looks whether we are there
		}
	}
	if c.cfg.OnHandshake != nil {
		state := s.ConnectionState()
		c.cfg.OnHandshake(c, &state, c.now()-began, err)
	}
	switch {
	case err == nil:
		c.nc = s
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
	c.clock = clock{began: notBegun}
	if c.timeouts().TLS > 0 {
		due := after(now, c.timeouts().TLS)
		c.clock.read, c.clock.write = due, due
	}
	// An error means that the connection is closed: the handshake fails.
	_ = c.raw.SetDeadline(c.at(c.clock.read))
	return true
}

// tlsConfig is the configuration without session tickets, unless they are asked
// for: they break the senders of a large provider (golang/go#70232), and a server
// that is connected to by other servers hardly needs them.
func (c *Conn) tlsConfig() *tls.Config {
	given := c.cfg.TLS
	if c.cfg.SessionTickets || given.SessionTicketsDisabled && given.GetConfigForClient == nil {
		return given
	}
	config := withoutTickets(given)
	if choose := given.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			return withoutTickets(chosen), nil
		}
	}
	return config
}

func withoutTickets(given *tls.Config) *tls.Config {
	config := given.Clone()
	config.SessionTicketsDisabled = true
	return config
}
