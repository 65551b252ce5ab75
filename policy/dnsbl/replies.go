package dnsbl

import (
	"strings"

	"github.com/incoming-mx/incoming/smtp"
)

// What the policy says, all of it. "ZONE" stands for the list's zone.
var replyListed = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "Your address is listed by ZONE"}

// named is the reply with the zone in the place of ZONE. What the list has to say
// about its listing, in a TXT record, is never asked for: it is the list's text.
func named(zone string) *smtp.Reply {
	return &smtp.Reply{Code: replyListed.Code, Enhanced: replyListed.Enhanced, Text: strings.Replace(replyListed.Text, "ZONE", zone, 1)}
}
