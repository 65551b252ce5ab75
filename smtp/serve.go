package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	lingerTime   = time.Second
	lingerOctets = 256 << 10
)

// Serve serves one connection until it is over, closes it, and returns. With
// TLSImplicit the handshake comes first. open makes the connection's Session;
// when it returns an error, the client is refused before the banner: by 421 for
// a *Reply of 4xx, 554 for one of 5xx, and 421 4.3.0 for any other error.
//
// When ctx ends, the connection drains: a client that we wait for gets 421 4.3.2
// at once; one whose message text is coming in may finish it, and gets the 421
// in the place of the next reply. To end a connection by force, close nc or call
// Conn.Close. The contexts that the Session is given carry ctx's values, do not
// end with it, and end with the connection.
//
// Serve calls the Session and the hooks of cfg from its own goroutine only, and
// starts no other. The error is what broke the connection, as in
// Closing.Err: nil when it ended as connections do.
func Serve(ctx context.Context, nc net.Conn, cfg *Config, open func(context.Context, *Conn) (Session, error)) error {
	if cfg.TLSMode != TLSDisabled && cfg.TLS == nil {
		return errors.Join(errors.New("smtp: TLSMode without TLS"), nc.Close())
	}
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := newConn(nc, cfg)
	c.cancel = cancel
	c.draining = ctx.Err() != nil
	stop := context.AfterFunc(ctx, c.drain)
	defer stop()
	var over answer
	func() {
		defer c.close(&over)
		over = c.begin(live, open)
		for over.close == "" {
			over = c.give(c.next(live))
		}
	}()
	return over.err
}

// begin brings the connection to its banner.
func (c *Conn) begin(ctx context.Context, open func(context.Context, *Conn) (Session, error)) answer {
	if c.cfg.OnConnect != nil {
		c.cfg.OnConnect(c)
	}
	c.setPhase(phaseStart)
	switch c.cfg.TLSMode {
	case TLSRequired:
		c.setPhase(phaseClear)
	case TLSImplicit:
		if a := c.handshake(); a.close != "" {
			return a
		}
	}
	if c.isDraining() {
		return c.give(answer{reply: replyDrain, stage: stageConnect, reason: "drain", close: closedDrain})
	}
	if err := c.open(ctx, open); err != nil {
		a := refusal(stageConnect, err)
		a.close = closedRefused
		a.reply = atConnect(a.reply)
		return c.give(a)
	}
	if c.cfg.OnAccepted != nil {
		c.cfg.OnAccepted(c)
	}
	return c.give(answer{reply: replyBanner})
}

func (c *Conn) open(ctx context.Context, open func(context.Context, *Conn) (Session, error)) error {
	return c.ask("session open", func() error {
		session, err := open(ctx, c)
		if err == nil && session == nil {
			err = errors.New("smtp: open returned no Session")
		}
		if err == nil {
			c.session = session
		}
		return err
	})
}

// atConnect is a refusal as it may be given in the banner's place
// (RFC 5321 §4.3.2).
func atConnect(r *Reply) *Reply {
	switch {
	case r == replyInternal:
		return replyInternalConnect
	case r.Temporary():
		return &Reply{421, r.Enhanced, r.Text}
	}
	return &Reply{554, r.Enhanced, r.Text}
}

// next waits for a command and obeys it.
func (c *Conn) next(ctx context.Context) answer {
	line, err := c.readCommand()
	if err != nil {
		return c.lost(err)
	}
	return c.obey(ctx, line)
}

// close ends the connection: the peer gets what it is still owed, then the
// Session learns that it is over.
func (c *Conn) close(over *answer) {
	if v := recover(); v != nil {
		c.panicked("smtp", v)
		*over = answer{close: closedPanic, err: errors.New("smtp: panic")}
	}
	last := over.reply != nil
	if err := c.flush(); err != nil {
		over.close, over.err, last = closedWrite, err, false
	}
	c.cancel()
	c.abort()
	if last {
		c.closeWrite()
	}
	c.closeSession(over)
	if last {
		c.linger()
	}
	_ = c.raw.Close() // it is over: nobody could do anything about an error
	c.in.release()
	if over.reply != nil && over.close != closedWrite {
		over.err = nil // a refusal's, which was reported with it
	}
	if c.cfg.OnClosed != nil {
		c.cfg.OnClosed(c, Closing{
			Reason: over.close, Err: over.err, Duration: time.Since(c.started),
			Messages: c.messages, BytesIn: c.bytesIn, BytesOut: c.bytesOut,
		})
	}
}

func (c *Conn) closeSession(over *answer) {
	if c.session == nil {
		return
	}
	if err := c.ask("session close", c.session.Close); err != nil && over.err == nil && over.reply == nil {
		over.err = err
	}
}

// closeWrite tells the peer that nothing more comes. An error means that it has
// gone already.
func (c *Conn) closeWrite() {
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// linger reads and drops what the peer still sends: closing with input unread
// makes a reset that would destroy the last reply on its way.
func (c *Conn) linger() {
	c.in.release()
	if c.raw.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for dropped := 0; dropped < lingerOctets; {
		n, err := c.raw.Read(c.in.small[:])
		if err != nil {
			return // its end, or the deadline
		}
		dropped += max(n, 1)
	}
}
