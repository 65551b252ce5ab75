package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Tapper is a Policy that reads the text as it streams in, once, in place of
// opening it at the end.
type Tapper interface {
	Policy
	// Tap is asked when the text begins, after StageData. The writer is given
	// every octet as it comes, from one goroutine; nil is not interested. At
	// StageHeader and StageMessage Transaction.Tapped is that writer. ctx ends
	// with the transaction: after StageMessage, or when the text breaks off, of
	// which nothing else is told.
	//
	// A tap that panics, returns an error, or takes longer than a policy may
	// over all its writes together is given no more; its policy has then
	// failed and answers 451 at StageMessage.
	Tap(ctx context.Context, t *Transaction) io.Writer
}

// Taps reports whether any policy may read along.
func (c *Chain) Taps() bool {
	for _, l := range c.links {
		if _, ok := l.policy.(Tapper); ok {
			return true
		}
	}
	return false
}

// Tap collects the taps of the chain's policies for the text that now begins.
// The session writes the text to what it returns, from one goroutine; nil means
// that no policy wants it. Its Write never fails: what goes wrong is answered
// at StageMessage. The session ends ctx when the transaction is over.
func (c *Chain) Tap(ctx context.Context, t *Transaction) io.Writer {
	t.tapped = nil
	if t.discardedBy != "" {
		return nil
	}
	all := &taps{chain: c, ctx: ctx}
	for _, l := range c.links {
		p, ok := l.policy.(Tapper)
		if !ok {
			continue
		}
		tp := &tap{link: l, left: c.timeout}
		var w io.Writer
		if tp.run(all, t, func(fork *Transaction) error { w = p.Tap(ctx, fork); return nil }) {
			tp.w = w
		}
		if tp.w != nil || tp.err != nil {
			all.taps = append(all.taps, tp)
		}
	}
	if len(all.taps) == 0 {
		return nil
	}
	all.t = t
	t.tapped = all
	return all
}

// tapped is the tap of one of the chain's policies: its writer, and why it
// failed.
func (c *Chain) tapped(l *link, t *Transaction) (io.Writer, error) {
	all, ok := t.tapped.(*taps)
	if !ok || all.chain != c {
		return nil, nil
	}
	for _, tp := range all.taps {
		if tp.link == l {
			return tp.w, tp.err
		}
	}
	return nil, nil
}

// taps is the taps of one chain for one message.
type taps struct {
	chain *Chain
	ctx   context.Context // of the transaction: Write has none
	t     *Transaction
	taps  []*tap
}

// Write gives p to each tap that has not failed.
func (ts *taps) Write(p []byte) (int, error) {
	for _, tp := range ts.taps {
		if tp.err == nil && len(p) > 0 {
			tp.write(ts, p)
		}
	}
	return len(p), nil
}

type tap struct {
	link *link
	w    io.Writer
	err  error         // why it is given no more
	left time.Duration // of its time; negative: no bound
	buf  []byte
}

// write gives the tap a copy: p is used again as soon as Write returns, a tap
// given up may still be reading then.
func (tp *tap) write(ts *taps, p []byte) {
	tp.buf = append(tp.buf[:0], p...)
	buf := tp.buf
	tp.run(ts, ts.t, func(*Transaction) error {
		n, err := tp.w.Write(buf)
		if err == nil && n < len(buf) {
			err = io.ErrShortWrite
		}
		return err
	})
}

// run calls f in the time the tap has left, and reports whether it was fine. If
// it was not, that is the end of the tap.
func (tp *tap) run(ts *taps, t *Transaction, f func(fork *Transaction) error) bool {
	c, ctx := ts.chain, ts.ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tp.left)
		defer cancel()
	}
	start := time.Now()
	fork := t.fork()
	a, returned := c.call(ctx, tp.link, StageData, fork, func() error {
		if err := f(fork); err != nil {
			return fmt.Errorf("%v", err) // no verdict can come out of a tap
		}
		return nil
	})
	t.join(fork, returned)
	if c.timeout > 0 {
		tp.left -= time.Since(start)
	}
	if a.kind != passed {
		tp.err = errors.New(a.reason)
	}
	return tp.err == nil
}
