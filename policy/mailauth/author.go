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
	var addresses []string
	if list, err := anyCharset.ParseList(value); err == nil {
		for _, a := range list {
			addresses = append(addresses, a.Address)
		}
	} else {
		addresses = lenient(value)
	}
	for _, a := range addresses {
		_, d, _ := mailbox.Split(a)
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

// lenient finds what a mail client would take for the addresses in a From that is
// not in order: what stands in angle brackets, or the piece itself. Comments and
// quoted strings, which may imitate an address, are left out first.
func lenient(value string) []string {
	var addresses []string
	for piece := range strings.SplitSeq(bare(value), ",") {
		if open := strings.LastIndexByte(piece, '<'); open >= 0 {
			piece = piece[open+1:]
			if end := strings.IndexByte(piece, '>'); end >= 0 {
				piece = piece[:end]
			}
		}
		if piece = strings.TrimSpace(piece); piece != "" {
			addresses = append(addresses, piece)
		}
	}
	return addresses
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
