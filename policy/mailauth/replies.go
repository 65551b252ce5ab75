package mailauth

import "github.com/incoming-mx/incoming/smtp"

// What the client is told, all of it.
var (
	replyDMARC     = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "The domain in From asks for mail like this to be refused (DMARC)"}
	replyTemperror = &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 4, 3}, Text: "The DNS does not tell who may send for the domain in From, try again later"}
)
