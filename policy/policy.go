// Package policy asks whether mail may go on: who may connect, send, be sent
// to, and whether a message is welcome. A Policy is asked at each Stage of a
// transaction; a Chain asks several, and the first objection wins. The built-in
// policies are here, one a file.
//
// It knows no queue and no adapter, and writes nothing to the wire: a policy's
// answer is a value.
package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/incoming-mx/incoming/smtp"
)

// Stage is when a policy is asked.
type Stage int

const (
	StageConnect Stage = iota + 1 // a client has connected; a refusal closes
	StageHello                    // EHLO or HELO
	StageMail                     // MAIL
	StageRcpt                     // each RCPT
	StageData                     // DATA, or the first BDAT chunk: before the text
	StageHeader                   // the header is in, the rest of the text is not
	StageMessage                  // the text is in, nothing is committed
)

func (s Stage) String() string {
	switch s {
	case StageConnect:
		return "connect"
	case StageHello:
		return "hello"
	case StageMail:
		return "mail"
	case StageRcpt:
		return "rcpt"
	case StageData:
		return "data"
	case StageHeader:
		return "header"
	case StageMessage:
		return "message"
	}
	return fmt.Sprintf("Stage(%d)", int(s))
}

// Policy judges a transaction.
type Policy interface {
	// Check is asked at every stage, from many sessions at once, and returns
	//
	//   - nil: no objection;
	//   - a *smtp.Reply with a code of 4xx or 5xx, or an error that wraps one,
	//     whose whole text is then the reason in the log: refused with that
	//     reply, and no later policy is asked;
	//   - Discard, from StageMail on: the message is told 250 and forgotten;
	//     no later policy is asked at any later stage;
	//   - Quarantine(reason), from StageMail on: the message is marked, and
	//     the chain goes on;
	//   - Failed(err, then), of a policy that relies on another program which
	//     fails: told of as a failure, and done as then says;
	//   - anything else, a panic, or no answer in 30 s: the policy broke. The
	//     client gets 451 4.3.0; it is never a pass.
	//
	// ctx ends at the deadline, or with the connection. t is the caller's
	// and must not be kept after Check returns.
	Check(ctx context.Context, stage Stage, t *Transaction) error
}

// Asker is a Policy that says at which stages it has anything to say; at the others
// a Chain does not ask it, which saves the time of a call. The answer is always the
// same for a stage.
type Asker interface {
	Policy
	Asks(stage Stage) bool
}

// Func is a func that is a Policy.
type Func func(ctx context.Context, stage Stage, t *Transaction) error

// Check calls f.
func (f Func) Check(ctx context.Context, stage Stage, t *Transaction) error { return f(ctx, stage, t) }

var _ Policy = Func(nil)

// Discard makes the server say 250 and forget the message. It is the one
// exception to "nothing accepted is lost", and is counted and logged.
//
//lint:ignore ST1012 it is an answer of a policy, not a failure
var Discard = errors.New("policy: discard")

// QuarantineError is what Quarantine returns.
type QuarantineError struct{ Reason string }

func (e *QuarantineError) Error() string { return "policy: quarantine: " + e.Reason }

// Quarantine marks the message: the adapter finds the reason in
// Message.Quarantine. An empty reason is replaced by "unspecified".
func Quarantine(reason string) error {
	if reason == "" {
		reason = "unspecified"
	}
	return &QuarantineError{Reason: reason}
}

// Reject is a refusal for good: 550 5.7.1 with that text.
func Reject(text string) *smtp.Reply {
	return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: text}
}

// Tempfail is a refusal for now: 451 4.7.1 with that text.
func Tempfail(text string) *smtp.Reply {
	return &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: text}
}
