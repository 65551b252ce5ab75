package incoming

import (
	"runtime/debug"

	"github.com/incoming-mx/incoming/telemetry"
)

// shield is hooks whose panics change nothing but that Hooks.Panic is told of
// them: a hook must not end a session whose message was committed, nor the
// process.
func shield(h telemetry.Hooks) telemetry.Hooks {
	tell := shielded("panic", h.Panic, nil) // of its own panic there is nobody to tell
	return telemetry.Hooks{
		SessionConnect:      shielded("session.connect", h.SessionConnect, tell),
		SessionAccepted:     shielded("session.accepted", h.SessionAccepted, tell),
		SessionRejected:     shielded("session.rejected", h.SessionRejected, tell),
		SessionClosed:       shielded("session.closed", h.SessionClosed, tell),
		SessionCrowd:        shielded("session.crowd", h.SessionCrowd, tell),
		SessionDialogue:     shielded("session.dialogue", h.SessionDialogue, tell),
		MessageQueued:       shielded("message.queued", h.MessageQueued, tell),
		MessageDiscarded:    shielded("message.discarded", h.MessageDiscarded, tell),
		MessageEnqueueError: shielded("message.enqueue_error", h.MessageEnqueueError, tell),
		DeliveryResult:      shielded("delivery.result", h.DeliveryResult, tell),
		DeliveryHeld:        shielded("delivery.held", h.DeliveryHeld, tell),
		DeliveryDead:        shielded("delivery.dead", h.DeliveryDead, tell),
		QueueDepth:          shielded("queue.depth", h.QueueDepth, tell),
		QueueSwept:          shielded("queue.swept", h.QueueSwept, tell),
		PolicyDecision:      shielded("policy.decision", h.PolicyDecision, tell),
		LimitHit:            shielded("limit.hit", h.LimitHit, tell),
		SmugglingBlocked:    shielded("smuggling.blocked", h.SmugglingBlocked, tell),
		TLSHandshake:        shielded("tls.handshake", h.TLSHandshake, tell),
		TLSCertificate:      shielded("tls.certificate", h.TLSCertificate, tell),
		SpoolError:          shielded("spool.error", h.SpoolError, tell),
		SpoolSpace:          shielded("spool.space", h.SpoolSpace, tell),
		Trouble:             shielded("trouble", h.Trouble, tell),
		Panic:               tell,
	}
}

// shielded is one of them; nil stays nil, so that what nobody listens to is not
// made.
func shielded[E any](fact string, hook func(E), tell func(telemetry.Panic)) func(E) {
	if hook == nil {
		return nil
	}
	return func(e E) {
		defer func() {
			if v := recover(); v != nil {
				telemetry.Emit(tell, telemetry.Panic{Where: "hook " + fact, Value: v, Stack: debug.Stack()})
			}
		}()
		hook(e)
	}
}
