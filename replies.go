package incoming

import (
	"errors"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
)

// reply421 is how a connection is given up for now.
func reply421(text string) *smtp.Reply {
	return &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 3, 2}, Text: text}
}

// ourFault is what a client reads when something of ours broke.
func ourFault() *smtp.Reply {
	return &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "Local error, try again later"}
}

// queueReply is the one table of what a client is told when the queue cannot
// take its message, and the word that hooks use for it. An error the queue does
// not name is our fault, like those it does.
func queueReply(err error) (reason string, reply *smtp.Reply) {
	switch {
	case errors.Is(err, queue.ErrFull):
		return "full", reply421("Try again later")
	case errors.Is(err, queue.ErrNoSpace):
		return "no_space", &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 3, 1}, Text: "Insufficient system storage, try again later"}
	case errors.Is(err, queue.ErrTooLarge):
		return "too_large", &smtp.Reply{Code: 552, Enhanced: smtp.EnhancedCode{5, 3, 4}, Text: "Message too big"}
	case errors.Is(err, queue.ErrClosed):
		return "closed", reply421("Shutting down, try again later")
	case errors.Is(err, queue.ErrBusy):
		return "busy", ourFault()
	case errors.Is(err, queue.ErrSick):
		return "sick", ourFault()
	}
	return "error", ourFault()
}

// bannerReply is what stands in the banner's place when the queue can take
// nothing at all; nil when it may by the time a message comes.
func bannerReply(err error) *smtp.Reply {
	if errors.Is(err, queue.ErrSick) || errors.Is(err, queue.ErrClosed) {
		return reply421("Service not available, try again later")
	}
	return nil
}

// What a message is refused with whose header passes a limit of Limits.
func headerTooBig() *smtp.Reply {
	return &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "Message header too big"}
}

func tooManyFields() *smtp.Reply {
	return &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "Too many header fields"}
}

func mailLoop() *smtp.Reply {
	return &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "Too many Received fields, mail loop suspected"}
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
