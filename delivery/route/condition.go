package route

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/queue"
)

// Condition is something that a recipient of a message must meet. Holds is called
// from many workers at once. An error means that it cannot be told: the recipient
// is tried again later, and goes by no other route meanwhile.
type Condition interface {
	Holds(q *Question) (bool, error)
	// String is the condition as people read it in `incoming route test`.
	String() string
}

// Question is one recipient of one message, which conditions are asked about.
type Question struct {
	Message   *queue.Message
	Recipient queue.Recipient

	// Local, Tag and Domain are the recipient's address as addresses are
	// compared: in lower case, the local part without quotes, the domain by
	// A-label. Tag is what follows the first "+" of the local part, which
	// Local then ends before; Tagged tells an empty tag from none.
	Local, Tag, Domain string
	Tagged             bool

	values func(name string) ([]string, error)
}

// Values is the message's header fields of that name, unfolded, with their encoded
// words decoded (RFC 2047). The header is read once a message. The error is the
// storage's.
func (q *Question) Values(name string) ([]string, error) { return q.values(name) }

// ask makes the question about to. values is the message's header.
func ask(m *queue.Message, to queue.Recipient, values func(string) ([]string, error)) *Question {
	local, domain, _ := mailbox.Split(to.Address)
	q := &Question{Message: m, Recipient: to, Domain: mailbox.Fold(domain), values: values}
	q.Local, q.Tag, q.Tagged = strings.Cut(mailbox.Local(local), "+")
	return q
}

func (q *Question) address() string { return q.Local + "@" + q.Domain }

func (q *Question) tagged() string {
	if !q.Tagged {
		return q.address()
	}
	return q.Local + "+" + q.Tag + "@" + q.Domain
}

// headerOf reads a message's header when it is first asked for.
func headerOf(m *queue.Message) func(string) ([]string, error) {
	var read func(string) []string
	return func(name string) ([]string, error) {
		if read == nil {
			h, err := m.Header()
			if err != nil {
				return nil, err
			}
			read = h.Values
		}
		var decoder mime.WordDecoder
		values := slices.Clone(read(name))
		for i, v := range values {
			if d, err := decoder.DecodeHeader(v); err == nil {
				values[i] = d
			}
		}
		return values, nil
	}
}

// condition is one that cannot fail to tell.
type condition struct {
	text  string
	holds func(q *Question) (bool, error)
}

func (c condition) Holds(q *Question) (bool, error) { return c.holds(q) }
func (c condition) String() string                  { return c.text }

// Func is a condition of your own; text is what it is called.
func Func(text string, holds func(q *Question) (bool, error)) Condition {
	return condition{text, holds}
}

// Not holds where c does not.
func Not(c Condition) Condition {
	return condition{"not " + c.String(), func(q *Question) (bool, error) {
		is, err := c.Holds(q)
		return !is, err
	}}
}

// Domain holds when the recipient's domain is one of names, compared by A-label;
// "*.example.org" is every domain under example.org. It is an error when a name is
// no domain or when there is none.
func Domain(names ...string) (Condition, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("domain: none is named")
	}
	exact, under := map[string]bool{}, []string{}
	for _, n := range names {
		bare, sub := strings.CutPrefix(n, "*.")
		d, err := mailbox.Domain(bare)
		switch {
		case err != nil || d == "" || strings.ContainsAny(d, "*@"):
			return nil, fmt.Errorf("domain: %q is none; write example.org, or *.example.org for those under it", n)
		case sub:
			under = append(under, "."+d)
		default:
			exact[d] = true
		}
	}
	return condition{"domain " + strings.Join(names, ", "), func(q *Question) (bool, error) {
		return exact[q.Domain] || slices.ContainsFunc(under, func(d string) bool { return strings.HasSuffix(q.Domain, d) }), nil
	}}, nil
}

// Address holds when the recipient is one of addresses, compared without case and
// by A-label. An address without a tag is meant with any: help@example.org is
// help+7@example.org too. It is an error when one is no address or when there is
// none.
func Address(addresses ...string) (Condition, error) {
	if len(addresses) == 0 {
		return nil, fmt.Errorf("address: none is named")
	}
	known := map[string]bool{}
	for _, a := range addresses {
		local, domain, found := mailbox.Split(a)
		if !found || local == "" || domain == "" {
			return nil, fmt.Errorf("address: %q is none; write help@example.org", a)
		}
		known[mailbox.Key(a)] = true
	}
	return condition{"address " + strings.Join(addresses, ", "), func(q *Question) (bool, error) {
		return known[q.address()] || known[q.tagged()], nil
	}}, nil
}

// Plus holds when the recipient has a tag (what follows "+") and pattern matches
// all of it; nil matches any tag, an empty one too.
func Plus(pattern *regexp.Regexp) Condition {
	if pattern == nil {
		return condition{"plus-part", func(q *Question) (bool, error) { return q.Tagged, nil }}
	}
	whole := regexp.MustCompile(`^(?:` + pattern.String() + `)$`)
	return condition{"plus-part " + pattern.String(), func(q *Question) (bool, error) {
		return q.Tagged && whole.MatchString(q.Tag), nil
	}}
}

// Recipient holds when pattern matches somewhere in the recipient's address, which
// is in lower case and has its domain by A-label.
func Recipient(pattern *regexp.Regexp) Condition {
	return condition{"recipient " + pattern.String(), func(q *Question) (bool, error) {
		return pattern.MatchString(q.tagged()), nil
	}}
}

// Sender holds when pattern matches somewhere in the reverse-path, which is in
// lower case and has its domain by A-label; the null sender is "".
func Sender(pattern *regexp.Regexp) Condition {
	return condition{"sender " + pattern.String(), func(q *Question) (bool, error) {
		from := q.Message.Envelope.MailFrom
		if from != "" {
			from = mailbox.Key(from)
		}
		return pattern.MatchString(from), nil
	}}
}

// Header holds when the message has a field of that name whose decoded value
// pattern matches somewhere; nil matches any value.
func Header(name string, pattern *regexp.Regexp) Condition {
	text := "header " + name
	if pattern != nil {
		text += " " + pattern.String()
	}
	return condition{text, func(q *Question) (bool, error) {
		values, err := q.Values(name)
		return slices.ContainsFunc(values, func(v string) bool { return pattern == nil || pattern.MatchString(v) }), err
	}}
}

// Minted holds when the recipient is an address that was minted for one of routes
// (package policy/minted), which the policy minted has verified at RCPT. It is an
// error when there is none.
func Minted(routes ...string) (Condition, error) {
	if len(routes) == 0 {
		return nil, fmt.Errorf("minted: no route is named")
	}
	return condition{"minted for " + strings.Join(routes, ", "), func(q *Question) (bool, error) {
		raw, ok := q.Message.Facts["minted.addresses"]
		if !ok {
			return false, nil
		}
		var all map[string]struct{ Route string }
		if err := json.Unmarshal(raw, &all); err != nil {
			return false, fmt.Errorf("fact minted.addresses: %w", err)
		}
		a, ok := all[q.Recipient.Address]
		return ok && slices.Contains(routes, a.Route), nil
	}}, nil
}

// Quarantined holds when a policy has marked the message.
func Quarantined() Condition {
	return condition{"quarantined", func(q *Question) (bool, error) { return q.Message.Quarantine != "", nil }}
}

// Fact holds when the fact of that key is there and equals value: a string, a
// bool, or a float64, to which the fact's JSON must come. Behind a "/" the key may
// go on with the way to a part of it (RFC 6901): "mailauth.results/from/result".
// A nil value asks only that it is there.
func Fact(key string, value any) Condition {
	name, path, _ := strings.Cut(key, "/")
	text := "fact " + key
	if value != nil {
		text += fmt.Sprintf(" = %v", value)
	}
	return condition{text, func(q *Question) (bool, error) {
		raw, ok := q.Message.Facts[name]
		if !ok {
			return false, nil
		}
		var v any
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&v); err != nil {
			return false, fmt.Errorf("fact %s: %w", name, err)
		}
		v, ok = part(v, path)
		if !ok || value == nil {
			return ok, nil
		}
		switch v.(type) {
		case string, bool, float64:
			return v == value, nil
		}
		return false, nil
	}}
}

// part follows a JSON pointer without its first "/".
func part(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	for step := range strings.SplitSeq(path, "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[step]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(in) {
				return nil, false
			}
			v = in[n]
		default:
			return nil, false
		}
	}
	return v, true
}
