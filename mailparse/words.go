package mailparse

import (
	"strings"
)

// Decode reads the text of a header field: encoded words (RFC 2047), and octets
// in no declared charset, which are UTF-8 if they can be, else windows-1252.
// Encoded words that stand side by side are joined before they are decoded, for
// many programs cut characters in two. It never fails: what is no encoded word
// stands for itself. The text has no line ends and no control characters.
func Decode(value string) string {
	if !strings.Contains(value, "=?") {
		return clean(guess([]byte(value)))
	}
	var d wordDecoder
	last := strings.LastIndex(value, "?=")
	for i := 0; i < len(value); {
		if value[i] == '=' && i < last {
			if w, n := encodedWord(value[i:]); n > 0 {
				d.word(w)
				i += n
				continue
			}
		}
		next := strings.IndexByte(value[i+1:], '=')
		if next < 0 {
			next = len(value) - i - 1
		}
		d.text(value[i : i+1+next])
		i += 1 + next
	}
	d.flush()
	return clean(d.out.String())
}

// word is an encoded word, its encoding taken off.
type word struct {
	charset string
	text    []byte
}

// maxCharset is the octets of a charset's name, its language included.
const maxCharset = 64

// encodedWord reads the encoded word at the start of s, n octets of it; n is 0
// when there is none. Beyond RFC 2047 it lets pass spaces inside and any length.
func encodedWord(s string) (w word, n int) {
	rest, ok := strings.CutPrefix(s, "=?")
	if !ok {
		return word{}, 0
	}
	name, rest, ok := strings.Cut(rest[:min(len(rest), maxCharset+4)], "?")
	if !ok || name == "" || len(name) > maxCharset || len(rest) < 2 || rest[1] != '?' || strings.ContainsAny(name, " \t=") {
		return word{}, 0
	}
	encoding := rest[0] | 0x20
	if encoding != 'b' && encoding != 'q' {
		return word{}, 0
	}
	start := len("=?") + len(name) + len("?q?")
	length := strings.Index(s[start:], "?=")
	if length < 0 {
		return word{}, 0
	}
	w.charset, _, _ = strings.Cut(name, "*") // RFC 2231 §5
	text := s[start : start+length]
	if encoding == 'b' {
		var d base64Decoder
		w.text = d.flush(d.decode(nil, []byte(text)))
	} else {
		w.text = wordQ(text)
	}
	return w, start + length + len("?=")
}

// wordQ is the Q encoding (RFC 2047 §4.2).
func wordQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s):
			high, ok1 := unhex(s[i+1])
			low, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				out = append(out, c)
				continue
			}
			out = append(out, high<<4|low)
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

// wordDecoder joins encoded words and what stands between them.
type wordDecoder struct {
	out   strings.Builder
	run   word   // words of one charset, side by side
	open  bool   // there is a run
	space string // white space behind the run: it counts if no word follows
}

func (d *wordDecoder) word(w word) {
	if d.open && strings.EqualFold(w.charset, d.run.charset) {
		d.run.text = append(d.run.text, w.text...)
		d.space = ""
		return
	}
	if d.open {
		d.space = ""
		d.flush()
	}
	d.run, d.open = w, true
}

func (d *wordDecoder) text(s string) {
	if d.open && strings.Trim(s, " \t") == "" {
		d.space += s
		return
	}
	d.flush()
	d.out.WriteString(guess([]byte(s)))
}

func (d *wordDecoder) flush() {
	if d.open {
		text, _ := toUTF8(d.run.text, d.run.charset) // the best that can be made of it
		d.out.WriteString(text)
		d.out.WriteString(d.space)
		d.open, d.space = false, ""
	}
}
