package incoming

import (
	"context"
	"errors"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// waits reports whether the sender of any message waits for the adapter's verdict.
func (s *Server) waits() bool {
	if s.pool == nil {
		return false
	}
	if a, ok := s.cfg.Adapter.(delivery.Accepter); ok {
		return a.Waits()
	}
	return s.cfg.Delivery.Accept.Mode != delivery.Durable
}

// acceptance is when the sender of m is answered.
func (s *Server) acceptance(m *queue.Message) delivery.Acceptance {
	if a, ok := s.cfg.Adapter.(delivery.Accepter); ok {
		return a.Acceptance(m)
	}
	return s.cfg.Delivery.Accept
}

// decide hands a message that is committed to the adapter while its sender waits, or
// gives it to the queue's workers when he does not.
func (b *body) decide(ctx context.Context, l queue.Lease) error {
	srv := b.s.srv
	acc := srv.acceptance(l.Message())
	if acc.Mode == delivery.Durable {
		if err := l.Release(context.WithoutCancel(ctx)); err != nil { // it is offered all the same
			telemetry.Emit(srv.hooks.SpoolError, telemetry.SpoolError{Op: "release", ID: string(b.id), Err: err})
		}
		return nil
	}
	err := srv.pool.Decide(ctx, l, acc)
	var no *delivery.RefusedError
	if !errors.As(err, &no) {
		return err
	}
	return &refused{reply: noFrom(no), stage: "delivery", reason: no.Error()}
}

// noFrom is what a sender is told of an adapter's no: the reply that the adapter's
// error wraps, if that is one of its kind.
func noFrom(no *delivery.RefusedError) *smtp.Reply {
	reply := replyNotTaken
	if no.Final {
		reply = replyRefused
	}
	var own *smtp.Reply
	if errors.As(no.Err, &own) && own != nil && own.Code/100 == reply.Code/100 {
		return own
	}
	return reply
}
