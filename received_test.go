package incoming

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/queue"
)

func TestReceivedSaysHowTheMessageCame(t *testing.T) {
	t.Parallel()
	tls := &queue.TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	one := []queue.Recipient{{Address: "b@example.org"}}
	base := trace{hello: "mx.example.net", esmtp: true, peer: netip.MustParseAddr("192.0.2.1"), hostname: "mx.example.org",
		id: "01J", at: time.Date(2026, 11, 24, 10, 0, 0, 0, time.FixedZone("", 3600))}
	for _, c := range []struct {
		name string
		edit func(*trace)
		want string
	}{
		{"plain", func(*trace) {},
			"Received: from mx.example.net ([192.0.2.1])\r\n\tby mx.example.org with ESMTP id 01J;\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n"},
		{"everything", func(r *trace) { r.tls, r.rcpts = tls, one },
			"Received: from mx.example.net ([192.0.2.1])\r\n\tby mx.example.org with ESMTPS id 01J\r\n\t(TLS 1.3, TLS_AES_128_GCM_SHA256)\r\n" +
				"\tfor <b@example.org>;\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n"},
		{"two recipients are not named", func(r *trace) { r.rcpts = append(one, one...) },
			"Received: from mx.example.net ([192.0.2.1])\r\n\tby mx.example.org with ESMTP id 01J;\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n"},
		{"IPv6", func(r *trace) { r.peer = netip.MustParseAddr("2001:db8::1") },
			"Received: from mx.example.net ([IPv6:2001:db8::1])\r\n\tby mx.example.org with ESMTP id 01J;\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n"},
		{"no peer address, no hello", func(r *trace) { r.peer, r.hello = netip.Addr{}, "" },
			"Received: from unknown\r\n\tby mx.example.org with ESMTP id 01J;\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n"},
	} {
		r := base
		c.edit(&r)
		if got := string(appendReceived(nil, r)); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
	}
}

func TestReceivedNamesTheProtocol(t *testing.T) {
	t.Parallel()
	tls := &queue.TLSInfo{}
	for _, c := range []struct {
		t    trace
		want string
	}{
		{trace{}, "SMTP"},
		{trace{tls: tls}, "SMTP"},
		{trace{esmtp: true}, "ESMTP"},
		{trace{esmtp: true, tls: tls}, "ESMTPS"},
		{trace{esmtp: true, utf8: true}, "UTF8SMTP"},
		{trace{esmtp: true, lmtp: true}, "LMTP"},
		{trace{esmtp: true, lmtp: true, tls: tls}, "LMTPS"},
		{trace{esmtp: true, lmtp: true, utf8: true}, "UTF8LMTP"},
		{trace{esmtp: true, lmtp: true, utf8: true, tls: tls}, "UTF8LMTPS"},
		{trace{esmtp: true, utf8: true, tls: tls}, "UTF8SMTPS"},
	} {
		if got := protocol(c.t); got != c.want {
			t.Errorf("%+v: %s, want %s", c.t, got, c.want)
		}
	}
}

// A15: what a peer says must not become header fields, comments or line ends.
func TestReceivedLetsNothingOfThePeerOut(t *testing.T) {
	t.Parallel()
	for _, hello := range []string{
		"a)\r\n b: c", "a\r\nX: y", "(comment", "a;b", `\"x`, "a b", "\x00\x7f\xff", strings.Repeat("x", 5000), "jörg", "\u202e",
	} {
		for _, utf8 := range []bool{false, true} {
			rcpt := "b@example.org\r\nX: y"
			b := appendReceived(nil, trace{hello: hello, hostname: "h", id: "I", utf8: utf8, rcpts: []queue.Recipient{{Address: rcpt}}})
			h := header.Parse(append(b, "\r\n"...))
			if h.Len() != 1 || len(h.Get("Received")) == 0 {
				t.Errorf("%q: %d fields: %q", hello, h.Len(), b)
			}
			if strings.Contains(string(b), "X: y") || strings.Count(string(b), ";") != 1 || strings.ContainsAny(string(b), `()\"`) {
				t.Errorf("%q: %q", hello, b)
			}
			for line := range strings.Lines(string(b)) {
				if len(line) > 998 {
					t.Errorf("%q: a line of %d octets", hello, len(line))
				}
			}
			if strings.ContainsFunc(string(b), func(r rune) bool { return r >= 0x80 && !(utf8 && unicode.IsPrint(r)) }) {
				t.Errorf("%q: more than ASCII, or what does not show: %q", hello, b)
			}
		}
	}
}

func TestAnAddressIsNamedAsItIsOrNotAtAll(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"b@example.org":                    true,
		`"odd user"@example.org`:           true,
		"":                                 false,
		"a\tb@c":                           false,
		"jörg@example.org":                 false,
		strings.Repeat("x", 400) + "@a.de": false,
	} {
		if got := namable(address, false); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
	if !namable("jörg@example.org", true) || namable("j\xff@example.org", true) || namable("j\u0085@example.org", true) || namable("j\u202e@example.org", true) {
		t.Error("under SMTPUTF8 UTF-8 without controls is named, and nothing else")
	}
}

func FuzzReceivedIsOneField(f *testing.F) {
	f.Add("mx.example.net", "b@example.org", true)
	f.Add("a)\r\n b: c", "\"\r\n\"@x", false)
	f.Fuzz(func(t *testing.T, hello, rcpt string, utf8 bool) {
		b := appendReceived(nil, trace{hello: hello, hostname: "h", id: "I", utf8: utf8, rcpts: []queue.Recipient{{Address: rcpt}}})
		h := header.Parse(append(b, "\r\nbody"...))
		if h.Len() != 1 || strings.Count(string(b), "\r\n") != strings.Count(string(b), "\n") {
			t.Fatalf("%q", b)
		}
	})
}
