package milter

import "github.com/incoming-mx/incoming/smtp"

// What a client is told for a filter that has no words of its own.
var (
	replyRefused  = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Refused by a mail filter"}
	replyDeferred = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "A mail filter asks to try again later"}
)
