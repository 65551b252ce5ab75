package mailauth

import (
	"io"
	"mime"
	"net/mail"
	"strings"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/internal/mailbox"
)

// anyCharset reads encoded words of whatever charset: names are of no interest here.
var anyCharset = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}}

// authorDomain is the one domain that From names; "" and why when there is not one:
// then nobody's policy applies (RFC 9989 on a From of several domains).
func authorDomain(h header.Header) (domain, why string) {
	switch values := h.Values("From"); {
	case len(values) == 0:
		return "", "no From field"
	case len(values) > 1:
		return "", "several From fields"
	default:
		return oneDomain(values[0])
	}
}

func oneDomain(value string) (domain, why string) {
	var domains []string
	if list, err := anyCharset.ParseList(value); err == nil {
		for _, a := range list {
			_, d, _ := mailbox.Split(a.Address)
			domains = append(domains, d)
		}
	} else {
		domains = lenient(value)
	}
	for _, d := range domains {
		d = domainOf(d)
		switch {
		case d == "":
			return "", "From holds an address without a domain"
		case domain != "" && d != domain:
			return "", "From names several domains"
		}
		domain = d
	}
	if domain == "" {
		return "", "From holds no address"
	}
	return domain, ""
}

// lenient finds the domains of all that one mail client or another would take for
// an address in a From that is not in order: what stands in angle brackets, and
// where there are none each word with an "@". A piece ends at a comma, or as in
// Outlook at a semicolon. Comments and quoted strings, which may imitate an
// address, are left out first, and of names nothing is wanted.
func lenient(value string) []string {
	var domains []string
	for piece := range strings.FieldsFuncSeq(bare(value), func(r rune) bool { return r == ',' || r == ';' }) {
		if _, bracketed, found := strings.Cut(piece, "<"); found {
			piece = ""
			for part := range strings.SplitSeq(bracketed, "<") {
				address, _, _ := strings.Cut(part, ">")
				piece += " " + address
			}
		}
		for word := range strings.FieldsSeq(piece) {
			if _, after, found := strings.Cut(word, "@"); found {
				domains = append(domains, after) // which is none if it has an "@" too
			}
		}
	}
	return domains
}

// bare is value without comments and quoted strings (RFC 5322 §3.2.2, §3.2.4); what
// is not closed ends the value.
func bare(value string) string {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case quoted:
			quoted = c != '"'
		case depth == 0 && c == '"':
			quoted = true
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

// domainOf is a domain as the DNS may be asked for it, in A-labels and lower case;
// "" when s is none, such as an address literal.
func domainOf(s string) string {
	d, err := mailbox.Domain(strings.TrimSpace(s))
	if err != nil || d == "" || len(d) > 253 {
		return ""
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 {
			return ""
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return ""
			}
		}
	}
	return d
}
