package policy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/header"
)

func TestBecauseTellsRuleAndInputsAndTheyAreNeverSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer error
		kind   Kind
		reason string
	}{
		"reply":          {Reject("No"), Rejected, "550 5.7.1 No"},
		"4xx":            {Tempfail("Later"), Deferred, "451 4.7.1 Later"},
		"quarantine":     {Quarantine("odd"), Quarantined, "odd"},
		"discard":        {Discard, Discarded, "policy: discard"},
		"an error":       {errors.New("away"), Broke, "away"},
		"wrapped around": {Because(Reject("No"), "inner"), Rejected, "550 5.7.1 No"},
	} {
		w := watch(ChainOptions{}, Named("p", answers(Because(c.answer, "score", slog.String("secret", "internal"), slog.Int("n", 7)))))
		err := w.Check(t.Context(), StageMail, inMail(t))
		ds := w.said()
		if len(ds) != 1 || ds[0].Kind != c.kind || ds[0].Rule != "score" || len(ds[0].Inputs) != 2 || ds[0].Reason != c.reason {
			t.Errorf("%s: told %+v", name, ds)
			continue
		}
		if err == nil {
			if ds[0].Ref != "" {
				t.Errorf("%s: a reference that nobody was given: %+v", name, ds[0])
			}
			continue
		}
		var r *Refusal
		if !errors.As(err, &r) || r.Ref != ds[0].Ref || r.Rule != "score" || len(r.Inputs) != 2 || r.Took != ds[0].Took {
			t.Errorf("%s: refused %+v, told %+v", name, r, ds[0])
		}
		unreferred(t, r)
		if strings.Contains(r.Reply.Text, "internal") || strings.Contains(r.Reply.Text, "score") {
			t.Errorf("%s: sent %q", name, r.Reply)
		}
	}
	if Because(nil, "x") != nil {
		t.Error("no objection became one")
	}
	w := watch(ChainOptions{}, Named("p", answers((*Explained)(nil))))
	if r := refusal(t, w.Check(t.Context(), StageMail, inMail(t))); !r.Broke {
		t.Errorf("a nil *Explained: %+v", r)
	}
}

func TestARefusalWithinAChainKeepsItsReference(t *testing.T) {
	t.Parallel()
	inner := watch(ChainOptions{}, Named("deep", answers(Because(Reject("No"), "r"))))
	outer := watch(ChainOptions{}, inner.Chain)
	err := outer.Check(t.Context(), StageMail, inMail(t))
	var r *Refusal
	if !errors.As(err, &r) || strings.Count(r.Reply.Text, "(ref ") != 1 {
		t.Fatalf("%v", err)
	}
	in, out := inner.said(), outer.said()
	if in[0].Ref != r.Ref || out[0].Ref != r.Ref || out[0].Rule != "r" || r.Policy != "deep" {
		t.Errorf("inner %+v, outer %+v, refused %+v", in, out, r)
	}
}

func TestReferencesDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		seen[newRef()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000", len(seen))
	}
}

func TestAnObservedPolicySaysWhatItWouldDoAndDoesNothing(t *testing.T) {
	t.Parallel()
	h := header.Parse([]byte("A: 1\r\n\r\n"))
	for name, answer := range map[string]func(tx *Transaction) error{
		"reject":     func(*Transaction) error { return Because(Reject("No"), "r") },
		"discard":    func(*Transaction) error { return Discard },
		"quarantine": func(*Transaction) error { return Quarantine("odd") },
		"error":      func(*Transaction) error { return errors.New("away") },
		"a panic":    func(*Transaction) error { panic("boom") },
		"nothing":    func(*Transaction) error { return nil },
	} {
		p := Func(func(_ context.Context, _ Stage, tx *Transaction) error {
			if err := errors.Join(tx.SetFact("p.seen", true), tx.Prepend("X-P", "1")); err != nil {
				return err
			}
			for f := range tx.Header.Fields() {
				tx.Remove(f)
			}
			return answer(tx)
		})
		for _, wrap := range []func(Policy) Policy{
			func(p Policy) Policy { return Observe(Named("p", p)) },
			func(p Policy) Policy { return Named("p", Observe(p)) },
		} {
			asked := 0
			next := Func(func(context.Context, Stage, *Transaction) error { asked++; return nil })
			w := watch(ChainOptions{}, wrap(p), next)
			tx := inMail(t)
			tx.Header = h
			if err := w.Check(t.Context(), StageMessage, tx); err != nil || asked != 1 {
				t.Errorf("%s: %v, the next was asked %d times", name, err, asked)
			}
			if tx.Discarded() != "" || tx.Quarantined() != "" || len(tx.Prepended()) > 0 || len(tx.Removed()) > 0 {
				t.Errorf("%s: discarded %q, quarantined %q, prepended %q, removed %v", name, tx.Discarded(), tx.Quarantined(), tx.Prepended(), tx.Removed())
			}
			if string(tx.Fact("p.seen")) != "true" {
				t.Errorf("%s: its fact is gone", name)
			}
			ds := w.said()
			if name == "nothing" {
				if len(ds) > 0 {
					t.Errorf("%s: told %+v", name, ds)
				}
				continue
			}
			if len(ds) != 1 || !ds[0].Observed || ds[0].Policy != "p" || ds[0].Ref != "" {
				t.Errorf("%s: told %+v", name, ds)
			}
		}
	}
}

func TestAnObservedPolicyAskedDirectlyHasNoObjection(t *testing.T) {
	t.Parallel()
	tx := inMail(t)
	p := Observe(Func(func(_ context.Context, _ Stage, tx *Transaction) error {
		return errors.Join(tx.Prepend("X-P", "1"), Reject("No"))
	}))
	if err := p.Check(t.Context(), StageMail, tx); err != nil || len(tx.Prepended()) > 0 {
		t.Errorf("%v, %q", err, tx.Prepended())
	}
	if got := NameOf(Observe(Named("x", p))); got != "x" {
		t.Errorf("its name is %s", got)
	}
}

// Each built-in policy says by which rule it refuses.
func TestTheBuiltInPoliciesExplainThemselves(t *testing.T) {
	t.Parallel()
	ours, err := AcceptDomains("example.org")
	if err != nil {
		t.Fatal(err)
	}
	tx := inMail(t, "b@elsewhere.example")
	tx.Size, tx.Hello = 100, "x"
	tx.FromParams.Size = 100
	for stage, ps := range map[Stage][]Policy{
		StageMail: {RequireTLS(), RequireHello(), MaxSize(10)},
		StageRcpt: {ours, Func(func(ctx context.Context, s Stage, t *Transaction) error {
			t.To = slices.Repeat(t.To, 2)
			return MaxRecipients(1).Check(ctx, s, t)
		})},
	} {
		for _, p := range ps {
			var r *Refusal
			if !errors.As(NewChain([]Policy{p}, nil).Check(t.Context(), stage, tx), &r) || r.Rule == "" {
				t.Errorf("%s: %+v", NameOf(p), r)
			}
		}
	}
}
