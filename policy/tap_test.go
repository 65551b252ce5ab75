package policy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tapping is a policy whose tap is w and which checks what came.
type tapping struct {
	w     func() io.Writer
	check func(tapped io.Writer) error
}

func (p *tapping) Tap(context.Context, *Transaction) io.Writer { return p.w() }

func (p *tapping) Check(_ context.Context, stage Stage, t *Transaction) error {
	if stage != StageMessage || p.check == nil {
		return nil
	}
	return p.check(t.Tapped())
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTapIsGivenTheTextAndFoundAgain(t *testing.T) {
	t.Parallel()
	p := Named("sum", &tapping{
		w: func() io.Writer { return &bytes.Buffer{} },
		check: func(w io.Writer) error {
			if got := w.(*bytes.Buffer).String(); got != "one two" {
				return errors.New("tapped " + got)
			}
			return nil
		},
	})
	c := NewChain([]Policy{p, MaxSize(1 << 20)}, nil)
	for range 2 {
		tx := inMail(t)
		w := c.Tap(t.Context(), tx)
		text := []byte("one ")
		w.Write(text)
		w.Write(nil)
		io.WriteString(w, "two")
		if err := c.Check(t.Context(), StageMessage, tx); err != nil {
			t.Error(err)
		}
	}
}

func TestNoTapNoWriter(t *testing.T) {
	t.Parallel()
	c := NewChain([]Policy{MaxSize(1), &tapping{w: func() io.Writer { return nil }, check: func(w io.Writer) error {
		if w != nil {
			return errors.New("a tap out of nowhere")
		}
		return nil
	}}}, nil)
	tx := inMail(t)
	if w := c.Tap(t.Context(), tx); w != nil {
		t.Errorf("a writer %v", w)
	}
	if err := c.Check(t.Context(), StageMessage, tx); err != nil {
		t.Error(err)
	}
}

func TestTapThatFailsIsNeverAPassAndStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() io.Writer{
		"error": func() io.Writer {
			return writerFunc(func(p []byte) (int, error) { return 0, errors.New("full") })
		},
		"a refusal is an error here": func() io.Writer { return writerFunc(func(p []byte) (int, error) { return 0, Discard }) },
		"short":                      func() io.Writer { return writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }) },
		"panic":                      func() io.Writer { return writerFunc(func(p []byte) (int, error) { panic("boom") }) },
		"panic in Tap":               func() io.Writer { panic("boom") },
		"hang in Tap":                func() io.Writer { time.Sleep(time.Hour); return &bytes.Buffer{} },
		"hang": func() io.Writer {
			return writerFunc(func(p []byte) (int, error) { time.Sleep(time.Hour); return len(p), nil })
		},
		"slow in sum": func() io.Writer {
			return writerFunc(func(p []byte) (int, error) { time.Sleep(9 * time.Second); return len(p), nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var whole bytes.Buffer
				bad := Named("bad", &tapping{w: fail})
				good := Named("good", &tapping{w: func() io.Writer { return &whole }})
				w := watch(ChainOptions{}, good, bad, good)
				tx := inMail(t)
				start := time.Now()
				out := w.Tap(t.Context(), tx)
				for range 5 {
					if n, err := io.WriteString(out, "text"); n != 4 || err != nil {
						t.Fatal(n, err)
					}
				}
				if took := time.Since(start); took > DefaultTimeout {
					t.Errorf("the session was held up for %v", took)
				}
				if got, want := whole.String(), strings.Repeat("texttext", 5); got != want {
					t.Errorf("the others got %q", got)
				}
				r := refusal(t, w.Check(t.Context(), StageMessage, tx))
				if r.Policy != "bad" || !r.Broke || !strings.HasPrefix(r.Reason, "tap: ") {
					t.Errorf("%+v", r)
				}
				if err := w.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTapKeepsItsOwnCopyWhenGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got string
		c := NewChain([]Policy{&tapping{w: func() io.Writer {
			return writerFunc(func(p []byte) (int, error) {
				time.Sleep(time.Hour)
				got = string(p)
				return len(p), nil
			})
		}}}, nil)
		tx := inMail(t)
		out := c.Tap(t.Context(), tx)
		buf := []byte("first")
		out.Write(buf)
		copy(buf, "XXXXX")
		out.Write(buf)
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got != "first" {
			t.Errorf("the tap read %q", got)
		}
	})
}

func TestChainInAChainIsTapped(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	inner := NewChain([]Policy{Named("deep", &tapping{
		w: func() io.Writer { return &text },
		check: func(w io.Writer) error {
			if w != &text {
				return errors.New("another tap")
			}
			return Reject("seen " + text.String())
		},
	})}, nil)
	c := NewChain([]Policy{inner}, nil)
	tx := inMail(t)
	io.WriteString(c.Tap(t.Context(), tx), "it")
	if r := refusal(t, c.Check(t.Context(), StageMessage, tx)); r.Policy != "deep" || r.Reply.Text != "seen it" {
		t.Errorf("%+v", r)
	}
}
