package mailparse

import (
	"slices"
	"strconv"
	"strings"
)

// params is the parameters of a field, by name in lower case (RFC 2045 §5.1), in
// their pieces where they have some (RFC 2231).
type params map[string][]piece

type piece struct {
	index    int
	extended bool // percent-encoded, and the first with its charset
	value    string
}

// maxParams is how many parameters of a field are read.
const maxParams = 200

// parseParams reads the value of Content-Type or Content-Disposition. It never
// fails: a parameter that cannot be read is left out, and of two by one name the
// first counts.
func parseParams(s string) (value string, ps params) {
	value, rest, _ := strings.Cut(s, ";")
	ps = params{}
	for n := 0; rest != "" && n < maxParams; n++ {
		var name, v string
		name, v, rest = nextParam(rest)
		ps.add(strings.ToLower(strings.TrimSpace(name)), v)
	}
	value, _, _ = strings.Cut(value, "(")
	return strings.TrimSpace(value), ps
}

// nextParam reads a parameter up to the semicolon behind it.
func nextParam(s string) (name, value, rest string) {
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		return "", "", ""
	}
	if s[i] == ';' {
		return "", "", s[i+1:]
	}
	name, s = s[:i], strings.TrimLeft(s[i+1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		value = strings.TrimSpace(value)
		if before, _, found := strings.Cut(value, " ("); found {
			value = before // a comment
		}
		return name, value, rest
	}
	value, rest = quotedString(s)
	if end := strings.IndexByte(rest, ';'); end >= 0 {
		return name, value, rest[end+1:]
	}
	return name, value, ""
}

// quotedString reads what stands in quotes at the start of s; without a closing
// quote that is all.
func quotedString(s string) (value, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			// A backslash in front of anything but these is a directory's.
			if i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
				i++
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// add takes a parameter, whose name may say that it is a piece: "name*1*".
func (ps params) add(name, value string) {
	p := piece{index: -1, value: value}
	if base, ok := strings.CutSuffix(name, "*"); ok {
		name, p.extended = base, true
	}
	if base, number, ok := strings.Cut(name, "*"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			return
		}
		name, p.index = base, n
	}
	if name == "" {
		return
	}
	ps[name] = append(ps[name], p)
}

// raw is a parameter as it is written; "" when there is none.
func (ps params) raw(name string) string {
	for _, p := range ps[name] {
		if p.index < 0 && !p.extended {
			return p.value
		}
	}
	return ps.text(name)
}

// text is a parameter decoded: by RFC 2231 where it is used, and encoded words
// (which RFC 2047 §5 forbids there, and many programs write). RFC 2231 comes
// first, for who writes both means it so (RFC 6266 §4.3).
func (ps params) text(name string) string {
	pieces := slices.Clone(ps[name])
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.index - b.index })
	var whole, plain string
	var parts []piece
	for _, p := range pieces {
		switch {
		case p.index >= 0:
			if p.index == len(parts) {
				parts = append(parts, p)
			}
		case p.extended && whole == "":
			whole = decodePieces([]piece{p})
		case !p.extended && plain == "":
			plain = Decode(p.value)
		}
	}
	if whole != "" {
		return whole
	}
	if len(parts) > 0 {
		return decodePieces(parts)
	}
	return plain
}

// decodePieces joins pieces (RFC 2231 §4.1).
func decodePieces(parts []piece) string {
	var b []byte
	charset := ""
	for i, p := range parts {
		v := p.value
		if !p.extended {
			b = append(b, v...)
			continue
		}
		if i == 0 {
			if name, rest, ok := strings.Cut(v, "'"); ok {
				if _, text, ok := strings.Cut(rest, "'"); ok {
					charset, v = name, text
				}
			}
		}
		b = append(b, percent(v)...)
	}
	text, _ := toUTF8(b, charset) // the best that can be made of it
	return clean(text)
}

func percent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := unhex(s[i+1])
			low, ok2 := unhex(s[i+2])
			if ok1 && ok2 {
				out = append(out, high<<4|low)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}
