// Package incoming is an inbound-only SMTP server: it takes mail from the wire,
// puts it where no power cut can lose it, and hands it to an application. See
// [Server] for how to run one.
package incoming

import (
	"context"
	"crypto/tls"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// Config is what a Server is made from. The zero value of each field but Queue
// is a default; a negative limit or timeout means none.
type Config struct {
	// Listeners is where to listen; nil is one on 127.0.0.1:2525 without TLS.
	Listeners []Listener

	// Hostname is our name in the banner and in Received; "" is os.Hostname.
	Hostname string

	// Domains is the domains mail is accepted for, compared without case and
	// by A-label; an address elsewhere gets 550 5.7.1 at RCPT. nil accepts
	// any; "*" in the list accepts any; an empty list accepts none but
	// <postmaster>.
	Domains []string

	// Recipient judges each recipient of our domains at RCPT, after Policies;
	// nil accepts each. What it returns is what a policy returns at StageRcpt.
	// <postmaster>, and postmaster of a domain that Domains names, is always
	// accepted.
	Recipient func(ctx context.Context, to Address) error

	// Policies is asked in order at every stage; the first objection wins.
	Policies []Policy

	// Queue keeps the messages. Required. The caller opens it before New and
	// closes it after Run has returned.
	Queue queue.Queue

	// Adapter takes the messages; nil leaves them in the queue. One that is to be
	// closed is closed by the caller, after Run has returned.
	Adapter Adapter

	// Delivery is how messages are handed to Adapter.
	Delivery Delivery

	// OnDead is called at least once before a message comes to rest as a dead
	// letter, with the message readable. It must not block for long.
	OnDead func(ctx context.Context, m *Message, reason error)

	Limits   Limits
	Timeouts Timeouts

	// RejectBareNewline is the clients to which a message with bare CR or LF
	// is refused; everyone else's is repaired. nil refuses nobody's.
	RejectBareNewline []netip.Prefix

	// Lenient is the clients that are forgiven what old devices get wrong:
	// addresses of MAIL and RCPT without angle brackets, and a hello of more
	// than a name, of which the first word is taken. nil forgives nobody.
	Lenient []netip.Prefix

	// Hooks is told what happens. A hook that panics changes nothing: it is
	// told to Hooks.Panic.
	Hooks telemetry.Hooks
}

// Listener is one address to listen on.
type Listener struct {
	// Name is how logs, metrics and policies call it; "" is its Address.
	// Names must differ.
	Name string
	// Address is host:port; port 0 lets the system choose, see Server.Addr. Or
	// it is unix:/path: a socket file, which is removed when the listener is
	// closed, and when it was left by a process that is gone. Its clients have
	// no IP address, unless Proxy tells one.
	Address string
	// SocketMode is the mode of the socket file; 0 is 0660.
	SocketMode fs.FileMode
	// LMTP makes it speak LMTP (RFC 2033) in place of SMTP: LHLO, and a reply for
	// each accepted recipient after the text. A message is committed once, so
	// that these are all alike; refusing some recipients is for RCPT. It is not
	// for port 25.
	LMTP bool
	// TLS is the listener's mode.
	TLS TLSMode
	// CertFile and KeyFile are PEM files, read by New and again when they
	// change. This certificate is for each client that asks for no name that
	// another one has. Required, or Certificates in their place, unless TLS is
	// TLSDisabled or TLSConfig is set.
	CertFile, KeyFile string
	// Certificates are for clients that ask for one of their DNS names
	// (subjectAltName; a wildcard is for one label). Of several for one name
	// a client is shown the first whose kind of key it can use. Without
	// CertFile the first is for all other clients too.
	Certificates []CertificateFiles
	// TLSMin is the oldest TLS version to speak, tls.VersionTLS10 to
	// tls.VersionTLS13; 0 is TLS 1.2. Below that, what old devices may need
	// is taken too: ciphers with an RSA key exchange.
	TLSMin uint16
	// SessionTickets lets clients resume sessions. Large senders have given
	// up on servers that send tickets: golang/go#70232.
	SessionTickets bool
	// TLSConfig is used in place of the files and TLSMin. It is copied; TLS
	// 1.2 is the floor unless its MinVersion says otherwise, and it sends
	// session tickets only with SessionTickets.
	TLSConfig *tls.Config
	// Net, when set, is used instead of listening on Address: the server
	// closes it.
	Net net.Listener
	// Proxy, when set, finds out who is behind a balancer; package proxyproto
	// makes one. It is asked for each connection at accept and must not wait.
	// It returns the connection to use in nc's place, and header, which is
	// called once, from the connection's goroutine, with Timeouts.Proxy as the
	// read deadline: c.RemoteAddr is the peer from then on. One that stays
	// nc's is the balancer itself, which ConnectionsPerIP is not for. A nil
	// header is a peer without a balancer. After an error of either the
	// connection is closed without a reply.
	Proxy func(nc net.Conn) (c net.Conn, header func() error, err error)
}

// TLSMode is how a listener uses TLS.
type TLSMode = smtp.TLSMode

const (
	TLSDisabled = smtp.TLSDisabled // STARTTLS is not offered
	TLSOptional = smtp.TLSOptional // STARTTLS is offered
	TLSRequired = smtp.TLSRequired // mail is taken only after STARTTLS
	TLSImplicit = smtp.TLSImplicit // TLS from the first octet
)

// Limits bound what clients may use, summed over all listeners. Zero is the
// default in parentheses, negative is none.
type Limits struct {
	Connections       int            // (1000) open at once; past it 421 4.3.2
	ConnectionsPerIP  int            // (50) of one address, IPv6 by /64; past it 421 4.7.0
	Exempt            []netip.Prefix // (nil: loopback) from ConnectionsPerIP only; empty: nobody
	MessageSize       int64          // (50 MiB) octets; past it 552 5.3.4
	Recipients        int            // (1000) of a transaction; past it 452 4.5.3
	Commands          int            // (1000) since the last accepted message; past it 421
	Errors            int            // (10) since the last accepted message; past it 421
	RefusedRecipients int            // (100) without an accepted one; past it 421 4.7.0
	SessionSize       int64          // (4 GiB) octets from one connection, looked at between transactions; past it 421 4.7.0
	CommandLine       int            // (4096) octets, at most 1 MiB, which negative is too; past it 500 5.5.2, the third time closes
	Header            int64          // (256 KiB) octets of header; past it 554 5.6.0
	HeaderFields      int            // (1000); past it 554 5.6.0
	Received          int            // (100) Received fields; past it 554 5.4.6
	// Handshakes is how many TLS handshakes compute at once (as many as there
	// are processors for Go); one that waits for its peer is not counted. Past
	// it each waits for its turn, and is closed when that has not come in
	// Timeouts.TLS.
	Handshakes int
}

// Timeouts bound how long things may take. Zero is the default in parentheses,
// negative is none.
type Timeouts struct {
	Command time.Duration // (5 min; 30 s while over 80 % of Limits.Connections are open) for a command
	TLS     time.Duration // (30 s) for a handshake
	Proxy   time.Duration // (5 s) for the header of Listener.Proxy
	Data    time.Duration // (3 min) between reads of text; after it text must average 500 octets a second
	Write   time.Duration // (5 min) for a reply to be taken
	Session time.Duration // (1 h) looked at between transactions
	Policy  time.Duration // (30 s) for one policy, and for all together from the final dot
	Drain   time.Duration // (25 s) from the end of Run's ctx to force
}

// Delivery is how messages are handed to the Adapter. Zero is the default in
// parentheses, negative is none.
type Delivery struct {
	Workers     int           // (16) deliveries at once
	Deadline    time.Duration // (1 min) for one delivery
	Backoff     time.Duration // (1 s) after the first failure, doubling, with jitter
	BackoffCap  time.Duration // (10 min) the longest back-off
	GiveUp      time.Duration // (7 days) since received or requeued; then dead, kind spent
	MaxAttempts int           // (none) then dead, kind spent

	// Accept is when senders are answered: by default as soon as a message is in
	// the queue. An Adapter that is a delivery.Accepter says so itself.
	Accept Acceptance

	// Before and After are called around each attempt, by its worker.
	Before func(ctx context.Context, m *Message)
	After  func(ctx context.Context, m *Message, verdict error)
}

// What an application says, from the packages that own it.
type (
	// Message is a message as an Adapter sees it.
	Message = queue.Message
	// Envelope is where a message comes from and goes to.
	Envelope = queue.Envelope
	// Address is a reverse-path or forward-path: local part and domain.
	Address = smtp.Path
	// Adapter hands a message to the application.
	Adapter = delivery.Adapter
	// Acceptance is when a message's sender is answered.
	Acceptance = delivery.Acceptance
	// AdapterFunc is a func that is an Adapter.
	AdapterFunc = delivery.AdapterFunc
	// Policy judges a transaction.
	Policy = policy.Policy
	// Reply is a refusal.
	Reply = smtp.Reply
)
