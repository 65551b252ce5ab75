package policy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// AcceptDomains refuses a recipient elsewhere than in the domains with
// 550 5.7.1. Domains are compared without case and by A-label, so that
// "bücher.example" and "XN--BCHER-KVA.example" are one; subdomains are others.
// "*" accepts any. An address literal is accepted if it is in the list, as
// "[192.0.2.1]" or "[IPv6:2001:db8::1]". <postmaster> without a domain is always
// accepted (RFC 5321 §4.5.1). Without any domain all but that is refused. It is
// an error when one of the domains is none. Its name is accept_domains.
func AcceptDomains(domains ...string) (Policy, error) {
	ours := make(map[string]bool, len(domains))
	for _, d := range domains {
		name, err := domainToAccept(d)
		if err != nil {
			return nil, fmt.Errorf("policy: accept domains: %q %w", d, err)
		}
		ours[name] = true
	}
	return builtin("accept_domains", StageRcpt, func(_ context.Context, t *Transaction) error {
		to := t.Rcpt().Path
		if ours["*"] || to.Domain == "" && mailbox.IsPostmaster(to.Local) {
			return nil
		}
		if name, err := mailbox.Domain(to.Domain); err == nil && ours[name] {
			return nil
		}
		return Because(replyNotOurs, "not_ours", slog.String("rcpt", to.String()))
	}), nil
}

func domainToAccept(d string) (string, error) {
	if d == "*" {
		return d, nil
	}
	if strings.Contains(d, "@") {
		return "", fmt.Errorf("is an address: give the domain alone")
	}
	if _, ok := mailbox.Literal(d); !ok && strings.HasPrefix(d, "[") {
		return "", fmt.Errorf("is no address literal: write [192.0.2.1] or [IPv6:2001:db8::1]")
	}
	name, err := mailbox.Domain(d)
	if err != nil {
		return "", fmt.Errorf("is no domain: %w", err)
	}
	// A single label will do here: networks of one's own have such hosts.
	if _, ok := mailbox.Literal(d); !ok && !hasDomainForm(name+".example") {
		return "", fmt.Errorf("is no domain")
	}
	return name, nil
}
