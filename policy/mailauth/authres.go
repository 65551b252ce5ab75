package mailauth

import (
	"net/netip"
	"strings"
	"unicode"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

const fieldName = "Authentication-Results"

// formatField is the value of the Authentication-Results field (RFC 8601 §2.2), a
// result a line.
func formatField(id string, peer netip.Addr, r *Results) string {
	var b strings.Builder
	b.WriteString(id)
	line := func(method string, result Result, why string, properties ...string) {
		b.WriteString(";\r\n\t" + method + "=" + string(result))
		if why != "" {
			b.WriteString(" reason=" + quoted(why))
		}
		for i := 0; i+1 < len(properties); i += 2 {
			if properties[i+1] != "" {
				b.WriteString(" " + properties[i] + "=" + value(properties[i+1]))
			}
		}
	}
	for _, s := range r.SPF {
		property := "smtp.mailfrom"
		if s.Identity == Helo {
			property = "smtp.helo"
		}
		line("spf", s.Result, s.Reason, property, s.Domain)
	}
	for _, d := range r.DKIM {
		line("dkim", d.Result, d.Reason, "header.d", d.Domain, "header.s", d.Selector, "header.b", d.Signature)
	}
	if len(r.DKIM) == 0 {
		line("dkim", None, "")
	}
	line("dmarc", r.DMARC.Result, r.DMARC.Reason, "header.from", r.DMARC.Domain)
	if peer.IsValid() {
		line("iprev", r.IPRev.Result, r.IPRev.Reason, "policy.iprev", peer.Unmap().String())
	}
	return b.String()
}

// value is s as it may stand: a token as it is, anything else in quotes.
func value(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return quoted(s)
		}
	}
	return s
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quoted is s, which is printable ASCII, as a quoted string.
func quoted(s string) string {
	return `"` + escaper.Replace(s) + `"`
}

// claims reports whether the value of an Authentication-Results field claims to be
// by id. It is generous in what it takes for a claim: a field that some reader might
// take for ours is to go (RFC 8601 §5), also one that decodes encoded words before
// it looks.
func claims(field, id string) bool {
	if claimed(field, id) {
		return true
	}
	decoded, err := anyCharset.WordDecoder.DecodeHeader(field)
	return err == nil && decoded != field && claimed(decoded, id)
}

func claimed(field, id string) bool {
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	name := strings.TrimFunc(uncommented(field), blank)
	if rest, ok := strings.CutPrefix(name, `"`); ok {
		name, _, _ = strings.Cut(rest, `"`)
		name = strings.ReplaceAll(name, `\`, "")
	} else if end := strings.IndexFunc(name, func(r rune) bool { return blank(r) || strings.ContainsRune(";,/=", r) }); end >= 0 {
		name = name[:end]
	}
	return mailbox.Fold(strings.TrimFunc(name, blank)) == mailbox.Fold(id)
}

// uncommented is value without its comments; quoted strings stay.
func uncommented(value string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value):
			if depth == 0 {
				b.WriteString(value[i : i+2])
			}
			i++
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}
