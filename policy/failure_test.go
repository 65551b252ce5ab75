package policy

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// D19: what a policy relies on may fail. Whatever is to become of the mail, the failure
// is told of, and it is never silent.
func TestAFailureIsToldAndDoneAsAsked(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	for _, c := range []struct {
		then  FailureAction
		reply string // "" is none
		kind  Kind
	}{
		{FailTempfail, "451 4.3.0 Local problem, try again later", Broke},
		{FailAccept, "", FailedOpen},
		{FailReject, "554 5.3.0 Not accepted: it could not be checked", Broke},
	} {
		later := 0
		w := watch(ChainOptions{}, Named("filter", answers(Because(Failed(down, c.then), "unreachable", slog.String("filter", "scan")))),
			Func(func(context.Context, Stage, *Transaction) error { later++; return nil }))
		err := w.Check(context.Background(), StageMail, inMail(t))
		said := w.said()
		if len(said) != 1 || said[0].Kind != c.kind || said[0].Reason != down.Error() || said[0].Rule != "unreachable" || len(said[0].Inputs) != 1 {
			t.Fatalf("%v: told %+v", c.then, said)
		}
		if c.reply == "" {
			if err != nil || later != 1 {
				t.Errorf("%v: %v, and the next policy was asked %d times", c.then, err, later)
			}
			continue
		}
		if r := refusal(t, err); r.Reply.String() != c.reply || !r.Broke || later != 0 {
			t.Errorf("%v: %v, and the next policy was asked %d times", c.then, r.Reply, later)
		}
	}
}

func TestAFailureThatIsOnlyObservedIsAPassAndTold(t *testing.T) {
	t.Parallel()
	w := watch(ChainOptions{}, Observe(answers(Failed(errors.New("down"), FailReject))))
	if err := w.Check(context.Background(), StageMail, inMail(t)); err != nil {
		t.Error(err)
	}
	if said := w.said(); len(said) != 1 || said[0].Kind != Broke || !said[0].Observed {
		t.Errorf("told %+v", said)
	}
}

func TestAFailureWithoutAReasonIsAFailure(t *testing.T) {
	t.Parallel()
	for _, err := range []error{Failed(nil, FailTempfail), (*FailedError)(nil)} {
		w := watch(ChainOptions{}, answers(err))
		if w.Check(context.Background(), StageMail, inMail(t)) == nil {
			t.Errorf("%#v passed", err)
		}
	}
}
