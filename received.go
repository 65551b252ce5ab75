package incoming

import (
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/queue"
)

// trace is what a Received field is written from.
type trace struct {
	hello    string // as the peer gave it: anything
	esmtp    bool   // by EHLO
	peer     netip.Addr
	hostname string
	lmtp     bool
	utf8     bool // the client asked for SMTPUTF8
	tls      *queue.TLSInfo
	id       queue.ID
	rcpts    []queue.Recipient
	at       time.Time
}

// maxHello is how much of a hello name is written; a domain has 255 octets at
// most (RFC 5321 §4.5.3.1.2).
const maxHello = 255

// appendReceived writes the Received field (RFC 5321 §4.4), folded, with its
// line end. Nothing the peer says can end the field, open a comment or bring in
// another field. A recipient is named only when it is the only one, so that no
// recipient learns of another.
func appendReceived(b []byte, t trace) []byte {
	b = append(b, "Received: from "...)
	b = appendHello(b, t.hello, t.utf8)
	if t.peer.IsValid() {
		b = append(b, " (["...)
		if t.peer.Is6() {
			b = append(b, "IPv6:"...)
		}
		b = t.peer.WithZone("").AppendTo(b)
		b = append(b, "])"...)
	}
	b = append(b, "\r\n\tby "...)
	b = append(b, t.hostname...)
	b = append(b, " with "...)
	b = append(b, protocol(t)...)
	b = append(b, " id "...)
	b = append(b, t.id...)
	if t.tls != nil {
		b = append(b, "\r\n\t("...)
		b = append(b, t.tls.Version...)
		b = append(b, ", "...)
		b = append(b, t.tls.Cipher...)
		b = append(b, ')')
	}
	if len(t.rcpts) == 1 && namable(t.rcpts[0].Address, t.utf8) {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, t.rcpts[0].Address...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = t.at.UTC().AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700")
	return append(b, "\r\n"...)
}

// protocol is the registered name of how the message came (RFC 3848, RFC 6531
// §4.3). There is none for HELO under TLS.
func protocol(t trace) string {
	switch {
	case t.lmtp && t.utf8 && t.tls != nil:
		return "UTF8LMTPS"
	case t.lmtp && t.utf8:
		return "UTF8LMTP"
	case t.lmtp && t.tls != nil:
		return "LMTPS"
	case t.lmtp:
		return "LMTP"
	case t.utf8 && t.tls != nil:
		return "UTF8SMTPS"
	case t.utf8:
		return "UTF8SMTP"
	case !t.esmtp:
		return "SMTP"
	case t.tls != nil:
		return "ESMTPS"
	}
	return "ESMTP"
}

// appendHello writes a hello name with every octet that has no place in a domain
// or address literal as "?".
func appendHello(b []byte, hello string, utf8OK bool) []byte {
	if hello == "" {
		return append(b, "unknown"...)
	}
	end := len(b) + maxHello
	for _, r := range hello {
		if len(b)+utf8.RuneLen(r) > end {
			break
		}
		switch {
		case r < utf8.RuneSelf && helloOctet(byte(r)):
			b = append(b, byte(r))
		case r >= utf8.RuneSelf && r != utf8.RuneError && utf8OK && unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, '?')
		}
	}
	return b
}

func helloOctet(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '-', '.', '_', ':', '[', ']':
		return true
	}
	return false
}

// namable reports whether an address can stand in the field as it is. One that
// cannot is left out rather than changed.
func namable(address string, utf8OK bool) bool {
	if address == "" || len(address) > 320 || !utf8.ValidString(address) {
		return false
	}
	for _, r := range address {
		if r < ' ' || r == 0x7f || r >= utf8.RuneSelf && !(utf8OK && unicode.IsPrint(r)) {
			return false
		}
	}
	return true
}
