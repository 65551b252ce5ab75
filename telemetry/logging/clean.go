package logging

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/internal/mailbox"
)

// The most octets of one value, before escaping.
const (
	maxText  = 512
	maxStack = 16 << 10
)

// clean is s in one line of printable characters, cut to most octets: line ends,
// escapes, invalid UTF-8, U+2028, bidi controls and the like are written as Go
// writes them in a string. A handler may quote the result once more.
func clean(s string, most int) string {
	cut := ""
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		cut = "… (" + strconv.Itoa(len(s)) + " octets)"
		s = s[:most]
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return escape(s) + cut
			}
		}
		if !strconv.IsPrint(r) {
			return escape(s) + cut
		}
	}
	return s + cut
}

func escape(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// address is an address as it is to be logged, before clean.
func (lg *logger) address(a string) string {
	switch lg.opts.Addresses {
	case None:
		return "…"
	case Hash:
		return lg.hash(a)
	}
	return a
}

func (lg *logger) hash(a string) string {
	h := sha256.New()
	if len(lg.opts.HashKey) > 0 {
		h = hmac.New(sha256.New, lg.opts.HashKey)
	}
	h.Write([]byte(mailbox.Key(a)))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// scrub treats the addresses in a text as address does: every word with an "@"
// that has something before it.
func (lg *logger) scrub(s string) string {
	if lg.opts.Addresses == Full || !strings.Contains(s, "@") {
		return s
	}
	var b strings.Builder
	for s != "" {
		end := strings.IndexFunc(s, isBorder)
		if end < 0 {
			end = len(s)
		}
		word := s[:end]
		if strings.IndexByte(word, '@') > 0 {
			word = lg.address(word)
		}
		b.WriteString(word)
		if s = s[end:]; s != "" {
			_, size := utf8.DecodeRuneInString(s)
			b.WriteString(s[:size])
			s = s[size:]
		}
	}
	return b.String()
}

// isBorder reports whether r stands around addresses rather than in them.
func isBorder(r rune) bool { return r <= ' ' || strings.ContainsRune("<>()[],;:\"'", r) }

// withoutSecret is a client's line without what may be a password: AUTH is never
// offered, and tried nevertheless.
func withoutSecret(line string) string {
	const verb = "AUTH"
	if len(line) >= len(verb) && strings.EqualFold(line[:len(verb)], verb) {
		return verb + " …"
	}
	return line
}
