package policy

import "context"

// Observe makes p say what it would do, and do nothing: in a Chain its answers are
// told to OnDecision, marked as Observed, and have no effect, nor have the header
// fields that it prepends or removes. Facts that it sets are kept. One that breaks
// is told of too, and is a pass. Asked directly, outside a Chain, it answers nil.
//
// It is for a policy that is to be tried on real mail first.
func Observe(p Policy) Policy { return &observed{p} }

type observed struct{ Policy }

func (o *observed) Name() string { return NameOf(o.Policy) }

func (o *observed) Check(ctx context.Context, stage Stage, t *Transaction) error {
	prepend, removed := t.prepend, t.removed
	_ = o.Policy.Check(ctx, stage, t) // what it would have done, nobody is there to be told
	t.prepend, t.removed = prepend, removed
	return nil
}
