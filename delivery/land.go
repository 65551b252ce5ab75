package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// minRetry is the least time between two attempts of one message: without it a
// message that always fails would keep a processor busy.
const minRetry = 10 * time.Millisecond

// landing is what an attempt comes to.
type landing struct {
	outcome string // as telemetry.DeliveryResult.Outcome
	reason  error
	next    time.Time
	tally   tally
	stored  bool        // the queue can be written to
	aside   queue.Lease // to be kept until the hold ends
}

// wrote notes how a write to the queue ended. Want of space is no reason to
// pause: deliveries are what makes room, and the end of one needs none.
func (r *landing) wrote(err error) {
	if err != nil && !errors.Is(err, queue.ErrNoSpace) && !errors.Is(err, queue.ErrBusy) {
		r.stored = false
	}
}

// land carries a verdict out: it settles recipients, ends the lease, and counts.
// ctx carries values only.
func (p *Pool) land(ctx context.Context, a *attempt, err error) {
	j := judge(a.msg, err)
	for _, pe := range j.panics {
		if !isPanic(err) { // else call has told it
			p.panicked("adapter", a.msg.ID, pe)
		}
	}
	if after := p.cfg.After; after != nil && a.asked {
		ctx, cancel := p.hookContext(ctx)
		p.guard("after", a, func() { after(ctx, a.msg, err) })
		cancel()
	}
	r := landing{reason: reasonOf(err), stored: true}
	if j.missing > 0 {
		r.reason = fmt.Errorf("%w %d recipients were left out", r.reason, j.missing)
	}
	if a.asked {
		r.tally = j.tally()
	}
	switch {
	case a.decision.refuses(&j, err):
		// The message leaves the queue before its sender is told no.
		a.answer(p.refuse(ctx, a, &j, &r, err))
	case a.decision != nil:
		// What is accepted stays so, whatever becomes of the rest: a sender does
		// not wait for the queue to write that it is done.
		a.answer(nil)
		p.carryOut(ctx, a, &j, &r, err)
	default:
		p.carryOut(ctx, a, &j, &r, err)
	}
	if len(j.unknown) > 0 {
		r.reason = errors.Join(r.reason, notOwed(j.unknown))
	}
	turned, back := p.gate.finish(a.probe, r.tally, r.reason, r.stored)
	if r.aside != nil {
		if l := p.gate.putAside(r.aside); l != nil {
			back = append(back, l)
		}
	}
	for _, l := range back {
		p.release(l)
	}
	p.tell(a, r.outcome, r.reason, r.next, len(j.panics) > 0)
	if turned != nil {
		telemetry.Emit(p.cfg.Hooks.DeliveryHeld, telemetry.DeliveryHeld{Held: turned.held, Failures: turned.failures, Reason: turned.why})
	}
	if a.verdict != nil && a.decision == nil {
		a.verdict <- err
	}
}

// notOwed tells of some of the strangers in a verdict.
func notOwed(names []string) error {
	const some = 10
	return fmt.Errorf("the verdict names %d who are not owed: %.320q", len(names), names[:min(len(names), some)])
}

// carryOut decides how the lease ends and ends it.
func (p *Pool) carryOut(ctx context.Context, a *attempt, j *judgement, r *landing, err error) {
	switch {
	case err != nil && p.forced.Load():
		r.outcome, r.tally = "released", untold
		if errors.Is(err, context.Canceled) { // what cancelled it is the thing to know
			r.reason = errForced
		}
		p.settle(a, delivered(j.done), r)
		r.wrote(p.release(a.lease))
	case j.owed == 0 && !j.rejected:
		r.outcome, r.reason = "acked", nil
		r.wrote(p.wrote("ack", a.lease, a.lease.Ack(context.Background())))
	case j.owed == 0 || j.whole:
		kind := j.kind()
		r.outcome = string(kind)
		p.settle(a, j.done, r)
		r.reason = rejection(a.msg, r.reason, j.whole)
		p.bury(ctx, a, kind, r)
	case p.spent(a, j):
		r.outcome = "spent"
		p.settle(a, j.done, r)
		kind := queue.KindSpent
		if len(j.panics) > 0 {
			kind = queue.KindPanic
		}
		p.bury(ctx, a, kind, r)
	case a.probe && r.tally == fails:
		p.probed(a, j, r)
	default:
		r.outcome = "retry"
		switch {
		case len(j.done) > 0:
			r.outcome = "partial"
		case a.wasAbandoned():
			r.outcome = "abandoned"
		}
		p.settle(a, j.done, r)
		r.next = time.Now().Add(p.delay(a.msg.Attempt, j))
		cause := r.reason
		if !j.tried { // nothing failed: no attempt
			cause = nil
			if r.outcome == "retry" {
				r.outcome = "postponed"
			}
		}
		r.wrote(p.wrote("retry", a.lease, a.lease.Retry(context.Background(), r.next, cause)))
	}
}

// probed ends the attempt of a message that a held adapter failed. It costs no
// attempt, and the next probe is of another message: the one told when to come
// again waits, the other is kept in hand until the hold ends and cannot be read
// meanwhile.
func (p *Pool) probed(a *attempt, j *judgement, r *landing) {
	r.outcome = "released"
	if j.told == 0 || j.backoff {
		r.aside = a.lease
		a.msg.Expire()
		return
	}
	r.next = time.Now().Add(max(j.told, 2*probeEvery))
	r.wrote(p.wrote("retry", a.lease, a.lease.Retry(context.Background(), r.next, nil)))
}

// settle writes down who is done.
func (p *Pool) settle(a *attempt, done []queue.Outcome, r *landing) {
	if len(done) > 0 {
		r.wrote(p.wrote("settle", a.lease, a.lease.Settle(context.Background(), done)))
	}
}

func delivered(done []queue.Outcome) []queue.Outcome {
	var ok []queue.Outcome
	for _, o := range done {
		if o.Rejected == "" {
			ok = append(ok, o)
		}
	}
	return ok
}

// bury makes a dead letter, after OnDead, and reports whether it is one.
func (p *Pool) bury(ctx context.Context, a *attempt, kind queue.Kind, r *landing) bool {
	cause := &queue.Cause{Kind: kind, Err: r.reason, Keep: p.keep(a)}
	if onDead := p.cfg.OnDead; onDead != nil {
		ctx, cancel := p.hookContext(ctx)
		p.guard("on_dead", a, func() { onDead(ctx, a.msg, cause) })
		cancel()
	}
	if err := p.wrote("bury", a.lease, a.lease.Bury(context.Background(), cause)); err != nil {
		r.wrote(err)
		return false
	}
	if p.cfg.Hooks.DeliveryDead != nil {
		p.cfg.Hooks.DeliveryDead(telemetry.DeliveryDead{
			ID: string(a.msg.ID), Kind: string(kind), Reason: r.reason.Error(), Attempt: a.msg.Attempt,
			MailFrom: a.msg.Envelope.MailFrom, Rcpts: addresses(a.to),
		})
	}
	return true
}

// buried is the message of a dead letter with those for whom it is one: who was asked
// for now, and who was rejected before.
func (a *attempt) buried() *queue.Message {
	to := slices.Clone(a.to)
	for _, o := range a.msg.Settled {
		if o.Rejected != "" && !slices.ContainsFunc(to, func(r queue.Recipient) bool { return r.Address == o.Recipient }) {
			to = append(to, queue.Recipient{Address: o.Recipient})
		}
	}
	return a.msg.Narrow(to)
}

// keep is how long a dead letter is kept: 0 is as the queue does.
func (p *Pool) keep(a *attempt) (keep time.Duration) {
	if k, ok := Find[Keeper](p.cfg.Adapter); ok {
		p.guard("keep", a, func() { keep = k.Keep(a.buried()) })
	}
	return keep
}

// rejection is why a message is dead that nobody is owed any more: this verdict,
// or those of earlier attempts too.
func rejection(m *queue.Message, reason error, whole bool) error {
	if whole {
		return reason
	}
	var b strings.Builder
	for _, o := range m.Settled {
		if o.Rejected != "" && b.Len() <= maxText {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(o.Recipient + ": " + o.Rejected)
		}
	}
	if b.Len() == 0 { // Settle failed
		return reason
	}
	return errors.New(b.String())
}

// spent reports whether a message that failed is not tried again. A probe costs
// no attempt, nor does what was postponed, so only its age counts.
func (p *Pool) spent(a *attempt, j *judgement) bool {
	since := a.msg.ReceivedAt
	if a.msg.RequeuedAt.After(since) {
		since = a.msg.RequeuedAt
	}
	if p.cfg.GiveUp > 0 && time.Since(since) >= p.cfg.GiveUp {
		return true
	}
	return !a.probe && j.tried && p.cfg.MaxAttempts > 0 && a.msg.Attempt >= p.cfg.MaxAttempts
}

// delay is the time to the next attempt.
func (p *Pool) delay(attempt int, j *judgement) time.Duration {
	d := j.told
	if j.backoff || d == 0 {
		back := p.backoff(attempt)
		if d == 0 || back < d {
			d = back
		}
	}
	return max(d, minRetry)
}

func (p *Pool) backoff(attempt int) time.Duration {
	return Backoff(attempt, p.cfg.Backoff, p.cfg.BackoffCap)
}

// Backoff is how long to wait after failed attempt number attempt, 1 being the
// first: first, doubled with each, up to limit; a limit of 0 or less is none. Half
// of it is left to chance, so that what failed together does not come back
// together. It is for adapters that keep a back-off of their own.
func Backoff(attempt int, first, limit time.Duration) time.Duration {
	d := first
	for i := 1; i < attempt && d < 1<<60 && (limit <= 0 || d < limit); i++ {
		d *= 2
	}
	if limit > 0 {
		d = min(d, limit)
	}
	return d/2 + rand.N(d/2+1)
}

// hookContext is for After and OnDead: the attempt's own context has ended.
func (p *Pool) hookContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithoutCancel(ctx)
	if p.cfg.Deadline <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, p.cfg.Deadline)
}

// tell emits how an attempt ended.
func (p *Pool) tell(a *attempt, outcome string, reason error, next time.Time, panicked bool) {
	if p.cfg.Hooks.DeliveryResult == nil {
		return
	}
	now := time.Now()
	p.cfg.Hooks.DeliveryResult(telemetry.DeliveryResult{
		ID: string(a.msg.ID), Attempt: a.msg.Attempt, Outcome: outcome, Reason: reason,
		Duration: now.Sub(a.began), Age: now.Sub(a.msg.ReceivedAt),
		MailFrom: a.msg.Envelope.MailFrom, Rcpts: addresses(a.to), Next: next, Panicked: panicked,
	})
}

func addresses(to []queue.Recipient) []string {
	names := make([]string, len(to))
	for i, r := range to {
		names[i] = r.Address
	}
	return names
}
