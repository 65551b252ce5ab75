package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/incoming-mx/incoming/smtp"
)

// FailureAction is what becomes of mail when a policy cannot do its work, because
// the program or the network it relies on fails.
type FailureAction int

const (
	// FailTempfail answers 451 4.3.0, and the client comes again. It is what
	// becomes of any policy that breaks.
	FailTempfail FailureAction = iota
	// FailAccept lets mail go on as if the policy had not been asked.
	FailAccept
	// FailReject answers 554 5.3.0.
	FailReject
)

func (f FailureAction) String() string {
	switch f {
	case FailTempfail:
		return "tempfail"
	case FailAccept:
		return "accept"
	case FailReject:
		return "reject"
	}
	return fmt.Sprintf("FailureAction(%d)", int(f))
}

// FailedError is what Failed returns.
type FailedError struct {
	Err  error
	Then FailureAction
}

func (e *FailedError) Error() string { return e.Err.Error() }
func (e *FailedError) Unwrap() error { return e.Err }

// Failed is the answer of a policy that could not do its work. Whatever is to
// become of the mail, it is told of as a failure, with err as the reason: as Broke,
// or with FailAccept as FailedOpen. A nil err is an error nevertheless.
func Failed(err error, then FailureAction) error {
	if err == nil {
		err = errors.New("policy: failed without a reason")
	}
	return &FailedError{Err: err, Then: then}
}

// read is the verdict, and the reply where it is not the one of all that break.
func (e *FailedError) read() (verdict, *smtp.Reply) {
	switch e.Then {
	case FailAccept:
		return failedOpen, nil
	case FailReject:
		return broke, replyUnchecked
	}
	return broke, nil
}

// External is what a policy relies on: a program that is asked, and what becomes
// of mail when it fails.
type External struct {
	// Name is what errors call it, such as "rspamd http://127.0.0.1:11333".
	Name string
	// Timeout is for one question; negative is none.
	Timeout   time.Duration
	OnFailure FailureAction
}

// Ask calls f, which asks the program until its ctx ends and returns the answer of
// the policy, or why there is none. It returns that answer, or the failure for the
// policy to return: its rule is "timeout" or "failed". When ctx itself has ended it
// is ctx's error: a client that left, and the deadline of all policies, are no fault
// of the program's.
func (x External) Ask(ctx context.Context, f func(context.Context) (answer error, failure error)) error {
	inTime := ctx
	if x.Timeout >= 0 {
		var cancel context.CancelFunc
		inTime, cancel = context.WithTimeout(ctx, x.Timeout)
		defer cancel()
	}
	answer, err := f(inTime)
	switch {
	case err == nil:
		return answer
	case ctx.Err() != nil:
		return ctx.Err()
	case inTime.Err() != nil:
		return Because(Failed(fmt.Errorf("%s: no answer in %v: %w", x.Name, x.Timeout, err), x.OnFailure), "timeout")
	}
	return Because(Failed(fmt.Errorf("%s: %w", x.Name, err), x.OnFailure), "failed")
}
