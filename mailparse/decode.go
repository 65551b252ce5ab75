package mailparse

import "strings"

// decoder takes off a transfer encoding (RFC 2045 §6), as leniently as can be:
// it never fails. Octets are given to it in any pieces.
type decoder interface {
	// decode appends to dst what src stands for.
	decode(dst, src []byte) []byte
	// flush appends what is left at the end.
	flush(dst []byte) []byte
	// junk says what was wrong, or "".
	junk() string
}

// encodingName is the name of a transfer encoding; "" for one that encodes
// nothing.
func encodingName(s string) string {
	s, _, _ = strings.Cut(s, ";")
	s = strings.Trim(strings.ToLower(clean(s)), ` "'`)
	switch s {
	case "7bit", "8bit", "binary":
		return ""
	}
	return s
}

func knownEncoding(name string) bool {
	return name == "" || name == "base64" || name == "quoted-printable"
}

func newDecoder(encoding string) decoder {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return &qpDecoder{}
	}
	return identity{}
}

type identity struct{}

func (identity) decode(dst, src []byte) []byte { return append(dst, src...) }
func (identity) flush(dst []byte) []byte       { return dst }
func (identity) junk() string                  { return "" }

// base64Decoder passes over what is not of the alphabet, and goes on behind
// padding: some programs encode in pieces and join them.
type base64Decoder struct {
	bits  uint32
	n     int // sextets in bits
	odd   bool
	other bool
}

// sextets is the value of each octet plus one; 0 is none of the alphabet.
var sextets = func() (t [256]byte) {
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i + 1)
	}
	return t
}()

func (d *base64Decoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		v := sextets[c]
		if v == 0 {
			switch c {
			case '=':
				dst = d.flush(dst)
			case ' ', '\t', '\r', '\n':
			default:
				d.other = true
			}
			continue
		}
		d.bits = d.bits<<6 | uint32(v-1)
		if d.n++; d.n == 4 {
			dst = append(dst, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
			d.bits, d.n = 0, 0
		}
	}
	return dst
}

func (d *base64Decoder) flush(dst []byte) []byte {
	switch d.n {
	case 1:
		d.odd = true
	case 2:
		dst = append(dst, byte(d.bits>>4))
	case 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return dst
}

func (d *base64Decoder) junk() string {
	if d.other || d.odd {
		return "the base64 has octets that are none; they are passed over"
	}
	return ""
}

// qpDecoder reads quoted-printable (RFC 2045 §6.7). What is no encoding stands
// for itself.
type qpDecoder struct {
	state  qpState
	high   byte   // the first digit
	spaces []byte // held: at the end of a line they were added on the way
	other  bool
}

type qpState int

const (
	qpText  qpState = iota
	qpEqual         // behind "="
	qpDigit         // behind "=" and a digit
	qpSoft          // behind "=" and white space
	qpBreak         // behind "=" and CR
)

// maxSpaces is how many octets of white space are held.
const maxSpaces = 998

func (d *qpDecoder) decode(dst, src []byte) []byte {
	for _, c := range src {
		dst = d.octet(dst, c)
	}
	return dst
}

func (d *qpDecoder) octet(dst []byte, c byte) []byte {
	switch d.state {
	case qpEqual:
		switch _, hex := unhex(c); {
		case hex:
			d.high, d.state = c, qpDigit
			return dst
		case c == '\n':
			d.state = qpText
			return dst
		case c == '\r':
			d.state = qpBreak
			return dst
		case c == ' ' || c == '\t':
			d.spaces, d.state = append(d.spaces[:0], c), qpSoft
			return dst
		}
		dst = d.literal(dst, '=')
	case qpDigit:
		high, _ := unhex(d.high)
		if low, hex := unhex(c); hex {
			d.state = qpText
			return append(dst, high<<4|low)
		}
		dst = d.literal(dst, '=', d.high)
	case qpSoft:
		switch {
		case (c == ' ' || c == '\t') && len(d.spaces) < maxSpaces:
			d.spaces = append(d.spaces, c)
			return dst
		case c == '\n':
			d.spaces, d.state = d.spaces[:0], qpText
			return dst
		case c == '\r':
			d.spaces, d.state = d.spaces[:0], qpBreak
			return dst
		}
		dst = d.literal(dst, '=')
		dst = d.release(dst)
	case qpBreak:
		d.state = qpText
		if c == '\n' {
			return dst
		}
	}
	return d.plain(dst, c)
}

// plain takes an octet that is not part of an encoding.
func (d *qpDecoder) plain(dst []byte, c byte) []byte {
	switch c {
	case '=':
		dst = d.release(dst)
		d.state = qpEqual
		return dst
	case ' ', '\t':
		if len(d.spaces) == maxSpaces {
			dst = d.release(dst)
		}
		d.spaces = append(d.spaces, c)
		return dst
	case '\r', '\n':
		d.spaces = d.spaces[:0]
	default:
		dst = d.release(dst)
	}
	return append(dst, c)
}

func (d *qpDecoder) release(dst []byte) []byte {
	dst = append(dst, d.spaces...)
	d.spaces = d.spaces[:0]
	return dst
}

func (d *qpDecoder) literal(dst []byte, c ...byte) []byte {
	d.other, d.state = true, qpText
	return append(dst, c...)
}

// flush ends the text: white space and a soft line break at its end are dropped.
func (d *qpDecoder) flush(dst []byte) []byte {
	if d.state == qpDigit {
		dst = d.literal(dst, '=', d.high)
	}
	d.spaces, d.state = d.spaces[:0], qpText
	return dst
}

func (d *qpDecoder) junk() string {
	if d.other {
		return "the quoted-printable has a = that encodes nothing; it is left as it stands"
	}
	return ""
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
