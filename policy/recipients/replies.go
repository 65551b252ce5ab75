package recipients

import "github.com/incoming-mx/incoming/smtp"

// What the policy says, all of it.
var replyUnknown = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such recipient here"}
