package diskqueue

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// metaScanner reads meta.json as record.encode writes it for most messages, key
// by key in its order. It knows no JSON beyond that: whatever it does not
// expect makes it fail, and then encoding/json reads the whole. A lease from
// the disk takes half as long for it.
type metaScanner struct {
	b  []byte
	ok bool
}

// scanMeta is unmarshalMeta for what most messages have, into an empty m; false for
// anything else, which leaves m as it happens to be.
func scanMeta(b []byte, m *metaJSON) bool {
	s := &metaScanner{b: b, ok: true}
	s.expect(`{"format":1,"id":`)
	m.ID = s.text()
	s.expect(`,"mail_from":`)
	m.MailFrom = s.text()
	s.expect(`,"rcpt_to":[`)
	for !s.skip(`]`) && s.ok {
		if len(m.RcptTo) > 0 {
			s.expect(`,`)
		}
		m.RcptTo = append(m.RcptTo, s.text())
	}
	m.SMTPUTF8 = s.skip(`,"smtputf8":true`)
	m.Body = s.optional(`,"body":`)
	s.expect(`,"received_at":`)
	m.ReceivedAt = s.text()
	m.RequeuedAt = s.optional(`,"requeued_at":`)
	s.expect(`,"size":`)
	m.Size = count{s.number(), true}
	s.expect(`,"crc32c":`)
	m.CRC32C = s.text()
	s.expect(`,"attempts":`)
	m.Attempts = int(s.number())
	m.NextAttempt = s.optional(`,"next_attempt":`)
	m.LastError = s.optional(`,"last_error":`)
	m.Prepend = s.optional(`,"prepend":`)
	m.Quarantine = s.optional(`,"quarantine":`)
	m.Listener = s.optional(`,"listener":`)
	m.Peer = s.optional(`,"peer":`)
	m.Hello = s.optional(`,"hello":`)
	s.expect("}\n")
	m.Format = 1
	return s.ok && len(s.b) == 0
}

// skip reads a word if it comes next.
func (s *metaScanner) skip(word string) bool {
	if len(s.b) < len(word) || string(s.b[:len(word)]) != word {
		return false
	}
	s.b = s.b[len(word):]
	return true
}

func (s *metaScanner) expect(word string) { s.ok = s.skip(word) && s.ok }

func (s *metaScanner) optional(key string) text {
	if !s.skip(key) {
		return ""
	}
	return s.text()
}

// number reads digits that an int64 holds for certain.
func (s *metaScanner) number() int64 {
	var n int64
	i := 0
	for i < len(s.b) && i < 18 && s.b[i] >= '0' && s.b[i] <= '9' {
		n = n*10 + int64(s.b[i]-'0')
		i++
	}
	s.ok = s.ok && i > 0 && (i == 1 || s.b[0] != '0')
	s.b = s.b[i:]
	return n
}

// text reads a string in which appendString has written no other escapes than
// those of one letter. What JSON does not let into a string is damage.
func (s *metaScanner) text() text {
	t := s.quoted()
	s.ok = s.ok && utf8.ValidString(string(t))
	return t
}

func (s *metaScanner) quoted() text {
	if !s.skip(`"`) {
		s.ok = false
		return ""
	}
	end := bytes.IndexAny(s.b, `"\`)
	if end >= 0 && s.b[end] == '"' {
		t := text(s.b[:end])
		s.b = s.b[end+1:]
		s.ok = s.ok && !hasControl(t)
		return t
	}
	var t strings.Builder
	t.Grow(closing(s.b))
	for i := 0; i < len(s.b); i++ {
		switch c := s.b[i]; c {
		case '"':
			s.b = s.b[i+1:]
			return text(t.String())
		case '\\':
			i++
			if i == len(s.b) {
				break
			}
			j := bytes.IndexByte([]byte(`rnt"\`), s.b[i])
			if j < 0 {
				s.ok = false
				return ""
			}
			t.WriteByte("\r\n\t\"\\"[j])
		default:
			s.ok = s.ok && c >= ' '
			t.WriteByte(c)
		}
	}
	s.ok = false
	return ""
}

// closing is where the string ends that b begins in; its length if it does not.
func closing(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return len(b)
}

func hasControl(t text) bool {
	for i := range len(t) {
		if t[i] < ' ' {
			return true
		}
	}
	return false
}
