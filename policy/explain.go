package policy

import (
	"log/slog"
	"math/rand/v2"
)

// Explained is an answer with what it rests on. Because makes it.
type Explained struct {
	Err    error
	Rule   string
	Inputs []slog.Attr
}

func (e *Explained) Error() string { return e.Err.Error() }
func (e *Explained) Unwrap() error { return e.Err }

// Because says why: which rule of the policy spoke, in a word or two that stay the
// same, and what it looked at. Both are for the log and OnDecision, beside the
// reference that the client is given, and are never sent. answer is whatever Check
// may return; nil stays nil. An input whose key is mail_from or rcpt is logged as
// an address is.
func Because(answer error, rule string, inputs ...slog.Attr) error {
	if answer == nil {
		return nil
	}
	return &Explained{Err: answer, Rule: rule, Inputs: inputs}
}

// refLetters is 32 letters that are not taken for one another, also when they are
// read out.
const refLetters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

// newRef is a reference: 40 bits at random, so that among a million refusals
// hardly two share one.
func newRef() string {
	n := rand.Uint64()
	var ref [8]byte
	for i := range ref {
		ref[i] = refLetters[n>>(5*i)&31]
	}
	return string(ref[:])
}
