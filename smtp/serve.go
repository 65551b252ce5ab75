package smtp

import (
	"context"
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
// Serve calls the Session and the hooks of cfg from its own goroutine only. It
// starts another for a handshake, and waits for its end: what cfg.TLS calls, and
// hooks about the handshake, are called from there. The error is what broke the
// connection, as in Closing.Err: nil when it ended as connections do.
func Serve(ctx context.Context, nc net.Conn, cfg *Config, open func(context.Context, *Conn) (Session, error)) error {
	if cfg.TLSMode != TLSDisabled && cfg.TLS == nil {
		return noTLS(nc)
	}
	c := newConn(nc, cfg)
	ctx, stop := c.attach(ctx)
	defer stop()
	c.run(ctx, open)
	return c.result()
}

func noTLS(nc net.Conn) error {
	return errors.Join(errors.New("smtp: TLSMode without TLS"), nc.Close())
}

// result is what Serve returns.
//
//go:noinline
func (c *Conn) result() error { return c.over.detail().err }

// attach makes the context of the Session's methods, and has ctx's end begin the
// drain until stop is called.
//
//go:noinline
func (c *Conn) attach(ctx context.Context) (live context.Context, stop func() bool) {
	live, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.draining = ctx.Err() != nil
	return live, context.AfterFunc(ctx, c.drain)
}

// run is the dialogue. What it calls leaves what it came to in c.over: see
// readCommand about the size of this frame.
func (c *Conn) run(ctx context.Context, open func(context.Context, *Conn) (Session, error)) {
	defer c.close()
	c.begin(ctx, open)
	for c.over.close == goesOn {
		line, err := c.readCommand()
		c.react(ctx, line, err)
	}
}

// react answers a command, or an error of waiting for one.
//
//go:noinline
func (c *Conn) react(ctx context.Context, line []byte, err error) {
	if err != nil {
		c.settle(c.lost(err))
		return
	}
	c.settle(c.obey(ctx, line))
}

// settle gives an answer. It is kept only when it is the last: the text of a
// reply that went out is nothing for an idle connection to hold.
func (c *Conn) settle(a answer) {
	if a = c.give(a); a.close != goesOn {
		c.over = a
	}
}

// begin brings the connection to its banner.
//
//go:noinline
func (c *Conn) begin(ctx context.Context, open func(context.Context, *Conn) (Session, error)) {
	c.settle(c.greet(ctx, open))
}

func (c *Conn) greet(ctx context.Context, open func(context.Context, *Conn) (Session, error)) answer {
	if c.cfg.OnConnect != nil {
		c.cfg.OnConnect(c)
	}
	c.setPhase(phaseStart)
	switch c.cfg.TLSMode {
	case TLSRequired:
		c.setPhase(phaseClear)
	case TLSImplicit:
		if a := c.handshake(ctx); a.close != goesOn {
			return a
		}
	}
	if c.isDraining() {
		return answer{reply: replyDrain, stage: stageConnect, why: because("drain"), close: closedDrain}
	}
	if err := c.open(ctx, open); err != nil {
		a := refusal(stageConnect, err)
		a.close = closedRefused
		a.reply = atConnect(a.reply)
		return a
	}
	if c.cfg.OnAccepted != nil {
		c.cfg.OnAccepted(c)
	}
	if c.cfg.LMTP {
		return answer{reply: replyBannerLMTP}
	}
	return answer{reply: replyBanner}
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

// close ends the connection: the peer gets what it is still owed, then the
// Session learns that it is over.
func (c *Conn) close() {
	if v := recover(); v != nil {
		c.over = c.ended(v)
	}
	over, last := c.over.close, c.over.reply != nil
	err := c.over.detail().err
	if last {
		err = nil // a refusal's, which was reported with it
	}
	if broken := c.flush(); broken != nil {
		last = false
		if over != closedQuit { // who has said QUIT need not wait for the reply
			over, err = closedWrite, broken
		}
	}
	c.cancel()
	c.abort()
	if last {
		c.closeWrite()
	}
	if trouble := c.closeSession(); err == nil && c.over.reply == nil {
		err = trouble
	}
	if last {
		c.linger()
	}
	_ = c.raw.Close() // it is over: nobody could do anything about an error
	c.in.release()
	c.over = answer{close: over, why: failed(err)}
	if c.cfg.OnClosed != nil {
		c.cfg.OnClosed(c, Closing{
			Reason: over.String(), Err: err, Duration: c.now(),
			Messages: c.messages, BytesIn: c.bytesIn, BytesOut: c.bytesOut,
		})
	}
}

// ended is how a connection ends by a panic.
func (c *Conn) ended(v any) answer {
	c.panicked("smtp", v)
	return answer{close: closedPanic, why: failed(errors.New("smtp: panic"))}
}

func (c *Conn) closeSession() error {
	if c.session == nil {
		return nil
	}
	return c.ask("session close", c.session.Close)
}

// closeWrite tells the peer that nothing more comes. An error means that it has
// gone already.
func (c *Conn) closeWrite() {
	if s, ok := c.nc.(*secured); ok {
		_ = s.CloseWrite()
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
