package interop

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
)

// kind is a kind of message: its text has CRLF line ends, as on the wire.
type kind struct {
	name string
	from string
	to   []string
	body string
	// utf8 says that the addresses are beyond ASCII, and header fields too.
	utf8 bool
}

// kinds is one of every kind.
func kinds() []kind {
	const from = "sender@client.example.net"
	to := []string{"rcpt@example.org"}
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprintf("rcpt%d@example.org", i)
	}
	lines := func(s ...string) string { return strings.Join(s, "\r\n") + "\r\n" }
	return []kind{
		{name: "plain", from: from, to: to, body: "Hello.\r\n"},
		{name: "null sender", from: "", to: to, body: "Your message could not be delivered.\r\n"},
		{name: "8-bit", from: from, to: to, body: "caf\xe9 in Latin-1, café in UTF-8, \x80\xff\xfe\r\n"},
		{name: "UTF-8", from: "grüße@grüße.example", to: []string{"δοκιμή@bücher.example"}, body: "Ich grüße Dich.\r\n", utf8: true},
		{name: "dots", from: from, to: to, body: lines(".", "..", ".one", "...three", "in . the middle", "", ".", "end.")},
		{name: "commands", from: from, to: to, body: lines("QUIT", "MAIL FROM:<x@example.net>", "RSET", "", "DATA")},
		{name: "one long line", from: from, to: to, body: strings.Repeat("long ", 20000) + "\r\n"},
		{name: "no last line end", from: from, to: to, body: "the last line has no end"},
		{name: "25 MB", from: from, to: to, body: large(25e6)},
		{name: "500 recipients", from: from, to: many, body: "To all of you.\r\n"},
	}
}

func large(n int) string {
	var b strings.Builder
	b.Grow(n + 100)
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d %s\r\n", i, strings.Repeat("abcdefgh", 8))
	}
	return b.String()
}

// message is one to send.
type message struct {
	kind
	token string
	text  []byte
}

// make is a message of that kind with a token of its own.
func (k kind) make() message {
	m := message{kind: k, token: rand.Text()}
	who, subject := "Sender <sender@client.example.net>", "interop"
	if k.utf8 {
		who, subject = "Grüße <grüße@grüße.example>", "δοκιμή"
	}
	m.text = fmt.Appendf(nil, "X-Token: %s\r\nFrom: %s\r\nTo: rcpt@example.org\r\nSubject: %s\r\n"+
		"Date: Mon, 2 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%s@client.example.net>\r\n\r\n%s", m.token, who, subject, m.token, k.body)
	return m
}

// ended is the text with its last line ended: DATA has no way to send one
// without an end, so that every client ends it.
func (m message) ended() []byte {
	if bytes.HasSuffix(m.text, []byte("\r\n")) {
		return m.text
	}
	return append(slices.Clone(m.text), "\r\n"...)
}
