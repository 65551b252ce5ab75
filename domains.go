package incoming

import (
	"context"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// domains is what Config.Domains says: which domains are ours.
type domains struct {
	first  string // the first that is named, as given; "" when none is
	policy Policy // refuses the others at RCPT; nil when any domain is ours
}

func newDomains(names []string) (*domains, error) {
	d := &domains{}
	accept, err := policy.AcceptDomains(names...)
	if err != nil {
		return nil, err
	}
	star := names == nil
	for _, name := range names {
		if name == "*" {
			star = true
		} else if d.first == "" {
			d.first = name
		}
	}
	if !star {
		d.policy = accept
	}
	return d, nil
}

// has reports whether mail for a domain is ours to take. The policy is asked, so
// that there is one opinion of what a domain is.
func (d *domains) has(domain string) bool {
	if d.policy == nil {
		return true
	}
	t := policy.Transaction{To: []policy.Recipient{{Path: smtp.Path{Local: "x", Domain: domain}}}}
	return d.policy.Check(context.Background(), policy.StageRcpt, &t) == nil
}
