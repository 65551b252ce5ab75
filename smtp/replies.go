package smtp

import (
	"strings"
)

// What the engine itself says, all of it. "HOST" stands for Config.Hostname and
// is followed by nothing else in capitals; what is not constant (EHLO's
// extensions, a receipt) is put together beside it.
var (
	replyBanner     = &Reply{220, EnhancedCode{}, "HOST ESMTP incoming"}
	replyBannerLMTP = &Reply{220, EnhancedCode{}, "HOST LMTP incoming"}
	replyHello      = &Reply{250, EnhancedCode{}, "HOST"}
	replyOK         = &Reply{250, EnhancedCode{2, 0, 0}, "Ok"}
	replyMailOK     = &Reply{250, EnhancedCode{2, 1, 0}, "Ok"}
	replyRcptOK     = &Reply{250, EnhancedCode{2, 1, 5}, "Ok"}
	replyStartData  = &Reply{354, EnhancedCode{}, "End data with <CR><LF>.<CR><LF>"}
	replyHelp       = &Reply{214, EnhancedCode{2, 0, 0}, "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS"}
	replyHelpLMTP   = &Reply{214, EnhancedCode{2, 0, 0}, "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS"}
	replyVrfy       = &Reply{252, EnhancedCode{2, 5, 0}, "Send some mail, it will be tried"}
	replyBye        = &Reply{221, EnhancedCode{2, 0, 0}, "HOST Bye"}
	replyStartTLS   = &Reply{220, EnhancedCode{2, 0, 0}, "Ready to start TLS"}

	// The peer's syntax.
	replyUnknown      = &Reply{500, EnhancedCode{5, 5, 2}, "Command not recognised"}
	replyControl      = &Reply{500, EnhancedCode{5, 5, 2}, "Control characters have no place in a command"}
	replyOverlong     = &Reply{500, EnhancedCode{5, 5, 2}, "Line too long"}
	replyNotHere      = &Reply{502, EnhancedCode{5, 5, 1}, "Command not implemented"}
	replyXclient      = &Reply{550, EnhancedCode{5, 7, 0}, "Not authorised"}
	replyHelloSyntax  = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: EHLO hostname"}
	replyHELOSyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: HELO hostname"}
	replyLHLOSyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: LHLO hostname"}
	replyMailSyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: MAIL FROM:<address>"}
	replyRcptSyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: RCPT TO:<address>"}
	replyVrfySyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: VRFY address"}
	replyBDATSyntax   = &Reply{501, EnhancedCode{5, 5, 4}, "Syntax: BDAT octets [LAST]"}
	replyNoArguments  = &Reply{501, EnhancedCode{5, 5, 4}, "No arguments allowed"}
	replyBadSender    = &Reply{501, EnhancedCode{5, 1, 7}, "Bad sender address syntax"}
	replyBadRecipient = &Reply{501, EnhancedCode{5, 1, 3}, "Bad recipient address syntax"}
	replyLongSender   = &Reply{501, EnhancedCode{5, 1, 7}, "Path too long"}
	replyLongPath     = &Reply{501, EnhancedCode{5, 1, 3}, "Path too long"}
	replyUTF8Sender   = &Reply{550, EnhancedCode{5, 6, 7}, "Address needs SMTPUTF8"} // RFC 6531 §3.5 has two codes
	replyNeedsUTF8    = &Reply{553, EnhancedCode{5, 6, 7}, "Address needs SMTPUTF8"}
	replyBadParam     = &Reply{501, EnhancedCode{5, 5, 4}, "Bad parameter"}
	replyBodyParam    = &Reply{504, EnhancedCode{5, 5, 4}, "BODY type not supported"}
	replyUnknownParam = &Reply{555, EnhancedCode{5, 5, 4}, "Parameter not recognised"}

	// The order of commands.
	replyHelloFirst   = &Reply{503, EnhancedCode{5, 5, 1}, "Send EHLO first"}
	replyLHLOFirst    = &Reply{503, EnhancedCode{5, 5, 1}, "Send LHLO first"}
	replyNotSMTP      = &Reply{500, EnhancedCode{5, 5, 1}, "This is LMTP, send LHLO"}
	replyNestedMail   = &Reply{503, EnhancedCode{5, 5, 1}, "Nested MAIL command"}
	replyMailFirst    = &Reply{503, EnhancedCode{5, 5, 1}, "Send MAIL first"}
	replyRcptFirst    = &Reply{503, EnhancedCode{5, 5, 1}, "Send RCPT first"}
	replyNoRecipients = &Reply{554, EnhancedCode{5, 5, 1}, "No valid recipients"}
	replyInChunks     = &Reply{503, EnhancedCode{5, 5, 1}, "Not while the text comes by BDAT"}
	replyChunkFailed  = &Reply{503, EnhancedCode{5, 5, 1}, "An earlier chunk failed, send RSET"}
	replyTLSRequired  = &Reply{530, EnhancedCode{5, 7, 0}, "Must issue a STARTTLS command first"}
	replyNoTLS        = &Reply{502, EnhancedCode{5, 5, 1}, "STARTTLS is not offered"}
	replyTLSAlready   = &Reply{503, EnhancedCode{5, 5, 1}, "TLS is already active"}
	replyTLSPipelined = &Reply{554, EnhancedCode{5, 5, 1}, "Nothing may follow STARTTLS before the handshake"}
	replyNotText      = &Reply{421, EnhancedCode{4, 7, 0}, "HOST DATA was refused, this is no command"}

	// Limits.
	replyTooBig            = &Reply{552, EnhancedCode{5, 3, 4}, "Message too big"}
	replyTooManyRecipients = &Reply{452, EnhancedCode{4, 5, 3}, "Too many recipients"}
	replyTooManyCommands   = &Reply{421, EnhancedCode{4, 7, 0}, "HOST Too many commands"}
	replyTooManyErrors     = &Reply{421, EnhancedCode{4, 7, 0}, "HOST Too many errors"}
	replyTooManyRefused    = &Reply{421, EnhancedCode{4, 7, 0}, "HOST Too many unknown recipients"}
	replyTooMuch           = &Reply{421, EnhancedCode{4, 7, 0}, "HOST Too much in one session"}
	replyBareNewline       = &Reply{554, EnhancedCode{5, 6, 0}, "Bare CR or LF in the message"}
	replyTimeout           = &Reply{421, EnhancedCode{4, 4, 2}, "HOST Timeout"}
	replyDrain             = &Reply{421, EnhancedCode{4, 3, 2}, "HOST Shutting down"}

	// Our fault.
	replyInternal        = &Reply{451, EnhancedCode{4, 3, 0}, "Internal error, try again later"}
	replyInternalConnect = &Reply{421, EnhancedCode{4, 3, 0}, "HOST Internal error, try again later"}
)

// Replies is every reply that the engine gives by itself, for documentation and
// tests. In the text HOST stands for Config.Hostname. EHLO's reply goes on with
// one extension a line, and the reply to a message is a receipt of the Session
// in the place of "Ok"; everything else that a peer may read is a *Reply that a
// Session returned.
func Replies() []Reply {
	table := []*Reply{
		replyBanner, replyBannerLMTP, replyHello, replyOK, replyMailOK, replyRcptOK, replyStartData, replyHelp, replyHelpLMTP, replyVrfy, replyBye, replyStartTLS,
		replyUnknown, replyControl, replyOverlong, replyNotHere, replyXclient, replyHelloSyntax, replyHELOSyntax, replyLHLOSyntax, replyMailSyntax,
		replyRcptSyntax, replyVrfySyntax, replyBDATSyntax, replyNoArguments, replyBadSender, replyBadRecipient, replyLongSender,
		replyLongPath, replyUTF8Sender, replyNeedsUTF8, replyBadParam, replyBodyParam, replyUnknownParam,
		replyHelloFirst, replyLHLOFirst, replyNotSMTP, replyNestedMail, replyMailFirst, replyRcptFirst, replyNoRecipients, replyInChunks, replyChunkFailed,
		replyTLSRequired, replyNoTLS, replyTLSAlready, replyTLSPipelined, replyNotText,
		replyTooBig, replyTooManyRecipients, replyTooManyCommands, replyTooManyErrors, replyTooManyRefused, replyTooMuch, replyBareNewline,
		replyTimeout, replyDrain,
		replyInternal, replyInternalConnect,
	}
	out := make([]Reply, len(table))
	for i, r := range table {
		out[i] = *r
	}
	return out
}

// reasonOf is why the engine refuses with a reply that says it all; "" for one
// that needs more said, and for one that is not the engine's.
func reasonOf(r *Reply) string {
	switch r {
	case replyUnknown:
		return "unknown command"
	case replyNotHere, replyXclient:
		return "command not offered"
	case replyNoTLS:
		return "TLS is disabled"
	case replyTLSRequired:
		return "TLS is required"
	case replyUTF8Sender, replyNeedsUTF8:
		return "address beyond ASCII without SMTPUTF8"
	case replyBodyParam, replyUnknownParam:
		return "parameter not offered"
	case replyControl, replyHelloSyntax, replyHELOSyntax, replyLHLOSyntax, replyMailSyntax, replyRcptSyntax, replyVrfySyntax, replyNoArguments,
		replyBadSender, replyBadRecipient, replyLongSender, replyLongPath, replyBadParam:
		return "syntax"
	case replyHelloFirst, replyLHLOFirst, replyNotSMTP, replyNestedMail, replyMailFirst, replyRcptFirst, replyInChunks, replyTLSAlready:
		return "out of order"
	case replyNoRecipients:
		return "each recipient was refused"
	case replyChunkFailed:
		return "an earlier chunk failed"
	}
	return ""
}

// named is r with our name in HOST's place.
func (r *Reply) named(hostname string) *Reply {
	rest, ok := strings.CutPrefix(r.Text, "HOST")
	if !ok {
		return r
	}
	return &Reply{r.Code, r.Enhanced, hostname + rest}
}
