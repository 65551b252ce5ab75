package incoming

import (
	"context"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// domains is what Config.Domains says: which domains are ours.
type domains struct {
	first  string // the first that is named, as given if that is ASCII, else in A-labels; "" when none is
	named  Policy // refuses at RCPT what is in none of those that are named
	policy Policy // refuses the others at RCPT; nil when mail for any is taken
}

func newDomains(names []string) (*domains, error) {
	d := &domains{}
	star := names == nil
	var named []string
	for _, name := range names {
		if name == "*" {
			star = true
		} else {
			named = append(named, name)
		}
	}
	var err error
	if d.named, err = policy.AcceptDomains(named...); err != nil {
		return nil, err
	}
	if len(named) > 0 {
		d.first = named[0]
		if !mailbox.IsASCII(d.first) {
			d.first = mailbox.Fold(d.first) // what asks for it may not be SMTPUTF8
		}
	}
	if !star {
		d.policy = d.named
	}
	return d, nil
}

// has reports whether a domain is one of those that are named: where mail for
// any is taken, nothing says which are ours. The policy is asked, so that there
// is one opinion of what a domain is.
func (d *domains) has(domain string) bool {
	t := policy.Transaction{To: []policy.Recipient{{Path: smtp.Path{Local: "x", Domain: domain}}}}
	return d.named.Check(context.Background(), policy.StageRcpt, &t) == nil
}
