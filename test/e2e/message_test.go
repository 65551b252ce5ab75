package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// message is one to send: its text has CRLF line ends, as it is on the wire.
type message struct {
	name string
	from string
	to   []string
	text []byte
	// utf8 says that its addresses want SMTPUTF8.
	utf8 bool
}

// messages makes one of every kind, each with a token of its own in it.
func messages() []message {
	const from = "sender@client.example.net"
	to := []string{"rcpt@example.org"}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("rcpt%d@example.org", i)
	}
	lines := func(s ...string) []byte { return []byte(strings.Join(s, "\r\n") + "\r\n") }
	return []message{
		{name: "plain", from: from, to: to, text: text("Hello.\r\n")},
		{name: "null sender", from: "", to: to, text: text("Your message could not be delivered.\r\n")},
		{name: "8-bit", from: from, to: to, text: text("caf\xe9 in Latin-1, café in UTF-8, \x80\xff\xfe\r\n")},
		{name: "dots", from: from, to: to, text: text(string(lines(".", "..", ".one", "...three", "in . the middle", "", ".", "end.")))},
		{name: "commands", from: from, to: to, text: text(string(lines("QUIT", "MAIL FROM:<x@example.net>", "RSET", "", "DATA")))},
		{name: "UTF-8 addresses", from: "grüße@client.example.net", to: []string{"δοκιμή@example.org"},
			text: text("Ich grüße Dich.\r\n"), utf8: true},
		{name: "5 MB", from: from, to: to, text: text(large(5 << 20))},
		{name: "one long line", from: from, to: to, text: text(strings.Repeat("long ", 20000) + "\r\n")},
		{name: "no final newline", from: from, to: to, text: text("the last line has no end")},
		{name: "100 recipients", from: from, to: many, text: text("To all of you.\r\n")},
	}
}

// text is a header with a token, and the body under it.
func text(body string) []byte {
	return fmt.Appendf(nil, "From: Sender <sender@client.example.net>\r\nTo: rcpt@example.org\r\n"+
		"Subject: e2e\r\nX-Token: %s\r\n\r\n%s", rand.Text(), body)
}

func large(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d %s\r\n", i, strings.Repeat("abcdefgh", 8))
	}
	return b.String()
}

// token is the one in a text; "" when there is none.
func token(text []byte) string {
	_, rest, ok := bytes.Cut(text, []byte("\r\nX-Token: "))
	if !ok {
		return ""
	}
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return string(value)
}

// delivered is the messages in a Maildir, by token. Each must be what the
// server puts on top and the text under it.
func delivered(t *testing.T, s *daemon.Site) map[string][][]byte {
	t.Helper()
	found := make(map[string][][]byte)
	dir := filepath.Join(s.Mail, "new")
	for _, name := range daemon.Entries(t, dir) {
		whole, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		own := token(whole)
		if own == "" {
			t.Errorf("%s has no token:\n%.500s", name, whole)
		}
		found[own] = append(found[own], whole)
	}
	return found
}

// beneath takes away the fields that the server puts on top of a message.
func beneath(t *testing.T, whole []byte) []byte {
	t.Helper()
	ours := []string{"Return-Path:", "Delivered-To:", "Received:"}
	rest := whole
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return rest
		}
		line := string(rest[:i+1])
		ok := line[0] == ' ' || line[0] == '\t'
		for _, field := range ours {
			ok = ok || strings.HasPrefix(line, field)
		}
		if !ok {
			return rest
		}
		rest = rest[i+1:]
	}
}

// same wants the text byte for byte.
func same(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%d octets came of %d; they differ at %d:\n got %.80q\nwant %.80q", len(got), len(want), at, got[at:], want[at:])
}
