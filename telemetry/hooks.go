// Package telemetry is what Incoming says about itself: Hooks is a struct of
// funcs, one a fact. Packages logging and metrics turn it into slog lines and
// Prometheus metrics; an application may hang its own funcs in.
//
// A hook is called inline by the goroutine that saw the fact, often many at
// once: it must be safe for that, must not block and must not panic. Events
// carry standard-library types only. Addresses and hello names in them are the
// peer's text, unverified: escape them before they are shown.
package telemetry

import (
	"log/slog"
	"net/netip"
	"time"
)

// Hooks is the funcs to call. A nil func is not called; the zero Hooks is
// silent.
type Hooks struct {
	SessionConnect      func(SessionConnect)
	SessionAccepted     func(SessionAccepted)
	SessionRejected     func(SessionRejected)
	SessionClosed       func(SessionClosed)
	SessionCrowd        func(SessionCrowd)
	SessionDialogue     func(SessionDialogue)
	MessageQueued       func(MessageQueued)
	MessageDiscarded    func(MessageDiscarded)
	MessageEnqueueError func(MessageEnqueueError)
	DeliveryResult      func(DeliveryResult)
	DeliveryHeld        func(DeliveryHeld)
	DeliveryDead        func(DeliveryDead)
	QueueDepth          func(QueueDepth)
	QueueSwept          func(QueueSwept)
	PolicyDecision      func(PolicyDecision)
	LimitHit            func(LimitHit)
	SmugglingBlocked    func(SmugglingBlocked)
	TLSHandshake        func(TLSHandshake)
	TLSCertificate      func(TLSCertificate)
	SpoolError          func(SpoolError)
	SpoolSpace          func(SpoolSpace)
	Trouble             func(Trouble)
	Panic               func(Panic)
}

// Emit calls hook with the event, if there is a hook.
func Emit[E any](hook func(E), event E) {
	if hook != nil {
		hook(event)
	}
}

// Session is what every event of a session carries.
type Session struct {
	ID       string         // unique within the process
	Listener string         // the listener's name
	Peer     netip.AddrPort // invalid for a peer without an IP address
	Hello    string         // the name given in EHLO or HELO; "" before
}

// SessionConnect: a connection was taken from a listener.
type SessionConnect struct{ Session }

// SessionAccepted: it passed the limits and StageConnect and was sent the
// banner.
type SessionAccepted struct{ Session }

// SessionRejected: a reply of 4xx or 5xx was given at any stage: a connection,
// a command or a message refused. At connect it may be that the connection was
// closed without a reply: Reason says so, and there is no Code where there would
// have been none to give.
type SessionRejected struct {
	Session
	Stage    string // connect, hello, mail, rcpt, data, header, message, delivery, starttls, command
	Reply    string // the reply as sent, "550 5.7.1 …"; "" for none
	Code     int    // its first number; 0 for none
	Reason   string // why, for us: never sent to the peer
	Policy   string // the policy that refused; "" when the engine or a limit did
	Because  Because
	MailFrom string // the reverse-path, "<>" for the null one; "" when there is none
	Rcpt     string // at rcpt: the recipient in question
}

// SessionClosed: the connection ended.
type SessionClosed struct {
	Session
	Reason   string // quit, eof, timeout, drain, limit, error, …: a short word
	Err      error  // what ended it, when it was an error
	Duration time.Duration
	Messages int // accepted in this session
	BytesIn  int64
	BytesOut int64
}

// SessionCrowd: how many connections there are, every 5 s. A peer is one IPv4
// address or one IPv6 /64. Who the busiest is Server.Busiest tells.
type SessionCrowd struct {
	Open, Max           int // in all; Max is the limit then, 0 when there is none
	Peers               int // with a connection open; those without an IP address are none
	Busiest, BusiestMax int // of the peer that has most, and the limit of one
}

// SessionDialogue is one line of the dialogue, without message text; for
// debugging. It is only made when the hook is set.
type SessionDialogue struct {
	Session
	FromPeer bool
	Line     string // without line end
}

// MessageQueued: a message was committed and is accepted. Where its sender waits for
// the adapter's verdict (delivery.Sync, delivery.Hybrid) it is told behind that, and
// of one that is refused it is not told.
type MessageQueued struct {
	Session
	ID        string
	MailFrom  string
	Rcpts     []string
	Size      int64  // octets as stored
	MessageID string // the Message-ID field; unverified
	TLS       string // "TLS 1.3"; "" in clear
	Depth     int    // live messages in the queue, this one included
	Commit    time.Duration
	Duration  time.Duration // from MAIL to commit
}

// MessageDiscarded: a policy asked that a message be told 250 and forgotten.
type MessageDiscarded struct {
	Session
	ID       string
	Policy   string
	MailFrom string
	Rcpts    []string
	Size     int64
}

// MessageEnqueueError: a message could not be taken into the queue, or what there
// is of one that broke off could not be removed from it (discard).
type MessageEnqueueError struct {
	Session
	ID     string // "" when not even begun
	Reason string // full, no_space, busy, sick, too_large, closed, error, discard
	Err    error
	Size   int64 // octets attempted
}

// DeliveryResult: an attempt at delivery ended. It tells the verdict; that it could
// not be written down, and that the message is offered again, a SpoolError tells.
// An attempt that was abandoned is told again as late when the adapter returns
// after all: nothing comes of it then.
type DeliveryResult struct {
	ID       string
	Attempt  int
	Outcome  string // acked, partial, retry, postponed, rejected, spent, refused, deferred, released, abandoned; late
	Reason   error  // nil when acked, unless the verdict names who was not owed
	Duration time.Duration
	Age      time.Duration // since received
	MailFrom string
	Rcpts    []string  // the recipients attempted
	Next     time.Time // of what is tried again at a time
	Panicked bool
}

// DeliveryHeld: an adapter failed so often in a row that deliveries are held
// back (Held), or has come back (not Held).
type DeliveryHeld struct {
	Held     bool
	Failures int
	Reason   error
}

// DeliveryDead: a message became a dead letter.
type DeliveryDead struct {
	ID       string
	Kind     string // rejected, spent, panic, corrupt
	Reason   string
	Attempt  int
	MailFrom string
	Rcpts    []string
}

// QueueDepth: the queue's gauges, every 5 s.
type QueueDepth struct {
	Ready, Waiting, Leased, Dead, Drafts int
	OldestAge                            time.Duration // 0 when empty
}

// QueueSwept: a dead letter had its age and was removed.
type QueueSwept struct {
	ID       string
	MailFrom string
	Rcpts    []string
	Reason   string
	Kind     string
	DeadAt   time.Time
}

// PolicyDecision: a policy objected, or set a mark. A policy that had no
// objection is not told.
type PolicyDecision struct {
	Session
	ID       string // the message's; "" before its text comes
	Policy   string
	Stage    string
	Decision string // reject, tempfail, discard, quarantine, error, fail_open
	Reason   string
	Duration time.Duration
	Because  Because
	// Observed says that it had no effect: the policy is only observed.
	Observed bool
}

// Because is what a policy's answer rests on.
type Because struct {
	Ref    string      // the reference in the reply; "" when there is none
	Rule   string      // the policy's rule that spoke; "" when it did not say
	Inputs []slog.Attr // what it looked at; never sent to the peer
	Took   time.Duration
}

// LimitHit: a limit refused something.
type LimitHit struct {
	Session
	Limit string // the option's key, such as limits.connections_per_ip
	Use   int64  // how much of it was in use, the refused one included
	Max   int64
}

// SmugglingBlocked: bytes that another server might have taken for the end of
// data or for a command were not, or another protocol was spoken, which may
// carry commands too: the connection was closed.
type SmugglingBlocked struct {
	Session
	What string // bare_lf, bare_cr, starttls_pipelined, data_after_refusal, http_request, tls_in_clear
}

// TLSHandshake: a handshake ended.
type TLSHandshake struct {
	Session
	Version    string
	Cipher     string
	ServerName string
	Duration   time.Duration
	Err        error // nil when it succeeded
	// Reason is why it failed, in a word: timeout, turn (limits.handshakes), eof,
	// reset, not_tls, alert (the client refused), version, cipher, error.
	Reason string
}

// TLSCertificate: a certificate from files came into use, or its files could not
// be read again. A zero NotAfter says that the listener has none by that number
// any more.
type TLSCertificate struct {
	Listener string
	Number   int       // in the listener's list; 1 is the default
	File     string    // the certificate's
	Names    []string  // that it is for
	NotAfter time.Time // when the one in use expires
	Err      error     // why the files make no pair: the one before stays in use; else nil
}

// SpoolError: the storage failed, or an entry in it is not what it should be.
type SpoolError struct {
	Op   string // what was being done: commit, lease, recover, probe, …
	Path string
	ID   string // "" when no message is concerned
	Err  error
	Sick bool // the queue is sick from now on
	Well bool // the queue is well again: Err is nil
}

// SpoolSpace: the room left where messages are kept, every 5 s; a queue that
// knows of none tells none.
type SpoolSpace struct {
	Bytes  int64
	Inodes int64 // negative: the file system does not count them
}

// Trouble: something outside of any session that an operator should look at, or
// its end. It is told once when it begins, not each time it is met.
type Trouble struct {
	Kind     string // accept, certificate, certificate_expiry, hidden_peers, dnsbl
	Listener string // the listener's name; "" when none is concerned
	Text     string // what is wrong, or is well again, for a log line
	Err      error  // nil when there is none
	Over     bool   // it has ended
}

// Panic: code that was called panicked and was recovered.
type Panic struct {
	Where string // adapter, policy NAME, session, …
	ID    string // the message or session concerned
	Value any
	Stack []byte
}
