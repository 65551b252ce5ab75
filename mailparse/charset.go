package mailparse

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// supersets is charsets that are written as one and meant as another, which holds
// all of it.
var supersets = map[string]string{
	"iso-8859-1":     "windows-1252",
	"iso8859-1":      "windows-1252",
	"latin1":         "windows-1252",
	"gb2312":         "gb18030",
	"gbk":            "gb18030",
	"ks_c_5601-1987": "euc-kr",
	"iso-8859-8-i":   "iso-8859-8",
	"utf8":           "utf-8",
	"cp1252":         "windows-1252",
}

// toUTF8 converts text of a charset. Text in none, and such as is said to be
// ASCII and is not, is UTF-8 if it can be, else windows-1252. problem is "" when
// all is well.
func toUTF8(text []byte, name string) (out, problem string) {
	name = strings.ToLower(strings.Trim(name, ` "'`))
	if to, ok := supersets[name]; ok {
		name = to
	}
	switch name {
	case "", "us-ascii", "ascii", "unknown-8bit", "x-unknown", "default":
		return guess(text), ""
	case "utf-8":
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
		if utf8.Valid(text) {
			return string(text), ""
		}
		return strings.ToValidUTF8(string(text), "\ufffd"), "some of the text is not UTF-8, as which it is declared"
	}
	r, err := charset.Reader(name, bytes.NewReader(text))
	if err != nil {
		return guess(text), fmt.Sprintf("the charset %.40q is not known", name)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return guess(text), fmt.Sprintf("the text is not %.40s, as which it is declared", name)
	}
	return strings.ToValidUTF8(string(b), "\ufffd"), ""
}

func guess(text []byte) string {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if utf8.Valid(text) {
		return string(text)
	}
	out, problem := toUTF8(text, "windows-1252")
	if problem != "" { // cannot be: every octet means something there
		return strings.ToValidUTF8(string(text), "\ufffd")
	}
	return out
}

// newlines makes every line end one \n.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// clean is the value of a header field as one line: control characters, line ends
// among them, are spaces. Whoever puts it in a header adds no field.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd")))
}

// cutText is the first most octets of s, without half a character at the end.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// wholeRunes is b without the beginning of a character of UTF-8 at its end.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			return b
		}
	}
	return b
}
