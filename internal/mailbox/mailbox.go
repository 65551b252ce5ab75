// Package mailbox says when two spellings of an address mean one mailbox. It
// changes no address: what a peer gave is kept and handed on as it was given.
package mailbox

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// lookup maps names as RFC 5895 and UTS 46 have it: case, width and composed
// letters make no difference, and ß is not ss. Underscores, and hyphens where
// names of the DNS should have none, are let pass: real host names have them.
var lookup = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.CheckHyphens(false))

// most is the octets of a domain that is looked at: four times those it has in
// A-labels (RFC 5321 §4.5.3.1.2), for the time that decoding takes is squared.
const most = 4 * 255

// Domain is a domain in the form in which domains are compared: in A-labels
// (RFC 5890 §2.3.2.1), in lower case, without a dot at its end. An address
// literal is put in one spelling. It fails for what is not UTF-8, for an empty
// label, and for one that IDNA has no place for, such as an "xn--" label that
// encodes nothing. ASCII is not looked at further.
func Domain(s string) (string, error) {
	if addr, ok := Literal(s); ok {
		if addr.Is4() {
			return "[" + addr.String() + "]", nil
		}
		return "[ipv6:" + addr.String() + "]", nil
	}
	if len(s) > most {
		return "", errors.New("too long")
	}
	if !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	s = strings.ToLower(s)
	if !IsASCII(s) || strings.Contains(s, "xn--") {
		var err error
		if s, err = lookup.ToASCII(s); err != nil {
			return "", err
		}
	}
	s = strings.TrimSuffix(s, ".")
	if strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return "", errors.New("a label is empty")
	}
	return s, nil
}

// Fold is Domain, or in lower case and without a last dot what Domain fails for:
// that equals itself and no domain.
func Fold(domain string) string {
	if d, err := Domain(domain); err == nil {
		return d
	}
	return strings.ToLower(strings.TrimSuffix(domain, "."))
}

// Local is a local part as operators mean it when they name one: without case
// (RFC 5321 §2.4 lets it matter, no sender relies on it), in NFC, and without
// the quotes and backslashes that it may be written with.
func Local(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unquote(s[1 : len(s)-1])
	}
	return strings.ToLower(norm.NFC.String(s))
}

func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Key is an address in the form in which addresses are compared, by Local and
// Fold. Without a domain it is the local part alone, and "" of the null sender.
func Key(address string) string {
	local, domain, found := Split(address)
	if !found {
		return Local(local)
	}
	return Local(local) + "@" + Fold(domain)
}

// Split takes an address apart at its last "@", for a quoted local part may hold
// another. Without one all of it is the local part.
func Split(address string) (local, domain string, found bool) {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return address[:i], address[i+1:], true
	}
	return address, "", false
}

// Literal reads an address literal: "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC
// 5321 §4.1.3).
func Literal(s string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(s, "[")
	if !ok {
		return netip.Addr{}, false
	}
	if inner, ok = strings.CutSuffix(inner, "]"); !ok {
		return netip.Addr{}, false
	}
	const tag = "IPv6:"
	v6 := len(inner) > len(tag) && strings.EqualFold(inner[:len(tag)], tag)
	if v6 {
		inner = inner[len(tag):]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Zone() != "" || addr.Is4() == v6 {
		return netip.Addr{}, false
	}
	return addr, true
}

// IsASCII reports whether no octet of s is over 0x7f.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// IsPostmaster reports whether a local part is postmaster's, in any case. The
// word is ASCII: <poſtmaster> is another mailbox (RFC 5321 §4.5.1).
func IsPostmaster(local string) bool {
	const word = "postmaster"
	return len(local) == len(word) && strings.EqualFold(local, word)
}
