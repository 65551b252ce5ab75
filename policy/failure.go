package policy

import (
	"errors"
	"fmt"

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
