package policy

import "context"

// RequireTLS refuses MAIL in clear with 530 5.7.0. A listener whose TLS mode is
// required does so for all clients; this is for some. RFC 3207 §4 forbids it
// on a public MX. Its name is require_tls.
func RequireTLS() Policy {
	return builtin("require_tls", StageMail, func(_ context.Context, t *Transaction) error {
		if t.TLS != nil {
			return nil
		}
		return Because(replyInClear, "in_clear")
	})
}
