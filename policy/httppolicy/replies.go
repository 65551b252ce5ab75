package httppolicy

import "github.com/incoming-mx/incoming/smtp"

// What a client is told when the application has no words of its own.
var (
	replyRefused  = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Refused by policy"}
	replyDeferred = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "Deferred by policy, try again later"}
)
