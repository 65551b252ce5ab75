package s3

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/incoming-mx/incoming/queue"
)

// most is how much metadata S3 takes: 2 KB of names and values, without the
// x-amz-meta- before each name. Some stores count that too.
const most = 2<<10 - 8*len("x-amz-meta-")

// metadata is the envelope as an object has it. What must fit comes first; of
// recipients and facts as much as fits, each whole or not at all.
func metadata(m *queue.Message) (map[string]string, error) {
	fingerprint, err := m.Fingerprint()
	if err != nil {
		return nil, err
	}
	meta := make(map[string]string)
	left := most
	add := func(name, value string) bool {
		if left < len(name)+len(value) {
			return false
		}
		left -= len(name) + len(value)
		meta[name] = value
		return true
	}
	add("Incoming-Id", ascii(string(m.ID)))
	add("Incoming-Fingerprint", fingerprint)
	add("Incoming-Received-At", m.ReceivedAt.UTC().Format(time.RFC3339Nano))
	add("Incoming-Recipient-Count", strconv.Itoa(len(m.Envelope.RcptTo)))
	add("Incoming-Sender", ascii(m.Envelope.MailFrom))
	if m.Quarantine != "" {
		add("Incoming-Quarantine", ascii(m.Quarantine))
	}
	var to []string
	const name = "Incoming-Recipients"
	for _, r := range m.Envelope.Addresses() {
		next := append(to, ascii(r))
		if len(name)+len(strings.Join(next, ", ")) > left {
			break
		}
		to = next
	}
	if len(to) > 0 {
		add(name, strings.Join(to, ", "))
	}
	if len(m.Facts) > 0 {
		facts, err := json.Marshal(m.Facts)
		if err == nil { // one that is not JSON comes from a foreign spool
			add("Incoming-Facts", ascii(string(facts)))
		}
	}
	return meta, nil
}

// ascii is s as a header field can hold it: what is not printable ASCII as \uXXXX,
// as in JSON.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case ' ' <= r && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
