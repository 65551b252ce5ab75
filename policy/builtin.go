package policy

import "context"

// own is a policy of ours that is asked at one stage and never waits.
type own struct{ at }

func (own) neverWaits() bool { return true }

func builtin(name string, stage Stage, check func(context.Context, *Transaction) error) Policy {
	return &own{at{name: name, stage: stage, check: check}}
}
