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
	errDrain   = errors.New("smtp: draining")
)

// clock remembers what deadlines are set on the connection. Setting one costs
// more than looking at the time, so a deadline that comes too early is left
// alone: when it strikes, the read is tried again with the right one.
type clock struct {
	read  time.Time // zero: none is set
	write time.Time
}

// read reads once. It gives up with errTimeout at due (zero: never) and, when a
// drain may interrupt it, with errDrain.
func (c *Conn) read(b []byte, due time.Time, interruptible bool) (int, error) {
	for range 1000 {
		if err := c.beginRead(due, interruptible); err != nil {
			return 0, err
		}
		n, err := c.nc.Read(b)
		drained := false
		if interruptible {
			c.mu.Lock()
			c.waiting, drained = false, c.draining
			c.mu.Unlock()
		}
		c.bytesIn += int64(n)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			continue // allowed of an io.Reader, if odd
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case drained:
			return 0, errDrain
		case !due.IsZero() && !time.Now().Before(due):
			return 0, errTimeout
		}
		c.clock.read = time.Time{} // it struck early: set the right one
		if due.IsZero() {
			if err := c.raw.SetReadDeadline(due); err != nil {
				return 0, err
			}
		}
	}
	return 0, io.ErrNoProgress
}

// beginRead sets the deadline when it must be set. It shares c.mu with drain,
// so that a deadline in the past is never overwritten.
func (c *Conn) beginRead(due time.Time, interruptible bool) error {
	if interruptible {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.draining {
			return errDrain
		}
		c.waiting = true
	}
	if due.IsZero() || !c.clock.read.IsZero() && !c.clock.read.After(due) {
		return nil
	}
	c.clock.read = due
	return c.raw.SetReadDeadline(due)
}

// beginWrite sees to it that a write may take Timeouts.Write, and a sixteenth
// of it more at most.
func (c *Conn) beginWrite() error {
	if c.timeouts.Write == 0 {
		return nil
	}
	due := time.Now().Add(c.timeouts.Write)
	if !c.clock.write.Before(due) {
		return nil
	}
	c.clock.write = due.Add(c.timeouts.Write / 16)
	return c.raw.SetWriteDeadline(c.clock.write)
}

// fill waits for input, having sent what was held back: no reply is kept from a
// peer that we wait for (RFC 2920 §3.2).
func (c *Conn) fill(due time.Time, interruptible bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	n, err := c.read(c.in.room(), due, interruptible)
	c.in.added(n)
	return err
}

// fillCommand is fill for the rest of a command line that we wait for since
// start.
func (c *Conn) fillCommand(start time.Time) error {
	interruptible := c.phase() != phaseBDAT // the text of a message may come to its end
	now := start
	for {
		due, look := c.commandDue(start, now)
		err := c.fill(earlier(due, look), interruptible)
		if !interruptible {
			c.pace.waited += time.Since(now)
		}
		if err != errTimeout {
			return err
		}
		now = time.Now()
		if !due.IsZero() && !now.Before(due) || c.cfg.Busy() {
			return errTimeout
		}
	}
}

// commandDue is when a wait for a command that began at start is over, and when
// to look at Config.Busy in between (zero: never).
func (c *Conn) commandDue(start, now time.Time) (due, look time.Time) {
	if c.timeouts.Command > 0 {
		due = start.Add(c.timeouts.Command)
	}
	switch c.phase() {
	case phaseClear, phaseStart, phaseReady:
		if c.timeouts.Session > 0 {
			due = earlier(due, c.started.Add(c.timeouts.Session))
		}
	case phaseBDAT:
		if left, limited := c.pace.left(&c.timeouts); limited {
			due = earlier(due, now.Add(left))
		}
	}
	if c.cfg.Busy != nil {
		look = start.Add(now.Sub(start).Truncate(busyCommand) + busyCommand)
	}
	return due, look
}

// fillText is fill for message text.
func (c *Conn) fillText() error {
	if err := c.flush(); err != nil {
		return err
	}
	now := time.Now()
	var due time.Time
	if left, limited := c.pace.left(&c.timeouts); limited {
		due = now.Add(min(left, c.timeouts.Data))
	}
	before := c.bytesIn
	err := c.fill(due, false)
	c.pace.waited += time.Since(now)
	c.pace.octets += c.bytesIn - before
	return err
}

// pace is how fast the text of one message comes. Only the time spent waiting
// for the peer counts: what a slow Body takes is not the peer's fault.
type pace struct {
	waited time.Duration
	octets int64
}

// left is how much longer we wait for text altogether, and whether there is a
// limit: Timeouts.Data, or what the octets so far have earned at the rate asked
// for when that is more.
func (p *pace) left(t *Timeouts) (left time.Duration, limited bool) {
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

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
