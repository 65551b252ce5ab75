package recipients

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
)

// atOnce is how many addresses one source is asked about at a time: who guesses
// addresses must not turn into a flood of questions to the application.
const atOnce = 64

var errTurn = errors.New("no turn to ask: too many are asked about already")

// remembered is a source whose answers are remembered, and that is asked about one
// address once at a time.
type remembered struct {
	source  Source
	timeout time.Duration              // for one question; not positive: none
	answers *otter.Cache[string, bool] // nil: none is remembered
	flights singleflight.Group
	turns   chan struct{}
}

func remember(s Source, timeout time.Duration, o *Options) *remembered {
	r := &remembered{source: s, timeout: timeout, turns: make(chan struct{}, atOnce)}
	entries := cmp.Or(o.Entries, 100_000)
	// Past its time an answer is none; one that is not to be remembered has none.
	lasts := map[bool]time.Duration{true: cmp.Or(o.KnownFor, 5*time.Minute), false: cmp.Or(o.UnknownFor, 30*time.Second)}
	if entries < 0 || lasts[true] < 0 && lasts[false] < 0 {
		return r
	}
	r.answers = otter.Must(&otter.Options[string, bool]{
		MaximumSize: entries,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, bool]) time.Duration {
			return max(lasts[e.Value], time.Nanosecond)
		}),
	})
	return r
}

// panicked is a panic of a source on its way to those who asked.
type panicked struct{ text string }

func (p *panicked) Error() string { return p.text }

func (r *remembered) Known(ctx context.Context, address string) (bool, error) {
	if r.answers != nil {
		if there, ok := r.answers.GetIfPresent(address); ok {
			return there, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// Whoever asked first may leave: the question is everyone's.
	flight := r.flights.DoChan(address, func() (any, error) { return r.ask(context.WithoutCancel(ctx), address) })
	select {
	case answer := <-flight:
		var p *panicked
		if errors.As(answer.Err, &p) {
			panic(p.text) // here it is recovered, and told
		}
		there, _ := answer.Val.(bool) // nil with an error
		return there, answer.Err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (r *remembered) ask(ctx context.Context, address string) (there bool, err error) {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return false, errTurn
	}
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{fmt.Sprintf("%v\n\n%s", v, debug.Stack())}
		}
	}()
	if there, err = r.source.Known(ctx, address); err != nil {
		return false, err
	}
	if r.answers != nil {
		r.answers.Set(address, there)
	}
	return there, nil
}
