package policy

import (
	"context"
	"log/slog"
)

// MaxSize refuses messages of more than n octets with 552 5.3.4: at MAIL when
// the client declares it (RFC 1870), else once the text is in. It tightens the
// engine's limit, for a listener or a client. n of 0 or less refuses none. Its
// name is max_size.
func MaxSize(n int64) Policy { return maxSize(n) }

type maxSize int64

func (maxSize) neverWaits() bool { return true }
func (maxSize) Name() string     { return "max_size" }

func (n maxSize) Check(_ context.Context, stage Stage, t *Transaction) error {
	var size int64
	switch stage {
	case StageMail:
		size = t.FromParams.Size
	case StageMessage:
		size = t.Size
	}
	if n <= 0 || size <= int64(n) {
		return nil
	}
	return Because(numbered(replyTooLarge, int64(n)), "too_large", slog.Int64("size", size), slog.Int64("most", int64(n)))
}
