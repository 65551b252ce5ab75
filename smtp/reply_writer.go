package smtp

import (
	"strconv"
	"strings"
)

const (
	smallOutput   = 128     // what an idle connection keeps: a reply, but for EHLO's
	flushAt       = 4 << 10 // replies waiting to be sent
	mostReplyText = 8 << 10 // of one reply; the rest is cut
	mostReplyLine = 480     // of text in a line: 512 with code and line end (RFC 5321 §4.5.3.1.5)
	mostReplyRows = 100     // lines of one reply; the rest is cut
	replyOverhead = 24      // code, enhanced code and line end of a line
)

// output holds replies back until the input is empty or flushAt wait.
type output struct {
	buf   []byte
	big   *buffer
	err   error // of a write: nothing is written after it
	small [smallOutput]byte
}

func (out *output) init() { out.buf = out.small[:0] }

// put writes one reply: the only place that does. The reply goes out with the
// next flush.
func (c *Conn) put(r *Reply) {
	text := r.Text
	if len(text) > mostReplyText {
		text = text[:mostReplyText]
	}
	worst := len(text) + (mostReplyRows+len(text)/mostReplyLine+2)*replyOverhead
	if !strings.Contains(text, "\n") {
		worst = len(text) + (len(text)/mostReplyLine+1)*replyOverhead
	}
	c.out.ensure(worst)
	from := len(c.out.buf)
	c.out.buf = appendReply(c.out.buf, r.Code, r.Enhanced, text)
	if c.cfg.OnDialogue != nil {
		for line := range strings.Lines(string(c.out.buf[from:])) {
			c.cfg.OnDialogue(c, false, strings.TrimSuffix(line, "\r\n"))
		}
	}
	if len(c.out.buf) >= flushAt {
		_ = c.flush() // kept in out.err: the next fill reports it
	}
}

// ensure makes room for n octets more, which with flushAt waiting always fit
// into a big buffer.
func (out *output) ensure(n int) {
	if len(out.buf)+n <= cap(out.buf) || out.big != nil {
		return
	}
	out.big = buffers.Get().(*buffer)
	out.buf = append(out.big[:0], out.buf...)
}

// flush sends what waits.
func (c *Conn) flush() error {
	if len(c.out.buf) == 0 || c.out.err != nil {
		return c.out.err
	}
	err := c.beginWrite()
	if err == nil {
		var n int
		n, err = c.nc.Write(c.out.buf)
		c.bytesOut += int64(n)
	}
	c.out.err = err
	if c.out.big != nil {
		buffers.Put(c.out.big)
		c.out.big = nil
	}
	c.out.init()
	return err
}

// appendReply appends r's lines. Octets of the text that have no place in a
// reply are replaced, and long lines broken.
func appendReply(b []byte, code int, enhanced EnhancedCode, text string) []byte {
	for rows := 1; ; rows++ {
		line, rest, more := strings.Cut(text, "\n")
		if len(line) > mostReplyLine {
			line, rest, more = text[:mostReplyLine], text[mostReplyLine:], true
		}
		more = more && rows < mostReplyRows
		b = appendCode(b, code)
		if more {
			b = append(b, '-')
		} else if line != "" || enhanced != (EnhancedCode{}) {
			b = append(b, ' ')
		}
		if enhanced != (EnhancedCode{}) {
			b = appendEnhanced(b, enhanced)
			if line != "" {
				b = append(b, ' ')
			}
		}
		b = appendText(b, line)
		b = append(b, '\r', '\n')
		if !more {
			return b
		}
		text = rest
	}
}

func appendCode(b []byte, code int) []byte {
	return append(b, byte('0'+code/100%10), byte('0'+code/10%10), byte('0'+code%10))
}

func appendEnhanced(b []byte, e EnhancedCode) []byte {
	for i, n := range e {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return b
}

// appendText appends s with all but printable ASCII replaced, so that no text
// can end a line or reach a terminal as a control sequence.
func appendText(b []byte, s string) []byte {
	from := len(b)
	b = append(b, s...)
	for i := from; i < len(b); i++ {
		if b[i] < ' ' || b[i] > '~' {
			b[i] = '?'
		}
	}
	return b
}

// sendable is r when it may be sent as a refusal, repaired where its enhanced
// code does not fit its code; nil when it is none: a Session must refuse with
// 4xx or 5xx.
func sendable(r *Reply) *Reply {
	if r == nil || r.Code < 400 || r.Code > 599 {
		return nil
	}
	e := r.Enhanced
	if e == (EnhancedCode{}) || e[0] == r.Code/100 && e[1] >= 0 && e[1] <= 999 && e[2] >= 0 && e[2] <= 999 {
		return r
	}
	return &Reply{Code: r.Code, Text: r.Text}
}
