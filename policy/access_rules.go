package policy

import (
	"net/netip"
	"strings"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/smtp"
)

// rules is a parsed access list, indexed so that a question costs the same
// however long the list is.
type rules struct {
	n                        int
	network                  networks
	hello, sender, recipient names
}

// rule is one line.
type rule struct {
	line  int
	allow bool
	text  string
}

// earlier is the upper of two rules, either of which may be nil.
func earlier(a, b *rule) *rule {
	if a == nil || b != nil && b.line < a.line {
		return b
	}
	return a
}

// deny is the rule by which t is refused at a stage, if any. An allow rule that
// looks at something not known yet keeps what stands below it undecided.
func (rs *rules) deny(stage Stage, t *Transaction) *rule {
	first := rs.network.match(t.Peer.Addr())
	var open *rule
	if stage >= StageHello {
		first = earlier(first, rs.hello.match(helloKeys(t.Hello)))
	} else {
		open = earlier(open, rs.hello.firstAllow)
	}
	if stage >= StageMail {
		first = earlier(first, rs.sender.match(addressKeys(t.From)))
	} else {
		open = earlier(open, rs.sender.firstAllow)
	}
	if stage >= StageRcpt {
		first = earlier(first, rs.recipient.match(addressKeys(t.Rcpt().Path)))
	} else {
		open = earlier(open, rs.recipient.firstAllow)
	}
	if first == nil || first.allow || open != nil && open.line < first.line {
		return nil
	}
	return first
}

// names finds the first rule that a hello name or an address matches. All keys
// are in the form in which they are compared.
type names struct {
	exact      map[string]*rule // a name, an address, "@domain", "<>", "<postmaster>"
	below      map[string]*rule // a domain, for all under it
	any        *rule
	firstAllow *rule
}

// maxLabels bounds the work that a name of the peer's can cause; DNS has fewer.
const maxLabels = 128

func (n *names) match(domain string, keys []string) *rule {
	first := n.any
	for _, k := range keys {
		first = earlier(first, n.exact[k])
	}
	if len(n.below) == 0 {
		return first
	}
	for range maxLabels {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			break
		}
		domain = parent
		first = earlier(first, n.below[domain])
	}
	return first
}

// add files a rule; of two with the same pattern the upper stays.
func (n *names) add(r *rule, pattern string) {
	if r.allow {
		n.firstAllow = earlier(n.firstAllow, r)
	}
	if pattern == "*" {
		n.any = earlier(n.any, r)
		return
	}
	in := &n.exact
	if domain, ok := strings.CutPrefix(strings.TrimPrefix(pattern, "@"), "*."); ok {
		in, pattern = &n.below, domain
	}
	if *in == nil {
		*in = make(map[string]*rule)
	}
	(*in)[pattern] = earlier((*in)[pattern], r)
}

func helloKeys(name string) (domain string, keys []string) {
	domain = mailbox.Fold(name)
	return domain, []string{domain}
}

func addressKeys(p smtp.Path) (domain string, keys []string) {
	switch {
	case p.IsNull():
		return "", []string{"<>"}
	case p.Domain == "":
		return "", []string{"<" + mailbox.Local(p.Local) + ">"}
	}
	domain = mailbox.Fold(p.Domain)
	return domain, []string{mailbox.Local(p.Local) + "@" + domain, "@" + domain}
}

// networks finds the first rule whose network holds an address.
type networks struct {
	prefixes map[netip.Prefix]*rule
	lengths4 [33]bool // which lengths there are
	lengths6 [129]bool
	any      *rule
}

func (n *networks) match(a netip.Addr) *rule {
	first := n.any
	if !a.IsValid() || len(n.prefixes) == 0 {
		return first
	}
	a = a.Unmap().WithZone("")
	lengths := n.lengths4[:]
	if a.Is6() {
		lengths = n.lengths6[:]
	}
	for bits, there := range lengths {
		if !there {
			continue
		}
		p, err := a.Prefix(bits)
		if err == nil {
			first = earlier(first, n.prefixes[p])
		}
	}
	return first
}

func (n *networks) add(r *rule, p netip.Prefix) {
	if n.prefixes == nil {
		n.prefixes = make(map[netip.Prefix]*rule)
	}
	n.prefixes[p] = earlier(n.prefixes[p], r)
	if p.Addr().Is4() {
		n.lengths4[p.Bits()] = true
	} else {
		n.lengths6[p.Bits()] = true
	}
}
