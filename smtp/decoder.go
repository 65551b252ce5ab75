package smtp

import "bytes"

// textState is what the last octets of the text were.
type textState uint8

const (
	lineStart    textState = iota // the beginning, or a real CRLF
	inLine                        // anything else
	afterCR                       // CR
	afterCRDot                    // bare CR, dot
	afterLF                       // bare LF
	afterLFDot                    // bare LF, dot
	afterDot                      // CRLF, dot: the dot is left out
	afterDotCR                    // CRLF, dot, CR: the CR is held back
	textFinished                  // CRLF, dot, CRLF
)

// suspicion is what was seen that another server might take for the end of the
// text.
type suspicion uint8

const (
	suspectLF suspicion = 1 << iota // a lone dot beside a bare LF
	suspectCR                       // a lone dot beside a bare CR
)

// textSink takes decoded text. It must not keep p.
type textSink interface{ take(p []byte) }

// textDecoder takes the text of DATA off the wire (RFC 5321 §4.5.2): it finds
// the end, which is CRLF.CRLF and nothing else, takes the dot off a line that
// begins with one, if a real CRLF came before, and writes a bare LF as CRLF. A
// bare CR stays. The zero textDecoder is ready for a text. How the text is cut
// into pieces makes no difference.
type textDecoder struct {
	state          textState
	bareLF, bareCR int
	suspect        suspicion

	// Text that is not in the input as one piece is put together here, so that
	// the sink is not called for each line. Only held during decode.
	piece *buffer
	n     int
}

var crlf = []byte("\r\n")

// decode gives the text in p to dst. When the text has ended, done is true and
// used is where the next command begins; else all of p was used.
func (d *textDecoder) decode(p []byte, dst textSink) (used int, done bool) {
	i, from := 0, 0 // p[from:i] was decoded and is not given away yet
	for i < len(p) && d.state != textFinished {
		switch d.state {
		case lineStart:
			if p[i] != '.' {
				d.state = inLine
				continue
			}
			if bytes.HasPrefix(p[i+1:], crlf) { // the usual end, in one piece
				d.give(p[from:i], dst)
				d.state = textFinished
				return i + 3, true
			}
			d.keep(p[from:i], dst)
			i++
			from = i
			d.state = afterDot
		case inLine:
			i, from = d.line(p, i, from, dst)
		default:
			i, from = d.special(p, i, from, dst)
		}
	}
	d.give(p[from:i], dst)
	return i, d.state == textFinished
}

// line goes on to the end of a line, or to a CR in it.
func (d *textDecoder) line(p []byte, i, from int, dst textSink) (int, int) {
	end := len(p)
	lf := bytes.IndexByte(p[i:], '\n')
	if lf >= 0 {
		end = i + lf
	}
	cr := bytes.IndexByte(p[i:end], '\r')
	switch {
	case cr >= 0 && lf >= 0 && i+cr+1 == end:
		d.state = lineStart
		return end + 1, from
	case cr >= 0:
		d.state = afterCR
		return i + cr + 1, from
	case lf >= 0:
		d.bareLF++
		d.state = afterLF
		d.keep(p[from:end], dst)
		d.keep(crlf, dst)
		return end + 1, end + 1
	}
	return end, from
}

// special looks at one octet of where an end of text could be, or be mistaken
// for one.
func (d *textDecoder) special(p []byte, i, from int, dst textSink) (int, int) {
	c := p[i]
	lineEnd := c == '\r' || c == '\n'
	was := d.state
	d.state = inLine // which then looks at c, if it is not used up here
	switch was {
	case afterCR:
		if c == '\n' {
			d.state = lineStart
			return i + 1, from
		}
		d.bareCR++
		if c == '.' {
			d.state = afterCRDot
			return i + 1, from
		}
	case afterCRDot:
		if c == '\r' {
			d.suspect |= suspectCR
		} else if c == '\n' {
			d.suspect |= suspectLF
		}
	case afterLF:
		if c == '.' {
			d.state = afterLFDot
			return i + 1, from
		}
	case afterLFDot:
		if lineEnd {
			d.suspect |= suspectLF
		}
	case afterDot:
		if c == '\r' {
			d.keep(p[from:i], dst)
			d.state = afterDotCR
			return i + 1, i + 1
		}
		if c == '\n' {
			d.suspect |= suspectLF
		}
	case afterDotCR:
		if c == '\n' {
			d.state = textFinished
			return i + 1, i + 1
		}
		d.keep(crlf[:1], dst)
		d.bareCR++
		d.suspect |= suspectCR
		if c == '.' {
			d.state = afterCRDot
			return i + 1, from
		}
	}
	return i, from
}

// keep puts p together with what comes later.
func (d *textDecoder) keep(p []byte, dst textSink) {
	for len(p) > 0 {
		if d.piece == nil {
			d.piece = buffers.Get().(*buffer)
		}
		n := copy(d.piece[d.n:], p)
		d.n += n
		p = p[n:]
		if d.n == len(d.piece) {
			dst.take(d.piece[:])
			d.n = 0
		}
	}
}

// give gives away what was kept, and p.
func (d *textDecoder) give(p []byte, dst textSink) {
	if d.piece != nil {
		d.keep(p, dst)
		if d.n > 0 {
			dst.take(d.piece[:d.n])
		}
		buffers.Put(d.piece)
		d.piece, d.n = nil, 0
		return
	}
	if len(p) > 0 {
		dst.take(p)
	}
}
