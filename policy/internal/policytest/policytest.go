// Package policytest asks policies as a session does and takes their answers apart:
// it is for the tests of policies that ask another program.
package policytest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/policy"
)

// Judged is what a chain of the policies says at a stage, and what it tells.
func Judged(tb testing.TB, stage policy.Stage, tx *policy.Transaction, ps ...policy.Policy) ([]policy.Decision, error) {
	tb.Helper()
	var told []policy.Decision
	chain := policy.NewChain(ps, &policy.ChainOptions{OnDecision: func(_ *policy.Transaction, d policy.Decision) { told = append(told, d) }})
	err := chain.Check(tb.Context(), stage, tx)
	return told, err
}

// Replied is the reply of a refusal without its reference; "" of none.
func Replied(err error) string {
	var r *policy.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return strings.TrimSuffix(r.Reply.String(), " (ref "+r.Ref+")")
}

// Stored is the message as it would be read from the queue, without Received.
func Stored(tb testing.TB, tx *policy.Transaction) string {
	tb.Helper()
	r, err := tx.Open()
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	gone := make([]bool, len(text))
	for _, f := range tx.Removed() {
		for i := range f.Raw {
			gone[int(f.Offset)+i] = true
		}
	}
	left := slices.Clone(tx.Prepended())
	for i, c := range text {
		if !gone[i] {
			left = append(left, c)
		}
	}
	return string(left)
}

// Program is the URL of a program that answers over HTTP until the test ends.
func Program(tb testing.TB, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL
}

// Gone is the URL of a program that does not run. Its port is one that no test is given:
// that of a server which has ended may be another one's by now.
func Gone() string { return "http://127.0.0.1:1" }

// Says answers with a body.
func Says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // what is left unread closes the connection
		io.WriteString(w, body)
	}
}

// Hang takes a request and never answers.
func Hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Failure is a policy whose program is not well.
type Failure struct {
	Stage policy.Stage
	// Tx is a transaction at that stage, another each time.
	Tx func() *policy.Transaction
	// Policy is the policy with that timeout and that to do when its program
	// fails.
	Policy func(timeout time.Duration, then policy.FailureAction) policy.Policy
	// Rule is what is to be told, "failed" or "timeout"; the reason has Reason.
	Rule, Reason string
}

// Check holds that the failure is told as one and done as configured, whatever that
// is (D19, D20); unchanged then looks whether it has changed the transaction.
func (f Failure) Check(t *testing.T, unchanged func(t *testing.T, tx *policy.Transaction)) {
	t.Helper()
	timeout := time.Minute
	if f.Rule == "timeout" {
		timeout = 100 * time.Millisecond
	}
	for _, c := range []struct {
		then  policy.FailureAction
		reply string
		kind  policy.Kind
	}{
		{policy.FailTempfail, "451 4.3.0 Local problem, try again later", policy.Broke},
		{policy.FailAccept, "", policy.FailedOpen},
		{policy.FailReject, "554 5.3.0 Not accepted: it could not be checked", policy.Broke},
	} {
		tx := f.Tx()
		told, err := Judged(t, f.Stage, tx, f.Policy(timeout, c.then))
		if got := Replied(err); got != c.reply {
			t.Errorf("%v: replied %q, want %q", c.then, got, c.reply)
		}
		if len(told) != 1 || told[0].Rule != f.Rule || !strings.Contains(told[0].Reason, f.Reason) || told[0].Kind != c.kind {
			t.Errorf("%v: told %+v", c.then, told)
		}
		unchanged(t, tx)
	}
}
