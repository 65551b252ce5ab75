package incoming

import (
	"errors"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
)

// What the server says beside the engine and the policies, all of it.
var (
	// Turned away before a session begins.
	replyTooManyConns   = &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: "Too many connections, try again later"}
	replyTooManyFromYou = &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "Too many connections from your address, try again later"}
	replyNotAvailable   = &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: "Service not available, try again later"}

	// The queue cannot take the message.
	replyQueueFull   = &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: "Try again later"}
	replyQueueClosed = &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: "Shutting down, try again later"}
	replyNoSpace     = &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 3, 1}, Text: "Insufficient system storage, try again later"}
	replyOurFault    = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "Local error, try again later"}
	replyTooBig      = &smtp.Reply{Code: 552, Enhanced: smtp.EnhancedCode{5, 3, 4}, Text: "Message too big"}

	// The adapter's verdict, for a sender who waits for it.
	replyRefused  = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Message refused"}
	replyNotTaken = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "Message could not be delivered now, try again later"}

	// The header passes a limit of Limits.
	replyHeaderTooBig  = &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "Message header too big"}
	replyTooManyFields = &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "Too many header fields"}
	replyMailLoop      = &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "Too many Received fields, mail loop suspected"}
)

// queueReply is what a client is told when the queue cannot take its message,
// and the word that hooks use for it. An error the queue does not name is our
// fault, like those it does.
func queueReply(err error) (reason string, reply *smtp.Reply) {
	switch {
	case errors.Is(err, queue.ErrFull):
		return "full", replyQueueFull
	case errors.Is(err, queue.ErrNoSpace):
		return "no_space", replyNoSpace
	case errors.Is(err, queue.ErrTooLarge):
		return "too_large", replyTooBig
	case errors.Is(err, queue.ErrClosed):
		return "closed", replyQueueClosed
	case errors.Is(err, queue.ErrBusy):
		return "busy", replyOurFault
	case errors.Is(err, queue.ErrSick):
		return "sick", replyOurFault
	}
	return "error", replyOurFault
}

// bannerReply is what stands in the banner's place when the queue can take
// nothing at all; nil when it may by the time a message comes.
func bannerReply(err error) *smtp.Reply {
	if errors.Is(err, queue.ErrSick) || errors.Is(err, queue.ErrClosed) {
		return replyNotAvailable
	}
	return nil
}

// refused is a Session's error that carries, beside the reply for the client,
// what the hooks are told of it.
type refused struct {
	reply  *smtp.Reply
	stage  string // as telemetry.SessionRejected.Stage
	reason string // for us
}

func (r *refused) Error() string {
	if r.reason != "" {
		return r.reason
	}
	return r.reply.String()
}

func (r *refused) Unwrap() error { return r.reply }
