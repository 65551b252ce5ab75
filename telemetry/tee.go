package telemetry

// Tee calls every one of hooks in turn for each fact.
func Tee(hooks ...Hooks) Hooks {
	return Hooks{
		SessionConnect:      tee(hooks, func(h Hooks) func(SessionConnect) { return h.SessionConnect }),
		SessionAccepted:     tee(hooks, func(h Hooks) func(SessionAccepted) { return h.SessionAccepted }),
		SessionRejected:     tee(hooks, func(h Hooks) func(SessionRejected) { return h.SessionRejected }),
		SessionClosed:       tee(hooks, func(h Hooks) func(SessionClosed) { return h.SessionClosed }),
		SessionCrowd:        tee(hooks, func(h Hooks) func(SessionCrowd) { return h.SessionCrowd }),
		SessionDialogue:     tee(hooks, func(h Hooks) func(SessionDialogue) { return h.SessionDialogue }),
		MessageQueued:       tee(hooks, func(h Hooks) func(MessageQueued) { return h.MessageQueued }),
		MessageDiscarded:    tee(hooks, func(h Hooks) func(MessageDiscarded) { return h.MessageDiscarded }),
		MessageEnqueueError: tee(hooks, func(h Hooks) func(MessageEnqueueError) { return h.MessageEnqueueError }),
		DeliveryResult:      tee(hooks, func(h Hooks) func(DeliveryResult) { return h.DeliveryResult }),
		DeliveryHeld:        tee(hooks, func(h Hooks) func(DeliveryHeld) { return h.DeliveryHeld }),
		DeliveryDead:        tee(hooks, func(h Hooks) func(DeliveryDead) { return h.DeliveryDead }),
		QueueDepth:          tee(hooks, func(h Hooks) func(QueueDepth) { return h.QueueDepth }),
		QueueSwept:          tee(hooks, func(h Hooks) func(QueueSwept) { return h.QueueSwept }),
		PolicyDecision:      tee(hooks, func(h Hooks) func(PolicyDecision) { return h.PolicyDecision }),
		LimitHit:            tee(hooks, func(h Hooks) func(LimitHit) { return h.LimitHit }),
		SmugglingBlocked:    tee(hooks, func(h Hooks) func(SmugglingBlocked) { return h.SmugglingBlocked }),
		TLSHandshake:        tee(hooks, func(h Hooks) func(TLSHandshake) { return h.TLSHandshake }),
		TLSCertificate:      tee(hooks, func(h Hooks) func(TLSCertificate) { return h.TLSCertificate }),
		SpoolError:          tee(hooks, func(h Hooks) func(SpoolError) { return h.SpoolError }),
		SpoolSpace:          tee(hooks, func(h Hooks) func(SpoolSpace) { return h.SpoolSpace }),
		Trouble:             tee(hooks, func(h Hooks) func(Trouble) { return h.Trouble }),
		Panic:               tee(hooks, func(h Hooks) func(Panic) { return h.Panic }),
	}
}

// tee is the func that calls each hook that is set; nil when none is, the hook
// itself when one is.
func tee[E any](hooks []Hooks, pick func(Hooks) func(E)) func(E) {
	var set []func(E)
	for _, h := range hooks {
		if f := pick(h); f != nil {
			set = append(set, f)
		}
	}
	switch len(set) {
	case 0:
		return nil
	case 1:
		return set[0]
	}
	return func(e E) {
		for _, f := range set {
			f(e)
		}
	}
}
