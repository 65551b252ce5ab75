package smtp

import (
	"bytes"
	"errors"
	"time"
)

// mostSkipped is how much of an overlong command line is read through; past it
// the connection closes.
const mostSkipped = 16 << 20

var (
	errOverlong  = errors.New("smtp: command line too long")
	errEndless   = errors.New("smtp: command line without end")
	errTLSRecord = errors.New("smtp: TLS record in clear")
)

// readCommand waits for a command line and returns it without its line end. It
// is valid until the next read. The line end is CRLF; a bare LF is taken for it
// too, as many servers do: nothing that follows is text, so nothing can be
// smuggled. A line over the limit is read through and is errOverlong.
func (c *Conn) readCommand() ([]byte, error) {
	var start time.Time
	for {
		if !c.encrypted() && c.in.tlsRecord() {
			return nil, errTLSRecord
		}
		line, whole := c.in.line(c.limits.CommandLine)
		switch {
		case whole && line == nil:
			return nil, errOverlong
		case whole:
			return line, nil
		case c.in.w-c.in.r >= c.limits.CommandLine:
			return nil, c.skipLine(start)
		}
		if start.IsZero() {
			start = time.Now()
		}
		if c.in.burst {
			c.in.enlarge()
		} else {
			c.in.shrink()
		}
		if err := c.fillCommand(start); err != nil {
			return nil, err
		}
	}
}

// skipLine reads through the rest of a line that is too long already.
func (c *Conn) skipLine(start time.Time) error {
	if start.IsZero() {
		start = time.Now()
	}
	c.in.enlarge()
	for skipped := 0; skipped <= mostSkipped; {
		unread := c.in.unread()
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			c.in.skip(i + 1)
			return errOverlong
		}
		skipped += len(unread)
		c.in.skip(len(unread))
		if err := c.fillCommand(start); err != nil {
			return err
		}
	}
	return errEndless
}

// line takes one line off the buffer, when a whole one is there. A line longer
// than most, its line end included, is taken off too and is nil.
func (in *input) line(most int) (line []byte, whole bool) {
	unread := in.unread()
	i := bytes.IndexByte(unread, '\n')
	if i < 0 {
		return nil, false
	}
	in.skip(i + 1)
	if i+1 > most {
		return nil, true
	}
	line = unread[:i]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, true
}

// tlsRecord reports whether the peer speaks TLS: a handshake record of SSL 3.0
// or later. Its first octets are in no command.
func (in *input) tlsRecord() bool {
	u := in.unread()
	return len(u) >= 2 && u[0] == 0x16 && u[1] == 0x03
}
