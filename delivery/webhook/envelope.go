package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/incoming-mx/incoming/queue"
)

// Version is the version of the envelope's JSON. Within it keys are only added.
const Version = 1

const (
	headerEnvelope    = "Incoming-Envelope"
	headerFingerprint = "Incoming-Fingerprint"
)

// Envelope is the JSON that goes with each message. Every key is always there.
type Envelope struct {
	Version    int    `json:"version"` // 1
	ID         string `json:"id"`      // the same each time the message is sent
	Attempt    int    `json:"attempt"` // 1 the first time
	ReceivedAt string `json:"received_at"`
	Size       int64  `json:"size"` // octets of the message
	// Fingerprint is the same when the sender sends the message again, which
	// then has another ID: see queue.Message.Fingerprint.
	Fingerprint string `json:"fingerprint"`

	Sender     string   `json:"sender"`     // "" for bounces and automatic replies
	Recipients []string `json:"recipients"` // those still owed
	SMTPUTF8   bool     `json:"smtputf8"`
	Body       string   `json:"body"` // "", "7BIT" or "8BITMIME"
	DSN        *DSN     `json:"dsn"`  // null when the client gave none

	Listener string         `json:"listener"`
	Peer     string         `json:"peer"`  // "192.0.2.1:4711"
	Hello    string         `json:"hello"` // what the client calls itself; unverified
	TLS      *queue.TLSInfo `json:"tls"`   // null when it came in clear

	Facts      map[string]json.RawMessage `json:"facts"`      // what policies learned
	Quarantine string                     `json:"quarantine"` // why a policy marked it; ""
}

// DSN is the parameters of RFC 3461.
type DSN struct {
	Ret        string                  `json:"ret"`        // "", "FULL" or "HDRS"
	EnvID      string                  `json:"envid"`      //
	Recipients map[string]DSNRecipient `json:"recipients"` // those with parameters
}

// DSNRecipient is the parameters of one recipient.
type DSNRecipient struct {
	Notify string `json:"notify"` // such as "SUCCESS,FAILURE"
	ORcpt  string `json:"orcpt"`  // such as "rfc822;b@example.org"
}

// timeLayout is RFC 3339 to the millisecond, in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

func newEnvelope(m *queue.Message, fingerprint string) Envelope {
	e := Envelope{
		Fingerprint: fingerprint,
		Version:     Version,
		ID:          string(m.ID),
		Attempt:     m.Attempt,
		ReceivedAt:  m.ReceivedAt.UTC().Format(timeLayout),
		Size:        m.Size,
		Sender:      m.Envelope.MailFrom,
		Recipients:  m.Envelope.Addresses(),
		SMTPUTF8:    m.Envelope.SMTPUTF8,
		Body:        m.Envelope.Body,
		DSN:         newDSN(m.Envelope),
		Listener:    m.Listener,
		Peer:        m.Peer,
		Hello:       m.Hello,
		TLS:         m.TLS,
		Facts:       make(map[string]json.RawMessage, len(m.Facts)),
		Quarantine:  m.Quarantine,
	}
	for name, value := range m.Facts {
		e.Facts[name] = fact(value)
	}
	return e
}

// fact keeps one that is not JSON, which only a foreign spool can hold, from
// spoiling the envelope: it goes as a string.
func fact(value json.RawMessage) json.RawMessage {
	if json.Valid(value) {
		return value
	}
	quoted, err := json.Marshal(string(value))
	if err != nil {
		return json.RawMessage("null") // cannot be: any string can be quoted
	}
	return quoted
}

func newDSN(e queue.Envelope) *DSN {
	d := &DSN{Ret: e.Ret, EnvID: e.EnvID, Recipients: map[string]DSNRecipient{}}
	for _, r := range e.RcptTo {
		if r.Notify != "" || r.ORcpt != "" {
			d.Recipients[r.Address] = DSNRecipient{Notify: r.Notify, ORcpt: r.ORcpt}
		}
	}
	if d.Ret == "" && d.EnvID == "" && len(d.Recipients) == 0 {
		return nil
	}
	return d
}

// Received is ReceivedAt as a time.
func (e Envelope) Received() (time.Time, error) { return time.Parse(time.RFC3339, e.ReceivedAt) }

// asciiJSON writes JSON so that it fits a header field: what is not ASCII as
// \uXXXX. Outside strings JSON has none.
func asciiJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		}
	}
	return out.String()
}
