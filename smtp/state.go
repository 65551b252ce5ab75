package smtp

// phase is where the dialogue stands.
type phase int32

const (
	phaseClear   phase = iota // TLS is required and not there yet
	phaseStart                // no hello
	phaseReady                // hello, no transaction
	phaseMail                 // MAIL accepted, no RCPT yet
	phaseRefused              // MAIL accepted, each RCPT refused
	phaseRcpt                 // at least one RCPT accepted
	phaseBDAT                 // between two chunks of a text
	phaseFailed               // a chunk failed: the others are read through
	phaseData                 // text is being read: no command comes in this phase
	phaseCount
)

func (p phase) String() string {
	names := [phaseCount]string{"start", "start", "ready", "mail", "mail", "rcpt", "bdat", "bdat", "data"}
	if p < 0 || p >= phaseCount {
		return "?"
	}
	return names[p]
}

// order decides what may follow what (RFC 5321 §4.1.4): nil is allowed, a reply
// goes out in the command's place and changes nothing.
var order = [verbCount][phaseData]*Reply{
	//              Clear              Start             Ready            Mail              Refused           Rcpt              BDAT           Failed
	verbUnknown:  {nil, nil, nil, nil, nil, nil, nil, nil},
	verbEHLO:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbHELO:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbLHLO:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbMAIL:     {replyTLSRequired, replyHelloFirst, nil, replyNestedMail, replyNestedMail, replyNestedMail, replyNestedMail, replyNestedMail},
	verbRCPT:     {replyTLSRequired, replyMailFirst, replyMailFirst, nil, nil, nil, replyInChunks, replyChunkFailed},
	verbDATA:     {replyTLSRequired, replyMailFirst, replyMailFirst, replyRcptFirst, replyNoRecipients, nil, replyInChunks, replyChunkFailed},
	verbBDAT:     {replyTLSRequired, replyMailFirst, replyMailFirst, replyRcptFirst, replyNoRecipients, nil, nil, replyChunkFailed},
	verbRSET:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbNOOP:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbQUIT:     {nil, nil, nil, nil, nil, nil, nil, nil},
	verbSTARTTLS: {nil, nil, nil, nil, nil, nil, nil, nil},
	verbVRFY:     {replyTLSRequired, nil, nil, nil, nil, nil, nil, nil},
	verbHELP:     {replyTLSRequired, nil, nil, nil, nil, nil, nil, nil},
	verbXCLIENT:  {replyTLSRequired, nil, nil, nil, nil, nil, nil, nil},
	verbRefused:  {replyTLSRequired, nil, nil, nil, nil, nil, nil, nil},
}

// outOfOrder is the reply to a command that must not come now; nil when it may.
// LMTP has its own where it wants another hello, and where each recipient was
// refused (RFC 2033 §4.2).
func (c *Conn) outOfOrder(v verb) *Reply {
	wrong := order[v][c.phase()]
	switch {
	case c.cfg.LMTP && wrong == replyHelloFirst:
		return replyLHLOFirst
	case c.cfg.LMTP && wrong == replyNoRecipients:
		return replyRcptFirst
	}
	return wrong
}
