package smtp

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// TLSMode is how a listener uses TLS.
type TLSMode int

const (
	TLSDisabled TLSMode = iota // STARTTLS is not offered
	TLSOptional                // STARTTLS is offered
	TLSRequired                // nothing but EHLO, HELO, NOOP, RSET, STARTTLS, QUIT before STARTTLS: 530 5.7.0
	TLSImplicit                // the handshake comes before the banner
)

// Config is what the engine needs to serve connections. It is shared by many
// connections and must not be changed while one is served.
type Config struct {
	// Hostname is our name in the banner, in EHLO and in 421. Required.
	Hostname string

	// LMTP speaks LMTP (RFC 2033): LHLO is in EHLO's and HELO's place, and the
	// text of a message is answered once for each RCPT that was accepted, in
	// their order. A Body has one receipt or error, so that all are alike.
	LMTP bool

	TLSMode TLSMode
	// TLS is required unless TLSMode is TLSDisabled.
	TLS *tls.Config
	// SessionTickets lets TLS, and what its GetConfigForClient returns, send
	// session tickets; false: none is sent, whatever they say.
	SessionTickets bool

	// Handshakes bounds how many TLS handshakes compute at once, over all
	// connections whose Config has this channel, by its capacity. The time in
	// which a handshake waits for its peer does not count, so that who stalls
	// holds up nobody. One whose turn has not come when Timeouts.TLS is over
	// fails with ErrNoTurn. nil: no bound. Nobody else may use the channel.
	Handshakes chan struct{}

	Limits   Limits
	Timeouts Timeouts

	// RejectBareNewline tells, by the peer's address, whether a message with
	// a bare CR or LF is refused with 554 5.6.0 once it was read through; nil
	// refuses none: a bare LF is stored as CRLF, a bare CR as it is. BDAT text
	// is never touched nor refused.
	RejectBareNewline func(netip.AddrPort) bool

	// Lenient tells, by the peer's address, who is forgiven what old devices
	// get wrong: an address of MAIL and RCPT that has no angle brackets, and a
	// hello of more than a name, of which the first word is taken, with "?" for
	// what is not printable ASCII. nil forgives nobody.
	Lenient func(netip.AddrPort) bool

	// Busy reports whether connections run out: while it does, a peer has 30 s
	// for a command (or Timeouts.Command, when that is less). nil: never.
	Busy func() bool

	// What the engine reports. Each may be nil; each is called inline by the
	// connection's goroutine.
	OnConnect   func(*Conn) // first of all: before a handshake or any octet
	OnRefused   func(*Conn, Refusal)
	OnLimit     func(c *Conn, limit string, use, max int64)                              // limit is an option's key: "limits.commands"
	OnSmuggling func(c *Conn, what string)                                               // as telemetry.SmugglingBlocked.What
	OnHandshake func(c *Conn, state *tls.ConnectionState, took time.Duration, err error) // not with TLSImplicit for a peer that leaves without a word
	OnPanic     func(c *Conn, where string, value any, stack []byte)
	OnDialogue  func(c *Conn, fromPeer bool, line string) // without message text and line end
	OnClosed    func(*Conn, Closing)
	OnAccepted  func(*Conn) // the banner is about to be sent
}

// Limits bound what one connection may use. Zero is the default in parentheses,
// negative is no limit.
type Limits struct {
	MessageSize       int64 // (50 MiB) octets of text after un-stuffing
	Recipients        int   // (1000) accepted in one transaction
	Commands          int   // (1000) since the last accepted message
	Errors            int   // (10) replies of 500-504 and 555 since the last accepted message
	RefusedRecipients int   // (100) refused RCPTs without an accepted one
	CommandLine       int   // (4096) octets of a command line, its line end included; at most 1 MiB, which negative is too
	SessionSize       int64 // (4 GiB) octets the peer may send, TLS's own left out; looked at between transactions
}

// Timeouts bound how long one connection may take. Zero is the default in
// parentheses, negative is no limit.
type Timeouts struct {
	Command time.Duration // (5 min) for a whole command line to come in
	TLS     time.Duration // (30 s) for a handshake
	Data    time.Duration // (3 min) between two reads of message text, which must also average DataRate
	Write   time.Duration // (5 min) for a reply to be taken
	Session time.Duration // (1 h) for the session, looked at between transactions
	// DataRate is the octets a second that message text must average once
	// Data has passed since it began (500).
	DataRate int
}

// Refusal is a 4xx or 5xx reply given.
type Refusal struct {
	Stage    string // as telemetry.SessionRejected.Stage
	Reply    *Reply
	Err      error  // the Session's error when the reply is not itself; else nil
	Reason   string // why the engine refused, for the log; "" only when the Session did
	MailFrom string // the reverse-path, "<>" for the null one; "" when there is none
	Rcpt     string // at rcpt: the recipient in question
}

// Closing is how a connection ended.
type Closing struct {
	Reason   string // quit, eof, timeout, drain, limit, tls, junk, write, refused, panic, …
	Err      error
	Duration time.Duration
	Messages int // accepted
	BytesIn  int64
	BytesOut int64
}
