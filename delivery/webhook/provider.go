package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/mail"
	"strings"

	"github.com/incoming-mx/incoming/mailparse"
)

// What the formats have in common.

// toJSONText is a value as JSON on one line, with < > & as they are: addresses are
// easier to read so, and no HTML is near.
func toJSONText(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("JSON: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// written is an address as a header field has it, its name decoded.
func written(a mail.Address) string {
	switch {
	case a.Name == "":
		return a.Address
	case strings.ContainsAny(a.Name, `()<>[]:;@\,."`):
		return `"` + quoter.Replace(a.Name) + `" <` + a.Address + ">"
	}
	return a.Name + " <" + a.Address + ">"
}

func writtenAll(list []mail.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = written(a)
	}
	return out
}

func writtenList(list []mail.Address) string { return strings.Join(writtenAll(list), ", ") }

// writtenID is a message identifier in its angle brackets; "" when there is none.
func writtenID(id string) string {
	if id == "" {
		return ""
	}
	return "<" + id + ">"
}

// plain is the text that the sender gave, without that made from HTML.
func plain(m *mailparse.Mail) string {
	if m.TextFromHTML {
		return ""
	}
	return m.Text
}

// fileName is an attachment's name, or one made up: without any, frameworks take
// a file for a field, or drop it.
func fileName(p *mailparse.Part, field string) string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Type == "message/rfc822":
		return field + ".eml"
	}
	return field
}

// peerIP is the client's address without its port.
func (j job) peerIP() string {
	host, _, err := net.SplitHostPort(j.Peer)
	if err != nil {
		return j.Peer
	}
	return host
}
