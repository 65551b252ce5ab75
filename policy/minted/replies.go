package minted

import "github.com/incoming-mx/incoming/smtp"

// What the policy says, all of it.
var (
	replyForged  = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such address here"}
	replyExpired = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 6}, Text: "This address has expired"}
)
