package smtp

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
)

// mostPath is the octets of a path without angle brackets and route: 256 with
// them (RFC 5321 §4.5.3.1.3). The 64 octets of a local part (§4.5.3.1.1) are
// not enforced apart: forwarders make longer ones.
const (
	mostPath  = 254
	mostLabel = 63
)

var (
	errNoPath   = errors.New("smtp: no <path>")
	errBadPath  = errors.New("smtp: bad path")
	errLongPath = errors.New("smtp: path too long")
)

// parsePath takes the path that args begins with, angle brackets included, and
// returns what follows it. A source route is read over. It is lenient where real
// senders are sloppy (dots anywhere in a local part, underscores in a domain) and
// strict where an attacker would be: brackets and quotes must pair, and what is
// not quoted has no specials. Octets over 0x7f are allowed: nonASCII tells.
// An error comes with no path.
func parsePath(args []byte) (p Path, nonASCII bool, rest []byte, err error) {
	if len(args) == 0 || args[0] != '<' {
		return Path{}, false, nil, errNoPath
	}
	in := args[1:]
	routed := len(in) > 0 && in[0] == '@'
	if routed {
		if in, err = skipRoute(in); err != nil {
			return Path{}, false, nil, err
		}
	}
	local, err := scanLocal(in)
	if routed && local == 0 { // a route to nowhere is no null path
		err = errBadPath
	}
	if err != nil {
		return Path{}, false, nil, err
	}
	after := in[local:]
	domain := 0
	if len(after) > 0 && after[0] == '@' {
		if domain, err = scanDomain(after[1:]); err != nil {
			return Path{}, false, nil, err
		}
		domain++
	}
	if len(after) == domain || after[domain] != '>' || local == 0 && domain > 0 {
		return Path{}, false, nil, errBadPath
	}
	rest = after[domain+1:]
	if len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' {
		return Path{}, false, nil, errBadPath
	}
	if local+domain > mostPath {
		return Path{}, false, nil, errLongPath
	}
	whole := string(in[:local+domain]) // one allocation for both parts
	p.Local = whole[:local]
	if domain > 0 {
		p.Domain = whole[local+1:]
	}
	return p, !isASCII(whole), rest, nil
}

// skipRoute reads over "@one,@two:" (RFC 5321 §4.1.2, A-d-l).
func skipRoute(in []byte) ([]byte, error) {
	for len(in) > 0 && in[0] == '@' {
		n, err := scanDomain(in[1:])
		if err != nil {
			return nil, err
		}
		in = in[1+n:]
		if len(in) == 0 {
			break
		}
		switch in[0] {
		case ':':
			if len(in) > 1 && in[1] == '@' {
				return nil, errBadPath
			}
			return in[1:], nil
		case ',':
			in = in[1:]
		default:
			return nil, errBadPath
		}
	}
	return nil, errBadPath
}

// scanLocal is the length of the local part at the beginning of in.
func scanLocal(in []byte) (int, error) {
	if len(in) > 0 && in[0] == '"' {
		return scanQuoted(in)
	}
	for i, c := range in {
		switch {
		case c == '@' || c == '>':
			return i, nil
		case c <= ' ' || c == 0x7f || strings.IndexByte(`()<[]:;\,"`, c) >= 0:
			return 0, errBadPath
		}
	}
	return 0, errBadPath
}

// scanQuoted is the length of a quoted string (RFC 5321 §4.1.2), quotes included.
func scanQuoted(in []byte) (int, error) {
	for i := 1; i < len(in); i++ {
		switch c := in[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			i++
			if i == len(in) || in[i] < ' ' || in[i] > '~' {
				return 0, errBadPath
			}
		case c < ' ' || c == 0x7f:
			return 0, errBadPath
		}
	}
	return 0, errBadPath
}

// scanDomain is the length of the domain or address literal at the beginning of
// in.
func scanDomain(in []byte) (int, error) {
	if len(in) > 0 && in[0] == '[' {
		end := bytes.IndexByte(in, ']')
		if end < 0 || !isLiteral(string(in[1:end])) {
			return 0, errBadPath
		}
		return end + 1, nil
	}
	label, wide := 0, false // wide: not ASCII, so that its length is not that of the A-label
	for i, c := range in {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c >= 0x80:
			label++
			wide = wide || c >= 0x80
			if label > mostLabel && !wide {
				return 0, errLongPath
			}
		case c == '.':
			if label == 0 {
				return 0, errBadPath
			}
			label, wide = 0, false
		default:
			if label == 0 {
				return 0, errBadPath
			}
			return i, nil
		}
	}
	return 0, errBadPath
}

// isLiteral reports whether s is an address literal without its brackets:
// an IPv4 address, or "IPv6:" and an address (RFC 5321 §4.1.3).
func isLiteral(s string) bool {
	const tag = "IPv6:"
	if len(s) > len(tag) && isWord(s[:len(tag)], tag) {
		a, err := netip.ParseAddr(s[len(tag):])
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
