package delivery

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// panicError is a panic recovered.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// recovered calls f; a panic is a *panicError.
func recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}

// panicIn is the panic that err is, or that a verdict in it wraps; nil when there
// is none.
func panicIn(err error) *panicError {
	for range maxUnwrap {
		switch e := err.(type) {
		case *panicError:
			return e
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		default:
			return nil
		}
	}
	return nil
}

// maxText is the most octets of an adapter's error that are kept.
const maxText = 2048

// text is what err says, in bounds and never "": what is rejected without a word
// is rejected all the same. An error whose Error panics, as that of a nil pointer
// may, is said to.
func text(err error) (s string) {
	defer func() {
		if v := recover(); v != nil {
			s = fmt.Sprintf("an error of type %T that cannot be shown", err)
		}
	}()
	s = err.Error()
	if s == "" {
		return "no reason given"
	}
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// reason is an adapter's error made safe to show and to keep.
type reason struct {
	text string
	err  error
}

func reasonOf(err error) error {
	if err == nil {
		return nil
	}
	return &reason{text(err), err}
}

func (r *reason) Error() string { return r.text }
func (r *reason) Unwrap() error { return r.err }
