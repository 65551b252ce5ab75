package main

import (
	"context"
	"log/slog"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
)

// operated is the queue as the operator's tools work on it. The log says what
// they did, for nothing else would.
type operated struct {
	*diskqueue.Queue
	log *slog.Logger
}

func (o operated) Retry(ctx context.Context, id queue.ID) error {
	return o.did("retried", id, o.Queue.Retry(ctx, id))
}

func (o operated) Requeue(ctx context.Context, id queue.ID) error {
	return o.did("requeued", id, o.Queue.Requeue(ctx, id))
}

func (o operated) Delete(ctx context.Context, id queue.ID) error {
	return o.did("deleted", id, o.Queue.Delete(ctx, id))
}

func (o operated) did(what string, id queue.ID, err error) error {
	if err == nil {
		o.log.Info(what+" by an operator", "id", string(id))
	}
	return err
}

func (o operated) Pause(ctx context.Context) error {
	err := o.Queue.Pause(ctx)
	if err == nil {
		o.log.Warn(pausedText)
	}
	return err
}

func (o operated) Resume(ctx context.Context) error {
	err := o.Queue.Resume(ctx)
	if err == nil {
		o.log.Info("deliveries are resumed")
	}
	return err
}

const pausedText = `deliveries are paused, until "incoming queue resume"`
