package policy

import (
	"context"
	"fmt"
	"testing"
)

type onlyAt struct{ at []Stage }

func (o *onlyAt) Asks(stage Stage) bool { return stage == StageRcpt }
func (o *onlyAt) Check(_ context.Context, stage Stage, _ *Transaction) error {
	o.at = append(o.at, stage)
	return nil
}

func TestAnAskerIsAskedAtItsStagesOnly(t *testing.T) {
	t.Parallel()
	p := new(onlyAt)
	c := NewChain([]Policy{Named("x", p)}, nil)
	for stage := StageConnect; stage <= StageMessage; stage++ {
		if err := c.Check(t.Context(), stage, new(Transaction)); err != nil {
			t.Fatal(err)
		}
		if c.AsksAt(stage) != (stage == StageRcpt) {
			t.Errorf("AsksAt(%v) is wrong", stage)
		}
	}
	if got := fmt.Sprint(p.at); got != "[rcpt]" {
		t.Errorf("asked at %s", got)
	}
}
