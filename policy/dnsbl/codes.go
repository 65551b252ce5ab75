package dnsbl

import (
	"fmt"
	"net/netip"
	"strings"
)

// Codes is a code or a range of codes that a list answers with: addresses of
// 127.0.0.0/8.
type Codes struct{ First, Last netip.Addr }

var (
	codesNet  = netip.MustParsePrefix("127.0.0.0/8")
	errorsNet = netip.MustParsePrefix("127.255.255.0/24") // answers that say why there is none
)

// ParseCodes takes "127.0.0.2", or a range "127.0.0.2-127.0.0.11", both ends
// included.
func ParseCodes(s string) (Codes, error) {
	first, last, ranged := strings.Cut(s, "-")
	if !ranged {
		last = first
	}
	a, err1 := netip.ParseAddr(strings.TrimSpace(first))
	b, err2 := netip.ParseAddr(strings.TrimSpace(last))
	switch {
	case err1 != nil || err2 != nil || !codesNet.Contains(a) || !codesNet.Contains(b):
		return Codes{}, fmt.Errorf("%q is no code of a list; write 127.0.0.2, or 127.0.0.2-127.0.0.11", s)
	case b.Less(a):
		return Codes{}, fmt.Errorf("%q ends before it begins; write %v-%v", s, b, a)
	case !b.Less(errorsNet.Addr()):
		return Codes{}, fmt.Errorf("%q has codes of 127.255.255.0/24, with which lists say that they do not answer; leave them out", s)
	}
	return Codes{a, b}, nil
}

// UnmarshalText is ParseCodes.
func (c *Codes) UnmarshalText(text []byte) error {
	parsed, err := ParseCodes(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}

func (c Codes) String() string {
	if c.First == c.Last {
		return c.First.String()
	}
	return c.First.String() + "-" + c.Last.String()
}

func (c Codes) has(a netip.Addr) bool { return !a.Less(c.First) && !c.Last.Less(a) }
