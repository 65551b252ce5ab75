package policy

import (
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/smtp"
)

// What the built-in policies say, all of it. A lone "N" stands for a number.
var (
	replyNotOurs           = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "No mail is accepted here for that domain"}
	replyDenied            = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Access denied"}
	replyDeniedHere        = &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Access denied"} // in the banner's place
	replyTooMany           = &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 5, 3}, Text: "Too many recipients"}
	replyTooLarge          = &smtp.Reply{Code: 552, Enhanced: smtp.EnhancedCode{5, 3, 4}, Text: "Message too large: at most N octets"}
	replySenderTooOften    = &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "Too much mail from your domain, try again later"}
	replyRecipientTooOften = &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 2, 1}, Text: "Too much mail for this recipient, try again later"}
	replyTooOften          = &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "Too much mail from your address, try again later"}
	replyBadHello          = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Say EHLO with your full host name or address literal first"}
	replyInClear           = &smtp.Reply{Code: 530, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "Must issue a STARTTLS command first"}

	// A policy broke.
	replyBroke = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "Local problem, try again later"}
	// It broke, and was told to refuse then.
	replyUnchecked = &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 3, 0}, Text: "Not accepted: it could not be checked"}
)

// numbered is r with n in the place of N.
func numbered(r *smtp.Reply, n int64) *smtp.Reply {
	text := strings.Replace(r.Text, " N ", " "+strconv.FormatInt(n, 10)+" ", 1)
	return &smtp.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: text}
}

// referred is a reply with its reference at the end, which a postmaster quotes and
// an operator looks for in the log.
func referred(r *smtp.Reply, ref string) *smtp.Reply {
	return &smtp.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: r.Text + " (ref " + ref + ")"}
}
