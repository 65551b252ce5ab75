package smtp

import (
	"bytes"
	"errors"
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
//
// An idle connection's goroutine stands here: this frame, and those that led to
// it, are what its stack cannot shrink below. Hence the split from nextLine.
func (c *Conn) readCommand() ([]byte, error) {
	c.clock.began = notBegun
	for {
		line, ready, err := c.nextLine()
		if ready || err != nil {
			return line, err
		}
		var n int
		if err = c.await(); err == nil {
			n, err = c.nc.Read(c.in.room())
		}
		if err = c.woken(n, err); err != nil {
			return nil, err
		}
	}
}

// await waits for the peer where that takes less of the stack than reading does.
func (c *Conn) await() error {
	if s, ok := c.nc.(*secured); ok {
		return s.wire.await()
	}
	return nil
}

// nextLine takes a line off the buffer, or prepares for the read that it takes
// to get one.
//
//go:noinline
func (c *Conn) nextLine() (line []byte, ready bool, err error) {
	if !c.encrypted() && c.in.skipped == 0 && c.in.tlsRecord() {
		return nil, false, errTLSRecord
	}
	line, ready = c.in.line(c.limits().CommandLine)
	switch {
	case ready && line == nil:
		return nil, false, errOverlong
	case ready:
		return line, true, nil
	case c.in.skipped > mostSkipped:
		return nil, false, errEndless
	}
	if c.in.burst {
		c.in.enlarge()
	} else {
		c.in.shrink()
	}
	return nil, false, c.beginWait()
}

// line takes one line off the buffer, when a whole one is there. A line longer
// than most, its line end included, is dropped as it comes and in the end is nil.
func (in *input) line(most int) (line []byte, whole bool) {
	unread := in.unread()
	i := bytes.IndexByte(unread, '\n')
	if i < 0 {
		if in.skipped > 0 || len(unread) >= most {
			in.skipped += len(unread)
			in.skip(len(unread))
		}
		return nil, false
	}
	in.skip(i + 1)
	if in.skipped > 0 || i+1 > most {
		in.skipped = 0
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
