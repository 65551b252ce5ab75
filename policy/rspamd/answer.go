package rspamd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"mime"
	"slices"
	"strings"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// The actions that rspamd may decide on. Others are those of an operator's own: the
// message passes, and the application finds the action among the facts.
const (
	actionReject   = "reject"
	actionSoft     = "soft reject"
	actionGreylist = "greylist"
	actionHeader   = "add header"
	actionSubject  = "rewrite subject"
	actionDiscard  = "discard"
	actionHold     = "quarantine"
)

// answer is rspamd's, as far as it is looked at.
type answer struct {
	Action   string            `json:"action"`
	Score    float64           `json:"score"`
	Required float64           `json:"required_score"`
	Subject  string            `json:"subject"`
	Symbols  map[string]symbol `json:"symbols"`
	Messages struct {
		SMTP string `json:"smtp_message"`
	} `json:"messages"`
	Error  string `json:"error"`
	Milter struct {
		Add        map[string]fields `json:"add_headers"`
		Remove     map[string]int    `json:"remove_headers"`
		ChangeFrom string            `json:"change_from"`
		AddRcpt    []string          `json:"add_rcpt"`
		DelRcpt    []string          `json:"del_rcpt"`
	} `json:"milter"`
}

type symbol struct {
	Score float64 `json:"score"`
}

// field is one that rspamd wants in the message.
type field struct {
	name  string
	Value string `json:"value"`
	// Order is its place from the top, or, negative, from the end.
	Order int `json:"order"`
}

// fields is those of one name: rspamd writes a string, an object, or a list of such.
type fields []field

// UnmarshalJSON takes all of these.
func (f *fields) UnmarshalJSON(raw []byte) error {
	var many []json.RawMessage
	if json.Unmarshal(raw, &many) != nil {
		many = []json.RawMessage{raw}
	}
	for _, one := range many {
		v := field{Order: -1}
		if json.Unmarshal(one, &v.Value) != nil {
			if err := json.Unmarshal(one, &v); err != nil {
				return err
			}
		}
		*f = append(*f, v)
	}
	return nil
}

func parse(text []byte) (*answer, error) {
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("an answer that is none: %w", err)
	}
	switch {
	case a.Error != "":
		return nil, fmt.Errorf("answered: %.200s", a.Error)
	case a.Action == "":
		return nil, errors.New("an answer without an action")
	case a.Milter.ChangeFrom != "" || len(a.Milter.AddRcpt) > 0 || len(a.Milter.DelRcpt) > 0:
		return nil, errors.New("wants the envelope changed, which is not done")
	}
	return &a, nil
}

// act does what rspamd has decided; err says why that cannot be done.
func (a *answer) act(t *policy.Transaction) (said, err error) {
	reply, err := a.reply()
	if err != nil {
		return nil, err
	}
	change, err := a.changes(t)
	if err != nil {
		return nil, err
	}
	if err := a.facts(t); err != nil {
		return nil, err
	}
	switch a.Action {
	case actionReject, actionSoft, actionGreylist:
		return a.because(reply), nil
	case actionDiscard:
		return a.because(policy.Discard), nil
	case actionHold:
		change()
		return a.because(policy.Quarantine(fmt.Sprintf("rspamd: %.2f", a.Score))), nil
	}
	change()
	return nil, nil
}

// reply is what a refusal is: in rspamd's words, if it has any.
func (a *answer) reply() (*smtp.Reply, error) {
	reply := replyRefused
	if a.Action != actionReject {
		reply = replyDeferred
	}
	if a.Messages.SMTP == "" {
		return reply, nil
	}
	return policy.Worded(fmt.Sprintf("%d %s %s", reply.Code, reply.Enhanced, strings.NewReplacer("\r", " ", "\n", " ").Replace(a.Messages.SMTP)))
}

// because is why: the action and what it rests on.
func (a *answer) because(said error) error {
	return policy.Because(said, a.Action, slog.Float64("score", a.Score), slog.Float64("required", a.Required), slog.String("symbols", a.strongest(5)))
}

// strongest is the names of the n symbols that weigh most.
func (a *answer) strongest(n int) string {
	names := a.byWeight()
	return strings.Join(names[:min(n, len(names))], ",")
}

// byWeight is the symbols' names, those that weigh most first.
func (a *answer) byWeight() []string {
	return slices.SortedFunc(maps.Keys(a.Symbols), func(x, y string) int {
		return cmp.Or(cmp.Compare(math.Abs(a.Symbols[y].Score), math.Abs(a.Symbols[x].Score)), strings.Compare(x, y))
	})
}

const (
	mostSymbols = 50 // among the facts
	mostSymbol  = 60 // octets of a symbol's name
)

// Symbol is one of the fact rspamd.symbols, in which those that weigh most come
// first.
type Symbol struct {
	Name  string  `json:"name"`
	Score float64 `json:"score"`
}

func (a *answer) facts(t *policy.Transaction) error {
	symbols := []Symbol{}
	for _, name := range a.byWeight() {
		if len(symbols) < mostSymbols && len(name) <= mostSymbol {
			symbols = append(symbols, Symbol{name, a.Symbols[name].Score})
		}
	}
	for key, v := range map[string]any{"rspamd.action": a.Action, "rspamd.score": a.Score, "rspamd.symbols": symbols} {
		if err := t.SetFact(key, v); err != nil {
			return err
		}
	}
	return nil
}

// changes is the change of the header that rspamd wants, checked: it cannot fail any
// more.
func (a *answer) changes(t *policy.Transaction) (change func(), err error) {
	top := a.fields()
	// An X-Spam that came with the message is the sender's word, whatever rspamd
	// found.
	removed := append(a.removed(t.Header), named(t.Header, "X-Spam")...)
	switch a.Action {
	case actionHeader:
		if _, own := a.Milter.Add["X-Spam"]; !own {
			top = append(top, field{name: "X-Spam", Value: "Yes"})
		}
	case actionSubject:
		if a.Subject != "" {
			removed = append(removed, named(t.Header, "Subject")...)
			top = append(top, field{name: "Subject", Value: mime.QEncoding.Encode("utf-8", a.Subject)})
		}
	}
	var trial policy.Transaction
	for i := range top {
		if top[i].Value, err = policy.Folded(top[i].Value); err != nil {
			return nil, fmt.Errorf("header field %.100q: %w", top[i].name, err)
		}
		if err := trial.Prepend(top[i].name, top[i].Value); err != nil {
			return nil, err
		}
	}
	return func() {
		for _, f := range removed {
			t.Remove(f)
		}
		for _, f := range slices.Backward(top) {
			_ = t.Prepend(f.name, f.Value) // the trial took it
		}
	}, nil
}

// fields is those that rspamd wants added, topmost first.
func (a *answer) fields() (all []field) {
	for name, of := range a.Milter.Add {
		for _, f := range of {
			f.name = name
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(x, y field) int {
		return cmp.Or(cmp.Compare(uint(x.Order), uint(y.Order)), strings.Compare(x.name, y.name)) // negative is last
	})
	return all
}

// removed is the fields of h that rspamd wants taken out: of a name all, or the one
// of that number, from 1 at the top or -1 at the end.
func (a *answer) removed(h header.Header) (out []header.Field) {
	for name, n := range a.Milter.Remove {
		all := named(h, name)
		switch {
		case n > len(all) || -n > len(all):
			continue
		case n > 0:
			all = all[n-1 : n]
		case n < 0:
			all = all[len(all)+n : len(all)+n+1]
		}
		out = append(out, all...)
	}
	return out
}

// named is the fields of a name, in any case.
func named(h header.Header, name string) (all []header.Field) {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f)
		}
	}
	return all
}
