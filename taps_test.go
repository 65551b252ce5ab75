package incoming_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
)

// ctxTap hands out the ctx of each of its taps.
type ctxTap struct{ ctxs chan context.Context }

func (p ctxTap) Tap(ctx context.Context, _ *policy.Transaction) io.Writer {
	p.ctxs <- ctx
	return io.Discard
}

func (p ctxTap) Check(_ context.Context, stage policy.Stage, t *policy.Transaction) error {
	if stage == policy.StageMessage && t.Header.Has("X-Refuse") {
		return policy.Reject("No")
	}
	return nil
}

func TestTheContextOfATapEndsWithItsTransaction(t *testing.T) {
	t.Parallel()
	p := ctxTap{make(chan context.Context, 1)}
	srv := incomingtest.NewServer(t, incoming.Config{Queue: newQueue(t, nil), Policies: []incoming.Policy{p}})
	c := srv.Dial()
	c.Expect("220")
	c.Send("EHLO client.test").Expect("250")
	for name, tx := range map[string]struct {
		text    string
		replies []string
	}{
		"accepted":  {"BDAT 8 LAST\r\nX: y\r\n\r\n", []string{"250"}},
		"refused":   {"BDAT 15 LAST\r\nX-Refuse: y\r\n\r\n", []string{"550"}},
		"given up":  {"BDAT 8\r\nX: y\r\n\r\nRSET\r\n", []string{"250", "250"}},
		"cut short": {"BDAT 8\r\nX: y\r\n\r\nEHLO client.test\r\n", []string{"250", "250"}},
	} {
		c.Write("MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n" + tx.text)
		select {
		case <-(<-p.ctxs).Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it goes on", name)
		}
		c.Expect("250")
		c.Expect("250")
		for _, r := range tx.replies {
			c.Expect(r)
		}
	}
	c.Send("QUIT").Expect("221") // it was not the session's end
}
