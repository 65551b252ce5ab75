package policy

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DefaultTimeout is how long a policy has for one answer.
const DefaultTimeout = 30 * time.Second

// Chain asks several policies in order: the first objection wins. It is itself
// a Policy. It is not changed once made and is used by many sessions at once;
// what it must remember of a transaction it keeps in the Transaction.
type Chain struct {
	links   []*link
	timeout time.Duration // 0: none
	opts    ChainOptions
	calls   calls
}

// ChainOptions is how a Chain asks and whom it tells. The funcs may be nil.
// They are called inline by the session's goroutine, and for the late answer of
// a policy that was given up by that policy's, perhaps after the session has
// ended; t is then what the policy was given.
type ChainOptions struct {
	// Timeout is for one answer of one policy; 0 is DefaultTimeout, negative
	// none.
	Timeout time.Duration
	// OnDecision is told each answer but a plain go-ahead. A policy that was
	// cut short because the client left is not told.
	OnDecision func(t *Transaction, d Decision)
	// OnPanic is told of a recovered panic, before OnDecision is.
	OnPanic func(t *Transaction, policy string, value any, stack []byte)
}

// link is one policy of a chain.
type link struct {
	policy Policy
	name   string
	// inline: it is one of ours and never waits, so that it is asked without
	// a goroutine.
	inline bool
	// watched: what it answers is told and has no effect.
	watched bool
}

// NewChain makes a chain of policies; nil options are the defaults. A name that
// comes twice gets a number, so that each name in the log is one policy. A nil
// policy is one that always breaks.
func NewChain(policies []Policy, o *ChainOptions) *Chain {
	c := &Chain{}
	if o != nil {
		c.opts = *o
	}
	c.timeout = c.opts.Timeout
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	taken := make(map[string]int)
	for _, p := range policies {
		name := NameOf(p)
		if taken[name]++; taken[name] > 1 {
			name = fmt.Sprintf("%s_%d", name, taken[name])
		}
		p, watched := bare(p)
		own, ok := p.(interface{ neverWaits() bool })
		c.links = append(c.links, &link{policy: p, name: name, inline: ok && own.neverWaits(), watched: watched})
	}
	return c
}

// Name is "chain".
func (c *Chain) Name() string { return "chain" }

// Check asks each policy in turn. It returns nil, or a *Refusal, which wraps
// the reply for the client, its reference at the end, and says who refused and
// why. A policy that panics, fails, gives an answer that is none, or has not
// answered in time is a Refusal too, with 451 4.3.0: breaking is never a pass,
// save of a policy that is only observed. Check does not wait for a policy that
// ignores its ctx; what it answers later is reported and dropped.
//
// A message that is to be discarded or quarantined gets nil: see
// Transaction.Discarded and Transaction.Quarantined. Once it is discarded no
// policy is asked again in that transaction.
func (c *Chain) Check(ctx context.Context, stage Stage, t *Transaction) error {
	var marks []string
	for _, l := range c.links {
		if t.discardedBy != "" {
			return nil
		}
		if !asksAt(l.policy, stage) {
			continue
		}
		prepend, removed := t.prepend, t.removed
		a := c.ask(ctx, l, stage, t)
		c.report(ctx, l, stage, t, a)
		if l.watched {
			t.prepend, t.removed = prepend, removed
			continue
		}
		switch a.kind {
		case refused, broke:
			return a.refusal(l, stage)
		case discarded:
			t.discardedBy = l.name
		case quarantined:
			marks = append(marks, a.reason)
		}
	}
	// Only now: a recipient that a later policy refuses leaves no mark.
	for _, reason := range marks {
		t.quarantine(reason)
	}
	return nil
}

// AsksAt reports whether any policy is asked at that stage.
func (c *Chain) AsksAt(stage Stage) bool {
	for _, l := range c.links {
		if asksAt(l.policy, stage) {
			return true
		}
	}
	return false
}

// WithDeadline is a ctx for several stages that must share one policy's time:
// from the final dot, all policies together have Timeout. Call cancel after the
// last Check.
func (c *Chain) WithDeadline(ctx context.Context) (_ context.Context, cancel context.CancelFunc) {
	if c.timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// Wait waits until no policy is at work any more, those that were given up
// included, or until ctx ends, whose error it then returns.
func (c *Chain) Wait(ctx context.Context) error { return c.calls.wait(ctx) }

func (c *Chain) ask(ctx context.Context, l *link, stage Stage, t *Transaction) (a answer) {
	start := time.Now()
	defer func() {
		a.took = time.Since(start)
		if a.kind >= refused && a.inner == nil {
			a.ref = newRef()
		}
	}()
	if ctx.Err() != nil {
		return broken(nil, "was not asked: no time was left")
	}
	tapped, err := c.tapped(l, t)
	if err != nil && stage == StageMessage {
		return broken(err, "tap: "+err.Error())
	}
	if l.inline {
		return c.guard(l, t, stage, func() error { return l.policy.Check(ctx, stage, t) })
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	fork := t.fork()
	fork.tapped = tapped
	a, returned := c.call(ctx, l, stage, fork, func() error { return l.policy.Check(ctx, stage, fork) })
	t.join(fork, returned)
	return a
}

// report tells OnDecision. A client that left in the middle broke no policy.
func (c *Chain) report(ctx context.Context, l *link, stage Stage, t *Transaction, a answer) {
	if a.kind == passed || c.opts.OnDecision == nil {
		return
	}
	if (a.kind == broke || a.kind == failedOpen) && ctx.Err() == context.Canceled && !a.panicked {
		return
	}
	c.opts.OnDecision(t, a.decision(l, stage))
}

// reportLate is for the answer of a policy that was given up.
func (c *Chain) reportLate(l *link, stage Stage, t *Transaction, a answer) {
	if c.opts.OnDecision == nil || a.cutShort() {
		return
	}
	d := a.decision(l, stage)
	said := string(d.Kind)
	if a.kind == passed {
		said = "no objection"
	}
	d.Kind, d.Reason = Broke, strings.TrimSpace("late, dropped: "+said+" "+d.Reason)
	c.opts.OnDecision(t, d)
}
