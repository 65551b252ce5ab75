package delivery_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

func TestAVerdictKeepsItsErrorAndIsNeverNil(t *testing.T) {
	t.Parallel()
	for _, err := range []error{delivery.Reject(io.EOF), delivery.RetryAfter(time.Second, io.EOF)} {
		if !errors.Is(err, io.EOF) || err.Error() != "EOF" {
			t.Errorf("%v hides its error", err)
		}
	}
	for _, err := range []error{delivery.Reject(nil), delivery.RetryAfter(-1, nil), delivery.PerRecipient(nil)} {
		if err == nil || err.Error() == "" {
			t.Errorf("%#v says nothing", err)
		}
	}
}

func TestEachAsksForEveryRecipientUntilItsTimeEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	adapter := delivery.Each(func(_ context.Context, _ *queue.Message, rcpt string) error {
		asked = append(asked, rcpt)
		switch rcpt {
		case "b@x.example":
			return delivery.Reject(io.EOF)
		case "c@x.example":
			cancel()
		}
		return nil
	})
	m := &queue.Message{Envelope: queue.Envelope{RcptTo: []queue.Recipient{
		{Address: "a@x.example"}, {Address: "b@x.example"}, {Address: "c@x.example"}, {Address: "d@x.example"},
	}}}
	var verdict *delivery.RecipientsError
	if err := adapter.Deliver(ctx, m); !errors.As(err, &verdict) || !strings.Contains(err.Error(), "b@x.example: EOF") {
		t.Fatalf("verdict %v", err)
	}
	if !slices.Equal(asked, []string{"a@x.example", "b@x.example", "c@x.example"}) {
		t.Errorf("asked for %v", asked)
	}
	if len(verdict.Results) != 3 || verdict.Results["a@x.example"] != nil || verdict.Results["b@x.example"] == nil {
		t.Errorf("results %v", verdict.Results)
	}
}
