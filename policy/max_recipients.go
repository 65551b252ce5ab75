package policy

import (
	"context"
	"log/slog"
)

// MaxRecipients refuses each recipient of a message past the n-th with
// 452 4.5.3: the earlier ones stay, and the client sends the rest in a message
// of its own. It tightens the engine's limit, for a listener or a client. n of 0
// or less refuses none. Its name is max_recipients.
func MaxRecipients(n int) Policy {
	return builtin("max_recipients", StageRcpt, func(_ context.Context, t *Transaction) error {
		if n <= 0 || len(t.To) <= n {
			return nil
		}
		return Because(replyTooMany, "too_many", slog.Int("recipients", len(t.To)), slog.Int("most", n))
	})
}
