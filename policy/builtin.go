package policy

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// own is a policy of ours that is asked at one stage and never waits.
type own struct{ at }

func (own) neverWaits() {}

func builtin(name string, stage Stage, check func(context.Context, *Transaction) error) Policy {
	return &own{at{name: name, stage: stage, check: check}}
}

// aLabels is a domain in the form in which domains are compared: in A-labels
// (RFC 5890), lower case, without a dot at the end. An address literal is put
// in one spelling. It fails for what is no domain in UTF-8.
func aLabels(domain string) (string, error) {
	if addr, ok := parseLiteral(domain); ok {
		return "[" + addr.String() + "]", nil
	}
	domain = strings.TrimSuffix(domain, ".")
	if isASCII(domain) {
		return strings.ToLower(domain), nil
	}
	if !utf8.ValidString(domain) {
		return "", errors.New("not UTF-8")
	}
	// Underscores and the like are let pass: real host names have them.
	ascii, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(domain)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(ascii, "."), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
