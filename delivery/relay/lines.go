package relay

import (
	"bytes"
	"io"
)

// lines reads a text with every line end a CRLF: a bare CR and a bare LF are what
// one server takes for a line end and the next does not (RFC 5321 §2.3.8), and a
// line end that two servers see differently can hide a command.
type lines struct {
	r   io.Reader
	in  []byte // read, and not yet looked at
	buf []byte
	cr  bool // the last octet was a CR, whose LF is still to be seen
	lf  bool // a LF is owed
	err error
}

func newLines(r io.Reader) *lines { return &lines{r: r, buf: make([]byte, 32<<10)} }

func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if l.lf {
			p[n] = '\n'
			n++
			l.lf = false
			continue
		}
		if len(l.in) == 0 {
			if n > 0 {
				return n, nil
			}
			if err := l.fill(); err != nil {
				return 0, err
			}
			continue
		}
		if l.cr {
			// A CR is written with its LF, whether that is there or not.
			l.cr = false
			if l.in[0] == '\n' {
				l.in = l.in[1:]
			}
			continue
		}
		end := bytes.IndexAny(l.in, "\r\n")
		if end < 0 {
			end = len(l.in)
		}
		if end > 0 {
			k := copy(p[n:], l.in[:end])
			n, l.in = n+k, l.in[k:]
			continue
		}
		l.cr = l.in[0] == '\r'
		l.in = l.in[1:]
		p[n] = '\r'
		n++
		l.lf = true
	}
	return n, nil
}

// fill reads more. At the end of the text, and at its error, there is nothing owed.
func (l *lines) fill() error {
	for len(l.in) == 0 {
		if l.err != nil {
			return l.err
		}
		var n int
		n, l.err = l.r.Read(l.buf)
		l.in = l.buf[:n]
	}
	return nil
}
