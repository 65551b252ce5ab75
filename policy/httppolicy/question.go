package httppolicy

import (
	"crypto/tls"
	"encoding/json"

	"github.com/incoming-mx/incoming/policy"
)

// Version is that of Question. What is added to it does not change it; an
// application ignores what it does not know.
const Version = 1

// Question is the JSON of a request: what is known at its stage.
type Question struct {
	Version  int    `json:"version"`
	Stage    string `json:"stage"` // connect, hello, mail, rcpt, data, header, message
	Session  string `json:"session"`
	Listener string `json:"listener"`
	Hostname string `json:"hostname"`
	// Peer is "address:port"; "" for a client without an IP address.
	Peer  string `json:"peer"`
	TLS   *TLS   `json:"tls"` // null in clear
	Hello string `json:"hello"`

	// From mail on.
	MailFrom *string `json:"mail_from,omitempty"` // "" is the null sender
	SMTPUTF8 bool    `json:"smtputf8,omitempty"`
	// RcptTo is the recipients accepted; at rcpt the one in question is the
	// last.
	RcptTo []string `json:"rcpt_to,omitempty"`
	// Size is the octets of the text: at mail as declared, 0 when they were not,
	// at message all.
	Size int64 `json:"size,omitempty"`

	// From header on.
	ID     string      `json:"id,omitempty"`
	Header [][2]string `json:"header,omitempty"` // name and unfolded value, in order

	Facts map[string]json.RawMessage `json:"facts,omitempty"`
}

// TLS is of a connection with it.
type TLS struct {
	Version    string `json:"version"` // "TLS 1.3"
	Cipher     string `json:"cipher"`
	ServerName string `json:"server_name"`
}

func questionAt(stage policy.Stage, t *policy.Transaction) *Question {
	q := &Question{Version: Version, Stage: stage.String(), Session: t.Session, Listener: t.Listener, Hostname: t.Hostname,
		Hello: t.Hello, Size: t.FromParams.Size, SMTPUTF8: t.FromParams.SMTPUTF8, ID: t.ID, Facts: t.Facts()}
	if t.Peer.IsValid() {
		q.Peer = t.Peer.String()
	}
	if t.TLS != nil {
		q.TLS = &TLS{Version: tls.VersionName(t.TLS.Version), Cipher: tls.CipherSuiteName(t.TLS.CipherSuite), ServerName: t.TLS.ServerName}
	}
	if t.InMail {
		from := t.From.String()
		q.MailFrom = &from
	}
	for _, to := range t.To {
		q.RcptTo = append(q.RcptTo, to.Path.String())
	}
	if stage == policy.StageMessage {
		q.Size = t.Size
	}
	for f := range t.Header.Fields() {
		q.Header = append(q.Header, [2]string{f.Name, f.Value()})
	}
	return q
}
