package queue

import (
	"encoding/json"
	"time"
)

// Envelope is where a message comes from and goes to, as the client gave it
// (RFC 5321 §2.3.1), which need not agree with its header fields.
type Envelope struct {
	// MailFrom is the reverse-path without angle brackets; "" is the null
	// sender of bounces and automatic replies, which must not be answered.
	MailFrom string
	// RcptTo is the recipients still owed, in the order given, each address
	// once.
	RcptTo []Recipient
	// SMTPUTF8 says that the client asked for RFC 6531.
	SMTPUTF8 bool
	// Body is the BODY parameter: "", "7BIT" or "8BITMIME" (RFC 6152).
	Body string
	// Ret and EnvID are the DSN parameters of MAIL, decoded (RFC 3461 §4.3,
	// §4.4); "" when not given.
	Ret, EnvID string
}

// Recipient is one forward-path and its DSN parameters.
type Recipient struct {
	// Address is the forward-path without angle brackets and source route,
	// otherwise as given.
	Address string
	// Notify is the NOTIFY parameter, in upper case and the order given, such
	// as "SUCCESS,FAILURE"; "" when not given (RFC 3461 §4.1).
	Notify string
	// ORcpt is the ORCPT parameter decoded, such as "rfc822;b@example.org";
	// "" when not given (RFC 3461 §4.2).
	ORcpt string
}

// Addresses is the recipients' addresses alone.
func (e Envelope) Addresses() []string {
	to := make([]string, len(e.RcptTo))
	for i, r := range e.RcptTo {
		to[i] = r.Address
	}
	return to
}

// Origin is how a message came to us.
type Origin struct {
	// ReceivedAt is when the client was told to send the text. Backends
	// keep it to the millisecond, in UTC.
	ReceivedAt time.Time
	// Listener is the name of the listener.
	Listener string
	// Peer is the client's address, "192.0.2.1:4711"; "" when unknown.
	Peer string
	// Hello is the name the client gave in EHLO or HELO; unverified.
	Hello string
	// TLS is nil for a message that came in clear.
	TLS *TLSInfo
}

// TLSInfo describes the TLS session a message came over.
type TLSInfo struct {
	Version    string `json:"version"`               // "TLS 1.3"
	Cipher     string `json:"cipher"`                // "TLS_AES_128_GCM_SHA256"
	ServerName string `json:"server_name,omitempty"` // SNI; "" when not sent
}

// Facts is what policies learned about a message. A key is "policy.name", a
// value any JSON. All facts of a message together are at most 16 KiB.
type Facts map[string]json.RawMessage
