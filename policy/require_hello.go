package policy

import (
	"context"
	"log/slog"
	"strings"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// RequireHello refuses MAIL with 550 5.7.1 when the name in EHLO or HELO is
// neither a domain with a dot nor an address literal (RFC 5321 §4.1.3). Only
// the form is looked at: no DNS is asked. A domain may have underscores and
// letters beyond ASCII, as real clients have them; a bare IP address without
// its brackets is no domain. Its name is require_hello.
func RequireHello() Policy {
	return builtin("require_hello", StageMail, func(_ context.Context, t *Transaction) error {
		if wellFormedHello(t.Hello) {
			return nil
		}
		return Because(replyBadHello, "no_full_name", slog.String("hello", t.Hello))
	})
}

func wellFormedHello(name string) bool {
	if strings.HasPrefix(name, "[") {
		_, ok := mailbox.Literal(name)
		return ok
	}
	return hasDomainForm(mailbox.Fold(name))
}

// hasDomainForm reports whether s, in A-labels, is two labels or more, the last
// not a number.
func hasDomainForm(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := range len(l) {
			if !isLabelByte(l[i]) {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return len(labels) > 1 && strings.Trim(last, "0123456789") != ""
}

func isLabelByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
