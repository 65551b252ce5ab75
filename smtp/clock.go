package smtp

import (
	"errors"
	"io"
	"math"
	"os"
	"time"
)

// busyCommand is what a peer has for a command while Config.Busy.
const busyCommand = 30 * time.Second

var (
	errTimeout = errors.New("smtp: the peer took too long")
	errBusy    = errors.New("smtp: the peer took too long while connections run out")
	errDrain   = errors.New("smtp: draining")
)

// clock remembers what deadlines are set on the connection. Setting one costs
// more than looking at the time, so a deadline that comes too early is left
// alone: when it strikes, the read is tried again with the right one.
//
// Its times are those that have passed since Conn.started: they are cheaper to
// find, and a third of the size.
type clock struct {
	read  time.Duration // 0: none is set
	write time.Duration

	// The wait for a command. It is kept here and not in local variables: a
	// stack that waits must be small. Others look at it with Conn.mu held and only
	// while Conn.waiting.
	began time.Duration // notBegun: it has not
	asked time.Duration // when the read in question began
	due   time.Duration // its end; 0: never
}

const notBegun = -1

// now is the time as clock has it.
func (c *Conn) now() time.Duration { return time.Since(c.started) }

// at is the time that others understand; the zero Time for 0.
func (c *Conn) at(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return c.started.Add(d)
}

// read reads text once. It gives up with errTimeout at due (0: never).
func (c *Conn) read(b []byte, due time.Duration) (int, error) {
	for range 1000 {
		if err := c.setReadDeadline(due); err != nil {
			return 0, err
		}
		n, err := c.nc.Read(b)
		c.bytesIn += int64(n)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			continue // allowed of an io.Reader, if odd
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case due != 0 && c.now() >= due:
			return 0, errTimeout
		}
		if err := c.clearReadDeadline(); err != nil { // it struck early
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// setReadDeadline sets the deadline when the one set does not come as early.
func (c *Conn) setReadDeadline(due time.Duration) error {
	if due == 0 || c.clock.read != 0 && c.clock.read <= due {
		return nil
	}
	c.clock.read = due
	return c.raw.SetReadDeadline(c.at(due))
}

func (c *Conn) clearReadDeadline() error {
	c.clock.read = 0
	return c.raw.SetReadDeadline(time.Time{})
}

// beginWrite sees to it that a write may take Timeouts.Write, and a sixteenth
// of it more at most.
func (c *Conn) beginWrite() error {
	if c.timeouts().Write == 0 {
		return nil
	}
	due := after(c.now(), c.timeouts().Write)
	if c.clock.write >= due {
		return nil
	}
	c.clock.write = after(due, c.timeouts().Write/16)
	return c.raw.SetWriteDeadline(c.at(c.clock.write))
}

// beginWait prepares for reading more of a command line, having sent what was
// held back: no reply is kept from a peer that we wait for (RFC 2920 §3.2). From
// here until woken a drain may interrupt the read.
//
//go:noinline
func (c *Conn) beginWait() error {
	if err := c.flush(); err != nil {
		return err
	}
	now := c.now()
	if c.clock.began == notBegun {
		c.clock.began = now
	}
	c.clock.asked = now
	due, look := c.commandDue(c.clock.began, now)
	c.clock.due = due
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted() {
		return errDrain
	}
	c.waiting = true
	// With c.mu held, for drain and Hurry set a deadline in the past.
	return c.setReadDeadline(earlier(due, look))
}

// interrupted reports, with c.mu held, whether a drain ends a wait for a command:
// not between chunks, the text of a message may come to its end.
func (c *Conn) interrupted() bool { return c.draining && c.phase() != phaseBDAT }

// Hurry is for when Config.Busy begins to hold: a peer that was waited for longer
// already than a busy server waits is given up now, and not when the connection
// next looks at Busy, up to half a minute later. It may be called from any
// goroutine, at any time, and as often as one likes.
func (c *Conn) Hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && c.clock.began != notBegun && c.now()-c.clock.began >= busyCommand {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // an error means that the read ends by itself
	}
}

// woken looks at what the read after beginWait came to. No error means that the
// buffer is to be looked at again.
//
//go:noinline
func (c *Conn) woken(n int, err error) error {
	c.mu.Lock()
	drained := c.interrupted()
	c.waiting = false
	c.mu.Unlock()
	c.bytesIn += int64(n)
	c.in.added(n)
	now := c.now()
	if c.phase() == phaseBDAT {
		c.pace.waited += now - c.clock.asked
	}
	switch {
	case n > 0:
		c.idle = 0
		return nil
	case err == nil:
		if c.idle++; c.idle > 1000 {
			return io.ErrNoProgress
		}
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case drained:
		return errDrain
	case c.clock.due != 0 && now >= c.clock.due:
		return errTimeout
	case c.cfg.Busy != nil && now-c.clock.began >= busyCommand && c.cfg.Busy():
		return errBusy
	}
	return c.clearReadDeadline() // it struck early
}

// commandDue is when a wait for a command that began at start is over, and when
// to look at Config.Busy in between (0: never).
func (c *Conn) commandDue(start, now time.Duration) (due, look time.Duration) {
	if c.timeouts().Command > 0 {
		due = after(start, c.timeouts().Command)
	}
	switch c.phase() {
	case phaseClear, phaseStart, phaseReady:
		if c.timeouts().Session > 0 {
			due = earlier(due, c.timeouts().Session)
		}
	case phaseBDAT:
		if left, limited := c.pace.left(c.timeouts()); limited {
			due = earlier(due, after(now, left))
		}
	}
	if c.cfg.Busy != nil {
		look = start + (now - start).Truncate(busyCommand) + busyCommand
	}
	return due, look
}

// fillText waits for message text, having sent what was held back.
func (c *Conn) fillText() error {
	if err := c.flush(); err != nil {
		return err
	}
	now := c.now()
	var due time.Duration
	if left, limited := c.pace.left(c.timeouts()); limited {
		due = after(now, min(left, c.timeouts().Data))
	}
	n, err := c.read(c.in.room(), due)
	c.in.added(n)
	c.pace.waited += c.now() - now
	return err
}

// pace is how fast the text of one message comes. Only the time spent waiting
// for the peer counts: what a slow Body takes is not the peer's fault. All text
// counts, however it was read: that of a small chunk comes with its command.
type pace struct {
	waited time.Duration
	octets int64
}

// left is how much longer we wait for text altogether, and whether there is a
// limit: Timeouts.Data, or what the octets so far have earned at the rate asked
// for when that is more.
func (p *pace) left(t Timeouts) (left time.Duration, limited bool) {
	if t.Data == 0 {
		return 0, false
	}
	if t.DataRate == 0 {
		return t.Data, true
	}
	earned := time.Duration(math.MaxInt64)
	if s := p.octets / int64(t.DataRate); s < math.MaxInt64/int64(time.Second) {
		earned = time.Duration(s) * time.Second
	}
	return max(t.Data, earned) - p.waited, true
}

// after is the time d after now; never past what a Duration holds, which is as
// good as never.
func after(now, d time.Duration) time.Duration {
	if d > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + d
}

// earlier is the earlier of two times, of which 0 is never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
