// Package discard delivers messages nowhere: each is acknowledged unread and is
// gone. It is for measuring, and for trying out a server.
package discard

import (
	"context"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Adapter acknowledges every message. It keeps and counts nothing: the
// delivery.result of telemetry tells of each message all the same.
type Adapter struct{}

var _ delivery.Adapter = Adapter{}

// New returns an Adapter. There is nothing to configure.
func New() Adapter { return Adapter{} }

// Deliver returns nil.
func (Adapter) Deliver(context.Context, *queue.Message) error { return nil }
