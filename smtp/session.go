package smtp

import (
	"context"
	"io"
	"strings"
)

// Session is what the engine asks while it serves one connection. Its methods
// are called by one goroutine, one at a time, in the order of the dialogue; the
// engine has checked syntax, order and its own limits before. An error that is
// (or wraps) a *Reply is sent as it is; any other error is ours: the client
// gets 451 4.3.0 and no detail. A panic is recovered, reported to
// Config.OnPanic and answered like such an error. The ctx given ends when the
// connection does.
type Session interface {
	// Hello is called at each EHLO and HELO, and again after STARTTLS. A
	// refusal leaves the session without a hello.
	Hello(ctx context.Context, name string) error
	// Mail begins a transaction. A refusal leaves none.
	Mail(ctx context.Context, from Path, p MailParams) error
	// Rcpt adds a recipient. A refusal leaves no trace of it.
	Rcpt(ctx context.Context, to Path, p RcptParams) error
	// Data is asked before 354, or at the first BDAT chunk, when at least one
	// recipient was accepted. An error goes out in the place of 354 and ends
	// the transaction, with Reset. The Body is given every octet of the text,
	// dots un-stuffed, and then End or Abort, exactly once.
	Data(ctx context.Context, p DataParams) (Body, error)
	// Reset ends a transaction that did not end in Body.End: by RSET, EHLO,
	// STARTTLS, or a refused DATA. It is called after Abort, and only when
	// Mail was accepted since.
	Reset()
	// Close is called once, last, when the connection is over. A Body still
	// open was aborted before.
	Close() error
}

// Body takes the text of one message. An error of Write is kept: the engine
// reads the rest of the text through, drops it, and gives that error as the
// reply, without calling Write again and with Abort in End's place.
type Body interface {
	io.Writer
	// End is called when the text has ended. The receipt, such as
	// "Ok: queued as 01J…", follows "250 2.0.0 ". Its ctx does not end with
	// the connection: what was begun is finished.
	End(ctx context.Context) (receipt string, err error)
	// Abort is called in End's place when the text did not come to its end.
	Abort()
}

// Path is a reverse-path or forward-path without its angle brackets and source
// route (RFC 5321 §4.1.2). The zero Path is the null reverse-path.
type Path struct {
	// Local is the local part as given, quotes included: case and form are
	// the receiving application's to judge.
	Local string
	// Domain is the domain or address literal as given; "" only for the null
	// path and for a bare <postmaster>.
	Domain string
}

// IsNull reports whether p is the null reverse-path.
func (p Path) IsNull() bool { return p == Path{} }

// String is the path without angle brackets: "local@domain".
func (p Path) String() string {
	if p.Domain == "" {
		return p.Local
	}
	return p.Local + "@" + p.Domain
}

// ParsePath takes "local@domain" apart at the last "@". It checks nothing else;
// it is for configuration and tests.
func ParsePath(s string) Path {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return Path{Local: s}
	}
	return Path{Local: s[:at], Domain: s[at+1:]}
}

// MailParams is the parameters of MAIL, checked and decoded.
type MailParams struct {
	Size     int64  // SIZE (RFC 1870); 0 when not given
	Body     string // BODY: "", "7BIT", "8BITMIME" (RFC 6152)
	SMTPUTF8 bool   // RFC 6531
	Ret      string // RET: "", "FULL", "HDRS" (RFC 3461 §4.3)
	EnvID    string // ENVID decoded (RFC 3461 §4.4)
	Auth     string // AUTH as given (RFC 4954 §5); never believed
}

// RcptParams is the parameters of RCPT, checked and decoded.
type RcptParams struct {
	Notify string // NOTIFY in upper case: "NEVER", "SUCCESS,FAILURE" (RFC 3461 §4.1)
	ORcpt  string // ORCPT decoded: "rfc822;b@example.org" (RFC 3461 §4.2)
}

// DataParams says how the text comes.
type DataParams struct {
	BDAT bool // by BDAT (RFC 3030), else by DATA
}
