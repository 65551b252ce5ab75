package rspamd

import "github.com/incoming-mx/incoming/smtp"

// What a client is told when rspamd has no words of its own.
var (
	replyRefused  = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Refused as spam"}
	replyDeferred = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "Try again later"}
)
