package mailparse

import (
	"net/mail"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// Addresses reads the addresses of a header field such as From or To (RFC 5322
// §3.4), at most MaxAddresses of them, with their names decoded. It never fails:
// groups are taken for what is in them, a single word is an address without "@",
// and several are a name whose address is "".
func Addresses(value string) []mail.Address {
	p := addressParser{s: value, lastWord: strings.LastIndex(value, "?="), lastAngle: strings.LastIndexByte(value, '>')}
	for p.i < len(p.s) && len(p.list) < MaxAddresses {
		p.step()
	}
	p.flush()
	return p.list
}

// addressParser reads a list from left to right, once.
type addressParser struct {
	s    string
	i    int
	list []mail.Address

	lastWord, lastAngle int // where the last encoded word may end, and the last angle bracket

	phrase   strings.Builder // words outside angle brackets
	comment  string          // the last
	angle    string          // what stood in angle brackets
	hasAddr  bool
	unclosed bool // a bracket was found that is not closed: from there on none begins a comment
	at       bool // phrase has an @ outside quotes
}

func (p *addressParser) step() {
	rest := p.s[p.i:]
	switch c := rest[0]; {
	case c == '"':
		value, after := quotedString(rest)
		if strings.HasPrefix(after, "@") {
			value = rest[:len(rest)-len(after)] // a local part, which keeps its quotes
		}
		p.phrase.WriteString(value)
		p.i = len(p.s) - len(after)
		return
	case c == '(' && !p.unclosed:
		if text, next := readComment(p.s, p.i); next > 0 {
			p.comment, p.i = text, next
			return
		}
		p.unclosed = true
	case c == '(':
	case c == '<':
		end := strings.IndexAny(rest, ">,;")
		if strings.HasPrefix(rest, "<@") && p.i < p.lastAngle {
			end = strings.IndexByte(rest, '>') // a source route has commas
		}
		if end < 0 {
			end = len(rest)
		}
		p.angle, p.hasAddr = rest[1:end], true
		p.i += end
		if end < len(rest) && rest[end] == '>' {
			p.i++
		}
		return
	case c == ',' || c == ';':
		p.flush()
	case c == ':' && !p.at && !p.hasAddr:
		p.phrase.Reset() // the name of a group
	case c == '=' && p.i < p.lastWord:
		if _, n := encodedWord(rest); n > 0 {
			p.phrase.WriteString(rest[:n])
			p.i += n
			return
		}
		p.phrase.WriteByte(c)
	default:
		p.at = p.at || c == '@'
		p.phrase.WriteByte(c)
	}
	p.i++
}

// readComment reads a comment from the bracket at i; next is 0 when it is not
// closed.
func readComment(s string, i int) (text string, next int) {
	start, depth := i+1, 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return s[start:i], i + 1
			}
		}
	}
	return "", 0
}

// flush ends an address.
func (p *addressParser) flush() {
	phrase, comment, angle, has := strings.TrimSpace(p.phrase.String()), p.comment, p.angle, p.hasAddr
	p.phrase.Reset()
	p.comment, p.angle, p.hasAddr, p.at = "", "", false, false
	if !has {
		phrase, angle = splitPhrase(phrase)
	}
	if i := strings.LastIndexByte(angle, ':'); i >= 0 && strings.HasPrefix(angle, "@") {
		angle = angle[i+1:] // a source route (RFC 5322 §4.4)
	}
	if phrase == "" {
		phrase = comment
	}
	if !strings.Contains(angle, `"`) {
		angle = strings.ReplaceAll(angle, " ", "")
	}
	a := mail.Address{Name: Decode(phrase), Address: clean(guess([]byte(angle)))}
	if a != (mail.Address{}) {
		p.list = append(p.list, a)
	}
}

// splitPhrase finds the address in words without angle brackets: the last word
// with an @, or a single word; several without one are a name.
func splitPhrase(phrase string) (name, address string) {
	at := strings.LastIndexByte(phrase, '@')
	switch {
	case strings.HasPrefix(phrase, `"`):
		return "", phrase
	case at < 0 && strings.ContainsAny(phrase, " \t"):
		return phrase, ""
	case at < 0:
		return "", phrase
	}
	start := strings.LastIndexAny(phrase[:at], " \t") + 1
	end := len(phrase)
	if n := strings.IndexAny(phrase[at:], " \t"); n >= 0 {
		end = at + n
	}
	return strings.TrimSpace(phrase[:start]), strings.Trim(phrase[start:end], "<>")
}

// SplitPlus takes the plus-part out of an address: support+billing@example.org is
// support@example.org and "billing". The first + of the local part counts.
// Without one plus is "".
func SplitPlus(address string) (base, plus string) {
	local, domain, found := mailbox.Split(address)
	if !found {
		local = address
	}
	i := strings.IndexByte(local, '+')
	if i < 0 {
		return address, ""
	}
	plus = local[i+1:]
	closing := ""
	if strings.HasPrefix(local, `"`) && strings.HasSuffix(plus, `"`) {
		plus, closing = plus[:len(plus)-1], `"`
	}
	base = local[:i] + closing
	if found {
		base += "@" + domain
	}
	return base, plus
}

// messageIDs reads message identifiers (RFC 5322 §3.6.4), without their angle
// brackets. Without any brackets each word is one.
func messageIDs(value string) []string {
	value = clean(value)
	if !strings.Contains(value, "<") {
		return nonEmpty(strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' }))
	}
	var ids []string
	for len(ids) < MaxAddresses {
		_, rest, ok := strings.Cut(value, "<")
		if !ok {
			break
		}
		var id string
		if id, value, ok = strings.Cut(rest, ">"); !ok {
			break
		}
		if id = strings.ReplaceAll(id, " ", ""); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func nonEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list[:min(len(list), MaxAddresses)]
}

// dates is what some programs write in place of RFC 5322 §3.3.
var dates = []string{
	"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "Mon, 2 Jan 2006 15:04", "Mon, 2 Jan 06 15:04:05 MST",
	"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 MST 2006", "Mon Jan 2 15:04:05 2006 -0700", "Mon, Jan 2 2006 15:04:05 -0700",
	"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "02-Jan-2006 15:04:05 -0700",
	"Mon, 2 January 2006 15:04:05 -0700",
}

// zones is those with a name (RFC 5322 §4.3). Any other that has but a name is
// taken for UTC.
var zones = strings.NewReplacer(" EST", " -0500", " EDT", " -0400", " CST", " -0600", " CDT", " -0500",
	" MST", " -0700", " MDT", " -0600", " PST", " -0800", " PDT", " -0700")

// parseDate reads a Date. Without a zone it is UTC.
func parseDate(value string) (time.Time, bool) {
	value = zones.Replace(clean(value))
	if t, err := mail.ParseDate(value); err == nil {
		return t, true
	}
	value, _, _ = strings.Cut(value, "(")
	value = strings.Join(strings.Fields(value), " ")
	if t, err := mail.ParseDate(value); err == nil {
		return t, true
	}
	for _, layout := range dates {
		if t, err := time.Parse(layout, value); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
