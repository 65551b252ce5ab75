package incoming

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// waits reports whether the sender of any message waits for the adapter's verdict.
func (s *Server) waits() bool { return s.pool != nil && s.accepts.Waits() }

// acceptance is when the sender of m is answered. When the adapter cannot say, for
// it panics, that is at once: the message is in the queue.
func (s *Server) acceptance(m *queue.Message) (acc delivery.Acceptance) {
	defer func() {
		if v := recover(); v != nil {
			telemetry.Emit(s.hooks.Panic, telemetry.Panic{Where: "acceptance", ID: string(m.ID), Value: v, Stack: debug.Stack()})
			acc = delivery.Acceptance{}
		}
	}()
	return s.accepts.Acceptance(m)
}

// decide hands a message that is committed to the adapter while its sender waits, or
// gives it to the queue's workers when he does not. queued is told once it is
// accepted.
func (b *body) decide(ctx context.Context, l queue.Lease, queued telemetry.MessageQueued) error {
	srv := b.s.srv
	acc := srv.acceptance(l.Message())
	if acc.Mode == delivery.Durable {
		telemetry.Emit(srv.hooks.MessageQueued, queued)
		if err := l.Release(context.WithoutCancel(ctx)); err != nil { // it is offered all the same
			telemetry.Emit(srv.hooks.SpoolError, telemetry.SpoolError{Op: "release", ID: string(b.id), Err: err})
		}
		return nil
	}
	err := srv.pool.Decide(ctx, l, acc)
	var no *delivery.RefusedError
	switch {
	case err == nil:
		telemetry.Emit(srv.hooks.MessageQueued, queued)
		return nil
	case !errors.As(err, &no):
		return err
	}
	return &refused{reply: noFrom(no), stage: "delivery", reason: no.Error()}
}

// noFrom is what a sender is told of an adapter's no: the reply that the adapter's
// error wraps, if that is one of its kind; of errors for each recipient one that
// they all wrap.
func noFrom(no *delivery.RefusedError) *smtp.Reply {
	reply := replyNotTaken
	if no.Final {
		reply = replyRefused
	}
	errs := []error{no.Err}
	var each *delivery.RecipientsError
	if errors.As(no.Err, &each) && each != nil && len(each.Results) > 0 {
		errs = slices.Collect(maps.Values(each.Results))
	}
	var own *smtp.Reply
	for _, err := range errs {
		var one *smtp.Reply
		switch {
		case !errors.As(err, &one) || one == nil || one.Code/100 != reply.Code/100:
			return reply
		case own != nil && *own != *one:
			return reply
		}
		own = one
	}
	return own
}
