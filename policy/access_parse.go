package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/incoming-mx/incoming/internal/listfile"
	"github.com/incoming-mx/incoming/internal/mailbox"
)

// parseRules reads the text of an access list. The first error ends it: it names
// the file and the line.
func parseRules(path string, text []byte) (*rules, error) {
	rs := &rules{}
	err := listfile.Lines(path, text, func(line int, words string) error {
		rs.n++
		return rs.parse(line, words)
	})
	if err != nil {
		return nil, err
	}
	return rs, nil
}

func (rs *rules) parse(line int, words string) error {
	verb, rest := cutWord(words)
	subject, pattern := cutWord(rest)
	r := &rule{line: line, text: bounded(strings.Join(strings.Fields(words), " "))}
	switch strings.ToLower(verb) {
	case "allow":
		r.allow = true
	case "deny":
	default:
		return fmt.Errorf("%q is neither allow nor deny: write such as \"deny sender @example.org\"", verb)
	}
	if pattern == "" {
		return errors.New("too few words: write allow or deny, then network, hello, sender or recipient, then a pattern")
	}
	switch strings.ToLower(subject) {
	case "network":
		return rs.addNetwork(r, pattern)
	case "hello":
		return rs.addHello(r, pattern)
	case "sender":
		return addAddress(&rs.sender, r, pattern, "<>")
	case "recipient":
		return addAddress(&rs.recipient, r, pattern, "<postmaster>")
	}
	return fmt.Errorf("%q is none of network, hello, sender, recipient", subject)
}

// cutWord takes the first word off s.
func cutWord(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimSpace(s[i:])
	}
	return s, ""
}

func (rs *rules) addNetwork(r *rule, pattern string) error {
	if pattern == "*" {
		rs.network.any = earlier(rs.network.any, r)
		return nil
	}
	p, err := parseNetwork(pattern)
	if err == nil {
		rs.network.add(r, p)
	}
	return err
}

func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no network: write such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1", s)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is an IPv4 network written as IPv6: write it as IPv4", s)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set past its length: write %s for the network, %s for the one address", s, p.Masked(), p.Addr())
	}
	return p, nil
}

func (rs *rules) addHello(r *rule, pattern string) error {
	name, err := domainPattern(pattern, true)
	if err == nil {
		rs.hello.add(r, name)
	}
	return err
}

// addAddress files a rule for senders or recipients; special is the one pattern
// that only these have.
func addAddress(in *names, r *rule, pattern, special string) error {
	if pattern == "*" || strings.EqualFold(pattern, special) {
		in.add(r, strings.ToLower(pattern))
		return nil
	}
	at := strings.LastIndexByte(pattern, '@')
	if at < 0 || strings.HasPrefix(pattern, "<") {
		return fmt.Errorf("%q is no address: write user@example.org, @example.org for the whole domain, @*.example.org for its subdomains, %s or *", pattern, special)
	}
	local := pattern[:at]
	if strings.ContainsAny(local, " \t") && !strings.HasPrefix(local, `"`) {
		return fmt.Errorf("%q has more than one word: write one rule a line, and a comment after a #", pattern)
	}
	if local == "" && pattern == "@*" {
		return errors.New("@*: write * for any")
	}
	domain, err := domainPattern(pattern[at+1:], local == "")
	if err != nil {
		return err
	}
	in.add(r, mailbox.Local(local)+"@"+domain)
	return nil
}

// domainPattern is a domain, or where they make sense "*.domain" and "*", in the
// form in which domains are compared. A host name of one label will do.
func domainPattern(s string, wild bool) (string, error) {
	if wild && s == "*" {
		return s, nil
	}
	bare, below := strings.CutPrefix(s, "*.")
	if below && !wild {
		return "", fmt.Errorf("%q: a pattern with a local part wants a whole domain", s)
	}
	name, err := mailbox.Domain(bare)
	if err != nil {
		return "", fmt.Errorf("%q is no domain: %w", s, err)
	}
	if _, ok := mailbox.Literal(bare); !ok && !hasDomainForm(name+".example") {
		return "", fmt.Errorf("%q is no domain: write example.org, or *.example.org for all under it", s)
	}
	if below {
		name = "*." + name
	}
	return name, nil
}
