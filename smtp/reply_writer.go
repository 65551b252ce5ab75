package smtp

import (
	"strconv"
	"strings"
)

const (
	flushAt       = 4 << 10 // replies waiting to be sent
	mostReplyText = 8 << 10 // of one reply; the rest is cut
	mostReplyLine = 480     // of text in a line: 512 with code and line end (RFC 5321 §4.5.3.1.5)
	mostReplyRows = 100     // lines of one reply; the rest is cut
	replyOverhead = 24      // code, enhanced code and line end of a line
)

// The longest reply fits into a buffer in which less than flushAt waits.
const _ = uint(bigBuffer - flushAt - mostReplyText - mostReplyRows*replyOverhead)

// output holds replies back until the input is empty or flushAt wait. Its buffer
// is lent while some do.
type output struct {
	lent *buffer // nil: none wait
	n    int     // lent[:n] wait
	err  error   // of a write: nothing is written after it
}

// put writes one reply: the only place that does. The reply goes out with the
// next flush.
func (c *Conn) put(r *Reply) {
	text := r.Text
	if len(text) > mostReplyText {
		text = text[:mostReplyText]
	}
	out := &c.out
	if out.lent == nil {
		out.lent = buffers.Get().(*buffer)
	}
	from := out.n
	out.n = len(appendReply(out.lent[:from], r.Code, r.Enhanced, text))
	if c.cfg.OnDialogue != nil {
		c.showReply(string(out.lent[from:out.n]))
	}
	if out.n >= flushAt {
		_ = c.flush() // kept in out.err: the next fill reports it
	}
}

func (c *Conn) showReply(text string) {
	for line := range strings.Lines(text) {
		c.cfg.OnDialogue(c, false, strings.TrimSuffix(line, "\r\n"))
	}
}

// flush sends what waits.
func (c *Conn) flush() error {
	out := &c.out
	if out.lent == nil {
		return out.err
	}
	if out.err == nil {
		out.err = c.beginWrite()
	}
	if out.err == nil {
		var n int
		n, out.err = c.nc.Write(out.lent[:out.n])
		c.bytesOut += int64(n)
	}
	buffers.Put(out.lent)
	out.lent, out.n = nil, 0
	return out.err
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
