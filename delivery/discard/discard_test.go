package discard_test

import (
	"context"
	"errors"
	"testing"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/delivery/discard"
	"github.com/incoming-mx/incoming/queue"
)

func TestEveryMessageIsAcknowledgedUnread(t *testing.T) {
	t.Parallel()
	m := queue.NewMessage(queue.Entry{ID: "X", Size: 50 << 20}, func() (queue.Raw, error) {
		t.Error("the message was opened")
		return nil, errors.New("not to be opened")
	})
	if err := discard.New().Deliver(context.Background(), m); err != nil {
		t.Errorf("Deliver returned %v", err)
	}
}

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	deliverytest.Run(t, func(*testing.T) deliverytest.Place { return deliverytest.Place{Adapter: discard.New()} })
}
