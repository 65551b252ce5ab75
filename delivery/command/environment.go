package command

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/queue"
)

// maxVariable is the longest value of a variable: Linux has room for 128 KiB,
// the name included.
const maxVariable = 96 << 10

// timeLayout is RFC 3339 to the millisecond, in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// environment is all the variables of the program. docs/adapters.md is their
// manual.
func environment(m *queue.Message, path string) []string {
	env := []string{"PATH=" + path}
	set := func(name, value string) {
		env = append(env, "INCOMING_"+name+"="+clean(value))
	}
	set("VERSION", "1")
	set("ID", string(m.ID))
	set("ATTEMPT", strconv.Itoa(m.Attempt))
	set("RECEIVED_AT", m.ReceivedAt.UTC().Format(timeLayout))
	set("SIZE", strconv.FormatInt(m.Size, 10))
	set("MAIL_FROM", m.Envelope.MailFrom)
	set("SMTPUTF8", boolean(m.Envelope.SMTPUTF8))
	set("BODY", m.Envelope.Body)
	set("DSN", dsn(m.Envelope))
	set("LISTENER", m.Listener)
	set("PEER", m.Peer)
	set("HELLO", m.Hello)
	tls := queue.TLSInfo{}
	if m.TLS != nil {
		tls = *m.TLS
	}
	set("TLS", tls.Version)
	set("TLS_CIPHER", tls.Cipher)
	set("TLS_SERVER_NAME", tls.ServerName)
	set("FACTS", facts(m.Facts))
	set("QUARANTINE", m.Quarantine)
	return append(env, recipients(m.Envelope.Addresses())...)
}

// recipients is one address a line. More than fit into one variable go on in
// INCOMING_RCPT_TO_2, and so on.
func recipients(to []string) []string {
	env := []string{"INCOMING_RCPT_COUNT=" + strconv.Itoa(len(to))}
	var line strings.Builder
	name, part := "INCOMING_RCPT_TO", 1
	for _, rcpt := range to {
		rcpt = clean(rcpt)
		if line.Len() > 0 && line.Len()+1+len(rcpt) > maxVariable {
			env = append(env, name+"="+line.String())
			line.Reset()
			part++
			name = "INCOMING_RCPT_TO_" + strconv.Itoa(part)
		}
		if line.Len() > 0 {
			line.WriteByte('\n')
		}
		line.WriteString(rcpt)
	}
	return append(env, name+"="+line.String())
}

// clean makes a control character a question mark, so that an address is one
// line, and no NUL ends a value: the wire lets none through, but a spool may
// come from elsewhere.
func clean(value string) string {
	b := []byte(value[:min(len(value), maxVariable)])
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}

func boolean(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// facts is one JSON object. A fact that is not JSON, which only a foreign spool
// can hold, is given as a string.
func facts(f queue.Facts) string {
	all := make(map[string]json.RawMessage, len(f))
	for name, value := range f {
		if !json.Valid(value) {
			value = encode(string(value))
		}
		all[name] = value
	}
	return string(encode(all))
}

type dsnRecipient struct {
	Notify string `json:"notify"`
	ORcpt  string `json:"orcpt"`
}

type dsnParameters struct {
	Ret        string                  `json:"ret"`
	EnvID      string                  `json:"envid"`
	Recipients map[string]dsnRecipient `json:"recipients,omitempty"`
}

// dsn is one JSON object; "" when the client gave no such parameter.
func dsn(e queue.Envelope) string {
	d := dsnParameters{Ret: e.Ret, EnvID: e.EnvID, Recipients: map[string]dsnRecipient{}}
	for _, r := range e.RcptTo {
		if r.Notify != "" || r.ORcpt != "" {
			d.Recipients[r.Address] = dsnRecipient{Notify: r.Notify, ORcpt: r.ORcpt}
		}
	}
	if d.Ret == "" && d.EnvID == "" && len(d.Recipients) == 0 {
		return ""
	}
	text := encode(d)
	if len(text) > maxVariable {
		d.Recipients = nil // rather none than half a JSON
		text = encode(d)
	}
	return string(text)
}

// encode is v as JSON. It cannot fail: v is maps and structs of strings and
// valid JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return b
}
