package recipients

import "github.com/incoming-mx/incoming/smtp"

// What the policy says, all of it.
var (
	replyUnknown    = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such recipient here"}
	replyCannotTell = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 3}, Text: "Recipient cannot be looked up now, try again later"}
)
