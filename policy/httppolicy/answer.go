package httppolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/incoming-mx/incoming/policy"
)

// The actions of an Answer.
const (
	ActionPass       = "pass"
	ActionReject     = "reject"
	ActionTempfail   = "tempfail"
	ActionQuarantine = "quarantine" // from mail on
	ActionDiscard    = "discard"    // from mail on
)

// Answer is what the application says: in JSON with 200, or, for a plain pass,
// nothing with 204. Keys that are not here are ignored.
type Answer struct {
	Action string `json:"action"`
	// Reply is what the client of a reject or tempfail is told, "550 5.7.1 Not
	// today": of 5xx for the one, of 4xx for the other; "" is a reply of ours.
	Reply string `json:"reply"`
	// Reason is why, for the log, and for the mark of a quarantine.
	Reason string `json:"reason"`
	// Facts are kept as http_policy.NAME.
	Facts map[string]json.RawMessage `json:"facts"`
	// Headers are fields for the top of the message, topmost first, from mail
	// on.
	Headers []Field `json:"headers"`
}

// Field is a header field.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func parse(text []byte) (*Answer, error) {
	if len(text) == 0 {
		return &Answer{Action: ActionPass}, nil
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("an answer that is none: %w", err)
	}
	return &a, nil
}

// act does what the application says; err says why that cannot be done.
func (a *Answer) act(stage policy.Stage, t *policy.Transaction) (said, err error) {
	said, err = a.verdict(stage)
	if err != nil {
		return nil, err
	}
	change, err := a.changes(stage, t)
	if err != nil {
		return nil, err
	}
	for name, v := range a.Facts {
		if err := t.SetFact("http_policy."+name, v); err != nil {
			return nil, err
		}
	}
	change()
	return said, nil
}

// verdict is what the action means.
func (a *Answer) verdict(stage policy.Stage) (said, err error) {
	var reason []slog.Attr
	if a.Reason != "" {
		reason = append(reason, slog.String("reason", a.Reason))
	}
	if stage < policy.StageMail && (a.Action == ActionQuarantine || a.Action == ActionDiscard) {
		return nil, fmt.Errorf("the action %s at %s, before there is a message", a.Action, stage)
	}
	switch a.Action {
	case ActionPass:
		return nil, nil
	case ActionQuarantine:
		return policy.Because(policy.Quarantine(a.Reason), a.Action, reason...), nil
	case ActionDiscard:
		return policy.Because(policy.Discard, a.Action, reason...), nil
	case ActionReject, ActionTempfail:
	default:
		return nil, fmt.Errorf("the action %.40q, which is none", a.Action)
	}
	reply := replyRefused
	if a.Action == ActionTempfail {
		reply = replyDeferred
	}
	if a.Reply != "" {
		if reply, err = policy.Worded(a.Reply); err != nil {
			return nil, err
		}
		if reply.Temporary() != (a.Action == ActionTempfail) {
			return nil, fmt.Errorf("the reply %.80q to %s", a.Reply, a.Action)
		}
	}
	return policy.Because(reply, a.Action, reason...), nil
}

// changes prepends the fields; they are checked: it cannot fail any more.
func (a *Answer) changes(stage policy.Stage, t *policy.Transaction) (change func(), err error) {
	if len(a.Headers) > 0 && stage < policy.StageMail {
		return nil, errors.New("header fields before there is a message")
	}
	var trial policy.Transaction
	for i, f := range a.Headers {
		if a.Headers[i].Value, err = policy.Folded(f.Value); err != nil {
			return nil, fmt.Errorf("header field %.100q: %w", f.Name, err)
		}
		if err := trial.Prepend(f.Name, a.Headers[i].Value); err != nil {
			return nil, err
		}
	}
	return func() {
		for _, f := range slices.Backward(a.Headers) {
			_ = t.Prepend(f.Name, f.Value) // the trial took it
		}
	}, nil
}
