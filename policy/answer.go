package policy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/smtp"
)

// maxReason bounds what is kept of a policy's reason, in octets.
const maxReason = 1000

// Decision is one policy's answer, for those who watch.
type Decision struct {
	Policy string
	Stage  Stage
	Kind   Kind
	Reason string // why, for us: never sent to the client
	Took   time.Duration
	// Ref is what the client was told of it, of a refusal; "" else.
	Ref string
	// Rule and Inputs are what the policy said by Because; never sent.
	Rule   string
	Inputs []slog.Attr
	// Observed says that the policy is only observed: it had no effect.
	Observed bool
}

// Kind is what a policy decided.
type Kind string

const (
	Rejected    Kind = "reject"     // a 5xx
	Deferred    Kind = "tempfail"   // a 4xx
	Discarded   Kind = "discard"    // the message is told 250 and forgotten
	Quarantined Kind = "quarantine" // the message is marked
	Broke       Kind = "error"      // no answer that counts: 451 4.3.0, or as Failed says
	FailedOpen  Kind = "fail_open"  // the policy failed, and mail goes on as FailAccept says
)

// Refusal is a policy's no as a Chain returns it: an error that wraps the reply
// for the client.
type Refusal struct {
	Policy string // who refused
	Stage  Stage
	Reply  *smtp.Reply // what the client is told
	Reason string      // why, for us: never sent to the client
	Broke  bool        // the policy failed; Reply is 451 4.3.0, or 554 5.3.0 by FailReject
	// Ref, Rule, Inputs and Took are as in Decision; Reply ends in Ref.
	Ref    string
	Rule   string
	Inputs []slog.Attr
	Took   time.Duration
}

func (r *Refusal) Error() string { return "policy " + r.Policy + ": " + r.Reason }

// Unwrap is the reply.
func (r *Refusal) Unwrap() error { return r.Reply }

// verdict is what an answer amounts to. Of several in a joined error the
// highest counts: a plain error among them means that something broke.
type verdict int

const (
	passed verdict = iota
	failedOpen
	quarantined
	discarded
	refused
	broke
)

// answer is what one policy answered, or failed to.
type answer struct {
	kind     verdict
	reply    *smtp.Reply // of refused; of broke nil is 451 4.3.0
	reason   string
	ref      string // of refused and broke
	rule     string
	inputs   []slog.Attr
	err      error    // as returned; nil when nothing was
	inner    *Refusal // of a chain in the chain
	panicked bool
	took     time.Duration
}

func broken(err error, reason string) answer {
	return answer{kind: broke, err: err, reason: bounded(reason)}
}

// judge reads what Check returned at a stage.
func judge(stage Stage, err error) answer {
	a := answer{err: err}
	a.kind, a.reply, a.reason = read(err)
	errors.As(err, &a.inner)
	var why *Explained
	if errors.As(err, &why) && why != nil {
		a.rule, a.inputs = bounded(why.Rule), why.Inputs
	}
	if (a.kind == discarded || a.kind == quarantined) && stage < StageMail {
		return broken(err, "answered "+err.Error()+" before there is a message")
	}
	if a.reason == "" && err != nil {
		a.reason = err.Error()
	}
	a.reason = bounded(a.reason)
	return a
}

// read finds the verdict in err's tree, with the reply of a refusal, and a
// reason where err's own text is not it.
func read(err error) (verdict, *smtp.Reply, string) {
	switch e := err.(type) {
	case nil:
		return passed, nil, ""
	case *Refusal:
		if e.Broke {
			return broke, nil, e.Reason
		}
		return refused, e.Reply, e.Reason
	case *smtp.Reply:
		if e == nil {
			return broke, nil, "answered a nil *smtp.Reply"
		}
		if e.Code < 400 || e.Code > 599 {
			return broke, nil, "answered " + e.String() + ", which is no refusal"
		}
		return refused, e, ""
	case *FailedError:
		if e == nil {
			return broke, nil, "answered a nil *FailedError"
		}
		v, reply := e.read()
		return v, reply, e.Err.Error()
	case *QuarantineError:
		return quarantined, nil, e.Reason
	case *Explained:
		if e == nil {
			return broke, nil, "answered a nil *Explained"
		}
		v, reply, reason := read(e.Err)
		if reason == "" && e.Err != nil {
			reason = e.Err.Error()
		}
		return v, reply, reason
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			v, reply, _ := read(inner)
			return v, reply, ""
		}
	case interface{ Unwrap() []error }:
		return readJoined(e.Unwrap())
	}
	if err == Discard {
		return discarded, nil, ""
	}
	return broke, nil, ""
}

func readJoined(errs []error) (worst verdict, reply *smtp.Reply, _ string) {
	for _, err := range errs {
		if v, r, _ := read(err); v > worst {
			worst, reply = v, r
		}
	}
	if worst == passed { // no part at all: an error nevertheless
		worst = broke
	}
	return worst, reply, ""
}

func (a answer) refusal(l *link, stage Stage) *Refusal {
	if a.inner != nil {
		r := *a.inner // which has its reference
		r.Stage = stage
		return &r
	}
	r := &Refusal{Policy: l.name, Stage: stage, Reason: a.reason, Broke: a.kind == broke, Ref: a.ref, Rule: a.rule, Inputs: a.inputs, Took: a.took}
	reply := a.reply
	if reply == nil {
		reply = replyBroke
	}
	r.Reply = referred(reply, r.Ref)
	return r
}

func (a answer) decision(l *link, stage Stage) Decision {
	d := Decision{Policy: l.name, Stage: stage, Reason: a.reason, Took: a.took, Ref: a.ref, Rule: a.rule, Inputs: a.inputs, Observed: l.watched}
	if in := a.inner; in != nil {
		d.Policy, d.Reason, d.Ref, d.Rule, d.Inputs = in.Policy, in.Reason, in.Ref, in.Rule, in.Inputs
	}
	if l.watched {
		d.Ref = "" // nobody is told
	}
	switch a.kind {
	case failedOpen:
		d.Kind = FailedOpen
	case quarantined:
		d.Kind = Quarantined
	case discarded:
		d.Kind = Discarded
	case refused:
		d.Kind = Rejected
		if a.reply.Temporary() {
			d.Kind = Deferred
		}
	case broke:
		d.Kind = Broke
	}
	return d
}

// cutShort reports whether the policy gave up by itself because its ctx ended.
func (a answer) cutShort() bool {
	return errors.Is(a.err, context.DeadlineExceeded) || errors.Is(a.err, context.Canceled)
}

// bounded cuts s to maxReason octets, between runes.
func bounded(s string) string {
	if len(s) <= maxReason {
		return s
	}
	cut := maxReason
	for cut > maxReason-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.Clone(s[:cut]) + "…"
}
