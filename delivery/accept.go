package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Mode is what the sender's 250 waits for.
type Mode int

const (
	// Durable: the message is in the queue. The adapter's verdict comes later, and
	// the sender is not told.
	Durable Mode = iota
	// Sync: the adapter has taken it. Its no is the sender's, and so is no verdict
	// in time.
	Sync
	// Hybrid: as Sync, but without a verdict in time the message is accepted, and
	// the queue goes on with it.
	Hybrid
)

func (m Mode) String() string {
	switch m {
	case Durable:
		return "durable"
	case Sync:
		return "sync"
	case Hybrid:
		return "hybrid"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// DefaultWithin is how long a sender waits when it is not said.
const DefaultWithin = 20 * time.Second

// Acceptance is when a message's sender is answered. The zero value is Durable.
//
// Whatever the mode, a message is committed before its adapter sees it, so that a
// crash in between leaves it in the queue, to be delivered: the sender, who had no
// answer, sends it again. The adapter knows the first by its ID, which does not
// change, and the second by Message.Fingerprint.
type Acceptance struct {
	Mode Mode
	// Within is how long the sender waits for the verdict, of Sync and Hybrid; 0 or
	// less is DefaultWithin. Senders wait 10 min for the reply (RFC 5321 §4.5.3.2.6).
	Within time.Duration
	// Keep makes a message whose sender was told no a dead letter, for those who
	// want to look at it; else it is gone.
	Keep bool
}

// Accepter is an Adapter that says when the sender of each message is answered.
type Accepter interface {
	Adapter
	// Waits reports whether there is any message whose sender waits for a verdict.
	// While it is false Acceptance is not asked.
	Waits() bool
	// Acceptance is asked once the message is committed, before Deliver.
	Acceptance(m *queue.Message) Acceptance
}

// Accepting is a with all its messages accepted as all says, unless a is an Accepter,
// or stands in front of one, which then has the say.
func Accepting(a Adapter, all Acceptance) Accepter { return accepting{a, all} }

type accepting struct {
	Adapter
	all Acceptance
}

func (a accepting) Waits() bool {
	if says, ok := Find[Accepter](a.Adapter); ok {
		return says.Waits()
	}
	return a.all.Mode != Durable
}

func (a accepting) Acceptance(m *queue.Message) Acceptance {
	if says, ok := Find[Accepter](a.Adapter); ok {
		return says.Acceptance(m)
	}
	return a.all
}

func (a accepting) Unwrap() Adapter { return a.Adapter }

// RefusedError is what Decide returns for a message whose sender is to be told no.
type RefusedError struct {
	Err   error // the verdict, or why there is none
	Final bool  // the adapter rejected it; else the sender may come again
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// decision is the verdict of an attempt that a sender waits for: it lands as one, or
// the sender has left first and the attempt is as any other.
type decision struct {
	Acceptance
	until time.Time
	taken atomic.Bool
}

func (d *decision) take() bool { return d.taken.CompareAndSwap(false, true) }

// Decide takes one leased message to the adapter, as Deliver does, for a sender who
// waits as acc says, and whose ctx carries values only. It returns nil when the
// message is accepted: delivered, or, where only some recipients were refused or
// failed, delivered to the others and with the queue for these; of Hybrid also when
// the time is over, or nothing could be tried. Else it returns a *RefusedError, and
// the message has left the queue or, with Keep, is a dead letter. acc is not Durable.
//
// While the queue is paused, and while the adapter is held but for one message each
// 10 s, no attempt begins: a *RefusedError of Sync, nil of Hybrid.
//
// An adapter that does not return when its context ends is waited for 10 s more. What
// it does after that is done twice when the sender comes again.
func (p *Pool) Decide(ctx context.Context, l queue.Lease, acc Acceptance) error {
	if acc.Within <= 0 {
		acc.Within = DefaultWithin
	}
	if p.paused() {
		return p.undecided(ctx, l, acc, errPaused)
	}
	d := &decision{Acceptance: acc, until: time.Now().Add(acc.Within)}
	ctx = context.WithoutCancel(ctx)
	wait, cancel := context.WithTimeoutCause(ctx, acc.Within, deadlineError(acc.Within))
	defer cancel()
	a, err := p.begin(wait, ctx, l, d)
	if err != nil {
		return p.undecided(ctx, l, acc, err)
	}
	if acc.Mode == Sync {
		return <-a.verdict
	}
	select {
	case err := <-a.verdict:
		return err
	case <-wait.Done():
		if d.take() {
			return nil
		}
		return <-a.verdict
	}
}

var errPaused = errors.New("deliveries are paused")

// paused reports whether an operator has stopped deliveries. The queue hands no
// message out then, but the one whose sender waits is leased already.
func (p *Pool) paused() bool {
	q, ok := p.cfg.Queue.(queue.Inspector)
	return ok && q.Paused()
}

// undecided ends the lease of a message for which no attempt could begin in time.
func (p *Pool) undecided(ctx context.Context, l queue.Lease, acc Acceptance, err error) error {
	if acc.Mode != Sync {
		p.release(l)
		return nil
	}
	m := l.Message()
	a := &attempt{pool: p, lease: l, msg: m, to: m.Envelope.RcptTo}
	if p.remove(ctx, a, acc, queue.KindSpent, &landing{reason: err}) {
		return &RefusedError{Err: err}
	}
	return nil // it cannot be removed: the queue offers it again
}

// remove takes a message whose sender is told no out of the queue, and reports
// whether it has left it.
func (p *Pool) remove(ctx context.Context, a *attempt, acc Acceptance, kind queue.Kind, r *landing) bool {
	if acc.Keep {
		return p.bury(ctx, a, kind, r)
	}
	err := p.wrote("ack", a.lease, a.lease.Ack(context.Background()))
	r.wrote(err)
	return err == nil
}

// refuses reports whether the sender is to be told no: nobody was delivered, and all
// recipients were rejected or all may be tried again. Where they differ the message
// is accepted, for a sender has one reply; so is one that a place behind the adapter
// has taken already; and so is that of Hybrid for whom nothing was tried, which is no
// verdict. It is false when nobody waits.
func (d *decision) refuses(j *judgement, err error) bool {
	if d == nil || !d.take() || err == nil || len(delivered(j.done)) > 0 {
		return false
	}
	if j.begun || d.Mode == Hybrid && !j.tried && !j.final() {
		return false
	}
	return j.final() || len(j.done) == 0
}

// final reports whether the verdict was a no for good, for all.
func (j *judgement) final() bool { return j.whole || j.owed == 0 && j.rejected }

// refuse ends the lease of a message whose sender is told no, and returns what he is
// told. One that cannot be removed is offered again by the queue: it is accepted.
func (p *Pool) refuse(ctx context.Context, a *attempt, j *judgement, r *landing, verdict error) error {
	no := &RefusedError{Err: verdict, Final: j.final()}
	kind := queue.KindSpent
	r.outcome = "deferred"
	if no.Final {
		r.outcome, kind = "refused", j.kind()
	}
	if !p.remove(ctx, a, a.decision.Acceptance, kind, r) {
		r.outcome = "released"
		return nil
	}
	return no
}
