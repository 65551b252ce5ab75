package smtp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// receiver is a receiver of mail to hold the engine against, written to be read
// and for nothing else. It is given one octet at a time, keeps all it was given
// and looks at it anew each time, as whole strings. It asks the same fake Session
// and says what stands in the same table of replies, but shares nothing with the
// engine that reads, counts or decides.
type receiver struct {
	cfg       *Config
	session   *fake
	encrypted bool

	said  strings.Builder
	ended string // how; "" while it goes on

	hello string
	esmtp bool

	mail       bool // MAIL was accepted and its transaction goes on
	utf8       bool // with SMTPUTF8
	asked      bool // RCPT was sent in it
	recipients int  // accepted in it
	refused    int  // in a row, whatever the transaction
	afterDATA  bool // DATA was refused and nothing new has begun

	// A text is wire, what came of it so far, and text, what that means. It goes
	// to body unless it has failed.
	reading  string // "DATA" or "BDAT" while octets are text
	wire     string
	text     string
	body     Body
	trouble  *Reply // the first; it will be the reply
	each     bool   // in LMTP the reply goes out for each recipient: it is that to a text
	chunks   bool   // between two chunks of a text that goes well
	spoilt   bool   // between two chunks, of which one was refused
	left     int64  // octets of the chunk to come
	last     bool   // it is the last one
	unwanted *Reply // the chunk is read through and this is the reply

	line     string
	overlong int
	commands int // since the last accepted message
	errors   int // likewise
	messages int
	taken    int64 // octets
}

// refer has the receiver take a dialogue. What it says and sees is to be what
// play says and sees, however the dialogue is cut.
func refer(cfg *Config, rules map[string]string, encrypted bool, sent []byte) played {
	r := &receiver{cfg: cfg, session: &fake{rules: rules}, encrypted: encrypted}
	r.session.facts = r
	r.connect()
	for _, octet := range sent {
		if r.ended == "" {
			r.take(octet)
		}
	}
	if r.ended == "" {
		r.ended = "eof"
		if r.reading != "" || r.chunks {
			r.ended = "eof_in_data"
		}
	}
	r.abort()
	r.session.closed++
	var p played
	p.said = r.said.String()
	p.saw, p.faults = r.session.saw()
	p.end.Reason, p.end.Messages = r.ended, r.messages
	return p
}

// Hello and BareLineEnds are what the fake asks of a Conn.
func (r *receiver) Hello() (string, bool) { return r.hello, r.esmtp }

func (r *receiver) BareLineEnds() (lf, cr int) {
	if r.reading != "DATA" {
		return 0, 0
	}
	_, lf, cr = undot(r.wire)
	return lf, cr
}

func (r *receiver) connect() {
	err := r.call(func() error { return r.session.rule("open", "") })
	if err == nil {
		if r.cfg.LMTP {
			r.say(replyBannerLMTP)
		} else {
			r.say(replyBanner)
		}
		return
	}
	reply := refusalOf(err)
	switch {
	case reply == replyInternal:
		reply = replyInternalConnect
	case reply.Code < 500:
		reply = &Reply{421, reply.Enhanced, reply.Text}
	default:
		reply = &Reply{554, reply.Enhanced, reply.Text}
	}
	r.say(reply)
	r.ended = "refused"
}

func (r *receiver) take(octet byte) {
	r.taken++
	switch r.reading {
	case "DATA":
		r.takeText(octet)
	case "BDAT":
		r.takeChunk(octet)
	default:
		r.line += string([]byte{octet})
		if !r.encrypted && r.line == "\x16\x03" {
			r.ended = "junk" // TLS, where nobody asked for it
		}
		if octet == '\n' {
			line := r.line
			r.line = ""
			r.command(line)
		}
	}
}

// command obeys a line, which has its line end.
func (r *receiver) command(line string) {
	tooLong := len(line) > int(r.limit(int64(r.cfg.Limits.CommandLine), 4096))
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	verb, args := words(line)
	r.each = false
	switch {
	case tooLong:
		r.overlong++
		if r.afterDATA {
			r.reply(replyNotText, "junk")
		} else if r.overlong == 3 {
			r.reply(replyOverlong, "junk")
		} else {
			r.reply(replyOverlong, "")
		}
		return
	case r.afterDATA && (verb == "" || httpVerbs[verb]):
		r.reply(replyNotText, "junk")
		return
	case httpVerbs[verb]:
		r.ended = "junk"
		return
	case verb != "QUIT" && !r.mail && r.taken > r.limit(r.cfg.Limits.SessionSize, 4<<30):
		r.reply(replyTooMuch, "limit")
		return
	case verb == "RCPT":
		r.doRCPT(args)
		return
	case verb == "BDAT":
		r.doBDAT(args)
		return
	case verb != "QUIT" && !r.countCommand():
		return
	}
	hello := verb == "EHLO" || verb == "HELO" || verb == "LHLO" && r.cfg.LMTP
	if r.clear() && verb != "" && !hello && strings.Contains("MAIL DATA VRFY HELP XCLIENT"+elsewhere, verb) {
		r.afterDATA = r.afterDATA || verb == "DATA"
		r.reply(replyTLSRequired, "")
		return
	}
	switch verb {
	case "EHLO", "HELO", "LHLO":
		switch {
		case !hello:
			r.reply(replyNotHere, "")
		case r.cfg.LMTP && verb != "LHLO":
			r.reply(replyNotSMTP, "")
		default:
			r.doHello(verb, args)
		}
	case "MAIL":
		r.doMAIL(args)
	case "DATA":
		r.doDATA(args)
	case "STARTTLS":
		r.doSTARTTLS(args)
	case "RSET", "QUIT":
		if args != "" {
			r.reply(replyNoArguments, "")
		} else if verb == "QUIT" {
			r.reply(replyBye, "quit")
		} else {
			r.reset()
			r.reply(replyOK, "")
		}
	case "VRFY":
		if args == "" {
			r.reply(replyVrfySyntax, "")
			return
		}
		r.harmless(args, replyVrfy)
	case "NOOP":
		r.harmless(args, replyOK)
	case "HELP":
		if r.cfg.LMTP {
			r.harmless(args, replyHelpLMTP)
		} else {
			r.harmless(args, replyHelp)
		}
	case "XCLIENT":
		r.reply(replyXclient, "")
	case "":
		if controls.MatchString(line) {
			r.reply(replyControl, "")
			return
		}
		r.reply(replyUnknown, "")
	default:
		r.reply(replyNotHere, "")
	}
}

// clear reports that TLS is required and not there.
func (r *receiver) clear() bool { return r.cfg.TLSMode == TLSRequired && !r.encrypted }

func (r *receiver) lenient() bool { return r.cfg.Lenient != nil && r.cfg.Lenient(peerOfTests) }

func (r *receiver) harmless(args string, reply *Reply) {
	if controls.MatchString(args) {
		reply = replyControl
	} else if !utf8.ValidString(args) {
		reply = replyBadParam
	}
	r.reply(reply, "")
}

func (r *receiver) doHello(verb, args string) {
	if r.lenient() && !controls.MatchString(args) && !helloName.MatchString(args) {
		args = firstWord(args)
	}
	if !helloName.MatchString(args) {
		r.reply(map[string]*Reply{"EHLO": replyHelloSyntax, "HELO": replyHELOSyntax, "LHLO": replyLHLOSyntax}[verb], "")
		return
	}
	r.reset()
	r.hello, r.esmtp = args, verb != "HELO"
	if err := r.call(func() error { return r.session.Hello(context.Background(), args) }); err != nil {
		r.hello = ""
		r.reply(refusalOf(err), "")
		return
	}
	if verb == "HELO" {
		r.reply(replyHello, "")
		return
	}
	text := r.cfg.Hostname + "\nPIPELINING"
	text += fmt.Sprintf("\nSIZE %d", r.limit(r.cfg.Limits.MessageSize, 50<<20))
	text += "\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING"
	text += fmt.Sprintf("\nLIMITS RCPTMAX=%d", r.limit(int64(r.cfg.Limits.Recipients), 1000))
	if r.cfg.TLSMode != TLSDisabled && !r.encrypted {
		text += "\nSTARTTLS"
	}
	r.reply(&Reply{Code: 250, Text: text}, "")
}

func (r *receiver) doMAIL(args string) {
	switch {
	case r.hello == "" && r.cfg.LMTP:
		r.reply(replyLHLOFirst, "")
		return
	case r.hello == "":
		r.reply(replyHelloFirst, "")
		return
	case r.mail || r.spoilt:
		r.reply(replyNestedMail, "")
		return
	}
	from, params, wrong := readMAIL(args, r.lenient())
	if wrong == nil && params.Size > r.limit(r.cfg.Limits.MessageSize, 50<<20) {
		wrong = replyTooBig
	}
	if wrong != nil {
		r.reply(wrong, "")
		return
	}
	if err := r.call(func() error { return r.session.Mail(context.Background(), from, params) }); err != nil {
		r.reply(refusalOf(err), "")
		return
	}
	r.mail, r.utf8, r.asked, r.recipients, r.afterDATA = true, params.SMTPUTF8, false, 0, false
	r.reply(replyMailOK, "")
}

// doRCPT is counted only when it is refused: a list may be long.
func (r *receiver) doRCPT(args string) {
	wrong := r.ofOrder("RCPT")
	if wrong != nil {
		r.replyCounted(wrong)
		return
	}
	to, params, wrong := readRCPT(args, r.utf8, r.lenient())
	most := r.limit(int64(r.cfg.Limits.Recipients), 1000)
	switch {
	case wrong != nil:
	case int64(r.recipients) == most:
		r.replyCounted(replyTooManyRecipients)
		return
	default:
		if err := r.call(func() error { return r.session.Rcpt(context.Background(), to, params) }); err != nil {
			wrong = refusalOf(err)
		}
	}
	r.asked = true
	if wrong == nil {
		r.recipients++
		r.refused = 0
		r.reply(replyRcptOK, "")
		return
	}
	r.refused++
	if int64(r.refused) > r.limit(int64(r.cfg.Limits.RefusedRecipients), 100) {
		r.reply(replyTooManyRefused, "limit")
		return
	}
	r.replyCounted(wrong)
}

// ofOrder is what stands against RCPT, DATA or BDAT now.
func (r *receiver) ofOrder(verb string) *Reply {
	switch {
	case r.clear():
		return replyTLSRequired
	case r.spoilt:
		return replyChunkFailed
	case r.chunks && verb == "BDAT":
		return nil
	case r.chunks:
		return replyInChunks
	case !r.mail:
		return replyMailFirst
	case verb == "RCPT" || r.recipients > 0:
		return nil
	case r.asked && !r.cfg.LMTP:
		return replyNoRecipients
	}
	return replyRcptFirst
}

func (r *receiver) doDATA(args string) {
	wrong := r.ofOrder("DATA")
	if wrong == nil && args != "" {
		wrong = replyNoArguments
	}
	if wrong == nil {
		wrong = r.beginText(DataParams{})
	}
	if wrong != nil {
		r.afterDATA = true
		r.reply(wrong, "")
		return
	}
	r.reading = "DATA"
	r.say(replyStartData)
}

func (r *receiver) beginText(p DataParams) *Reply {
	r.wire, r.text, r.trouble = "", "", nil
	err := r.call(func() (err error) {
		body, err := r.session.Data(context.Background(), p)
		if err == nil {
			r.body = body
		}
		return err
	})
	if err != nil {
		r.endTransaction()
		return refusalOf(err)
	}
	return nil
}

// takeText takes an octet of what follows DATA. The end is CRLF.CRLF.
func (r *receiver) takeText(octet byte) {
	r.wire += string([]byte{octet})
	if strings.HasSuffix("\r\n"+r.wire, "\r\n.\r\n") {
		r.wire = strings.TrimSuffix(r.wire, ".\r\n")
		if _, lf, cr := undot(r.wire); lf+cr > 0 && r.cfg.RejectBareNewline != nil && r.cfg.RejectBareNewline(peerOfTests) {
			r.trouble = replyBareNewline
		}
		r.each = true
		r.endText()
		return
	}
	text, _, _ := undot(r.wire)
	for _, more := range []byte(text[len(r.text):]) {
		r.keep(more)
	}
	if int64(len(r.text)) > 2*r.limit(r.cfg.Limits.MessageSize, 50<<20) {
		r.each = true
		r.reply(replyTooBig, "limit")
	}
}

// undot is what the wire says: the dot is taken off a line that begins with one,
// a line being what stands between two CRLF, and a bare LF becomes CRLF. Of a
// line that is only begun, the CR of a possible end is not text yet.
func undot(wire string) (text string, bareLF, bareCR int) {
	lines := strings.Split(wire, "\r\n")
	for i, line := range lines {
		if i == len(lines)-1 && line == ".\r" {
			line = ""
		}
		line = strings.TrimPrefix(line, ".")
		bareLF += strings.Count(line, "\n")
		bareCR += strings.Count(line, "\r")
		lines[i] = strings.ReplaceAll(line, "\n", "\r\n")
	}
	return strings.Join(lines, "\r\n"), bareLF, bareCR
}

// keep takes an octet of a message.
func (r *receiver) keep(octet byte) {
	r.text += string([]byte{octet})
	if int64(len(r.text)) > r.limit(r.cfg.Limits.MessageSize, 50<<20) {
		r.fail(replyTooBig)
	}
	if r.trouble == nil {
		if err := r.call(func() error { _, err := r.body.Write([]byte{octet}); return err }); err != nil {
			r.fail(refusalOf(err))
		}
	}
}

func (r *receiver) fail(reply *Reply) {
	if r.trouble == nil {
		r.trouble = reply
	}
}

// endText gives the one reply to a message.
func (r *receiver) endText() {
	defer func() { r.reading = "" }()
	if r.trouble != nil {
		r.abort()
		r.endTransaction()
		r.replyText(r.trouble)
		return
	}
	body := r.body
	r.body, r.mail, r.chunks = nil, false, false
	var receipt string
	err := r.call(func() (err error) { receipt, err = body.End(context.Background()); return err })
	if err != nil {
		r.replyText(refusalOf(err))
		return
	}
	r.messages++
	r.commands, r.errors = 0, 0
	r.reply(&Reply{250, EnhancedCode{2, 0, 0}, receipt}, "")
}

// replyText is how a text is refused: BDAT is counted late, DATA has been.
func (r *receiver) replyText(reply *Reply) {
	if r.reading == "BDAT" {
		r.replyCounted(reply)
		return
	}
	r.reply(reply, "")
}

// doBDAT says what becomes of the octets that follow: they are never commands.
func (r *receiver) doBDAT(args string) {
	size, last, ok := readChunkSize(args)
	if !ok {
		r.reply(replyBDATSyntax, "junk")
		return
	}
	r.left, r.last = size, last
	r.each = last && (r.mail || r.spoilt)
	r.unwanted = r.ofOrder("BDAT")
	if r.unwanted == replyRcptFirst || r.unwanted == replyNoRecipients {
		r.endTransaction()
		r.spoilt = true
	}
	if r.unwanted == nil && !r.chunks {
		r.unwanted = r.beginText(DataParams{BDAT: true})
		r.chunks, r.spoilt = r.unwanted == nil, r.unwanted != nil
	}
	all := size
	if r.unwanted == nil {
		all += int64(len(r.text))
	}
	most := r.limit(r.cfg.Limits.MessageSize, 50<<20)
	if all < 0 || all > 2*most {
		r.reply(replyTooBig, "limit")
		return
	}
	if r.unwanted == nil && all > most {
		r.fail(replyTooBig)
	}
	r.reading = "BDAT"
	if size == 0 {
		r.endChunk(false)
	}
}

func (r *receiver) takeChunk(octet byte) {
	if r.unwanted == nil {
		r.keep(octet)
	}
	if r.left--; r.left == 0 {
		r.endChunk(true)
	}
}

func (r *receiver) endChunk(some bool) {
	switch {
	case r.unwanted == nil && r.trouble == nil && !r.last:
		r.reading = ""
		if some {
			r.reply(replyOK, "")
		} else {
			r.replyCounted(replyOK)
		}
		return
	case r.unwanted == nil:
		r.spoilt = r.trouble != nil
		r.chunks = false
		r.endText()
	default:
		r.reading = ""
		r.replyCounted(r.unwanted)
	}
	if r.last {
		r.spoilt = false
	}
}

// doSTARTTLS refuses, or begins a handshake; a receiver of octets in clear is
// then at its end.
func (r *receiver) doSTARTTLS(args string) {
	switch {
	case args != "":
		r.reply(replyNoArguments, "")
	case r.encrypted:
		r.reply(replyTLSAlready, "")
	case r.cfg.TLSMode == TLSDisabled:
		r.reply(replyNoTLS, "")
	default:
		r.reset()
		r.hello = ""
		r.reply(replyStartTLS, "tls")
	}
}

// reset is RSET, and what EHLO does.
func (r *receiver) reset() {
	r.abort()
	r.endTransaction()
	r.spoilt, r.afterDATA = false, false
}

func (r *receiver) abort() {
	if body := r.body; body != nil {
		r.body = nil
		_ = r.call(func() error { body.Abort(); return nil })
	}
}

func (r *receiver) endTransaction() {
	if r.mail {
		r.mail = false
		_ = r.call(func() error { r.session.Reset(); return nil })
	}
	r.chunks = false
}

// countCommand replies itself when it is one too many.
func (r *receiver) countCommand() bool {
	r.commands++
	if int64(r.commands) > r.limit(int64(r.cfg.Limits.Commands), 1000) {
		r.each = false
		r.reply(replyTooManyCommands, "limit")
		return false
	}
	return true
}

func (r *receiver) replyCounted(reply *Reply) {
	if r.countCommand() {
		r.reply(reply, "")
	}
}

// reply is the one reply to a command, after which it may end.
func (r *receiver) reply(reply *Reply, end string) {
	if reply.Code >= 500 && reply.Code <= 504 || reply.Code == 555 {
		if r.errors++; int64(r.errors) > r.limit(int64(r.cfg.Limits.Errors), 10) {
			reply, end = replyTooManyErrors, "limit"
			r.each = false
		}
	}
	if reply.Code == 421 && end == "" {
		end = "refused"
	}
	r.say(reply)
	for n := 1; n < r.recipients && r.each && r.cfg.LMTP; n++ {
		r.say(reply)
	}
	r.ended = end
}

func (r *receiver) say(reply *Reply) {
	lines := strings.Split(reply.Text, "\n")
	if after, ok := strings.CutPrefix(lines[0], "HOST"); ok {
		lines[0] = r.cfg.Hostname + after
	}
	for i, line := range lines {
		if reply.Enhanced != (EnhancedCode{}) {
			line = reply.Enhanced.String() + " " + line
		}
		mark := " "
		if i < len(lines)-1 {
			mark = "-"
		}
		fmt.Fprintf(&r.said, "%d%s%s\r\n", reply.Code, mark, line)
	}
}

// call survives a panic of the Session.
func (r *receiver) call(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}

func refusalOf(err error) *Reply {
	var reply *Reply
	switch {
	case !errors.As(err, &reply) || reply.Code < 400 || reply.Code > 599:
		return replyInternal
	case reply.Enhanced[0] != reply.Code/100:
		return &Reply{Code: reply.Code, Text: reply.Text}
	}
	return reply
}

// limit is a limit with its default; a negative one is none.
func (r *receiver) limit(set, otherwise int64) int64 {
	if set < 0 {
		return math.MaxInt64 / 4
	}
	return cmp.Or(set, otherwise)
}

var peerOfTests = addrPort(transcript.NewConn(nil).RemoteAddr())
