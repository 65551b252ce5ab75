package mailauth

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/header"
)

// FuzzRecords gives strangers' records to what reads them: a DMARC record, an SPF
// record and a DKIM key. None may panic, loop, or pass without a mechanism that
// matches.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{"v=DMARC1; p=reject; sp=none; t=y; psd=y; rua=mailto:a@b", "v=DMARC1;p=;;=;", "v=spf1 ip4:192.0.2.1 -all", "v=spf1 include:sender.example redirect=%{i}.%{d2r-.}",
		"v=spf1 a:%{l}%{o}.sender.example/0//0 exists:%{ir}.x mx ptr ?all", "v=DKIM1; k=rsa; p=AAAA", "v=DKIM1; h=sha1:sha256; s=*; t=y:s; p=", signerKey} {
		f.Add(seed)
	}
	text := sign(f, "sender.example", "From: a@sender.example\n\nBody\n")
	f.Fuzz(func(t *testing.T, record string) {
		r := parseRecord(record)
		if r != nil && !strings.HasPrefix(strings.TrimLeft(strings.ToLower(record), " \t"), "v") {
			t.Errorf("%q is taken for a DMARC record", record)
		}
		z := zone{"sender.example": txt(record), "s._domainkey.sender.example": txt(record), "_dmarc.sender.example": txt(record)}
		got := send(t, Options{Resolver: z, Enforce: true}, letter{peer: "203.0.113.7", helo: "x", from: "a@sender.example", text: text})
		if got.ref != nil && got.ref.Broke {
			t.Fatalf("%q: %s", record, got.ref.Reason)
		}
		if got.Results == nil {
			t.Fatalf("%q: no results", record)
		}
		if got.DKIM[0].Result == Pass && !strings.Contains(strings.ReplaceAll(record, " ", ""), signerKey[strings.Index(signerKey, "p=")+2:]) {
			t.Errorf("%q is taken for the key", record)
		}
	})
}

// FuzzHeader gives strangers' headers to what looks into them.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{"From: a@b.example\r\n\r\n", "From: \"a\" (b (c)) <d@e.example>, f: g@h.example;\r\n", "DKIM-Signature: v=1; a=; b=; bh=; d=a; s=b; h=from; l=0; x=1\r\n",
		"Authentication-Results: (x) \"mx.example.org\"/1; dkim=pass\r\n", "From: =?utf-8?q?=41?= <a@b\xc3\xbc.example>\r\nFrom: x\r\n", "DKIM-Signature:\r\nno field\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
		got := sendText(t, Options{Resolver: good(), Enforce: true}, letter{peer: "203.0.113.7", helo: "x", from: "a@example.com"}, header.Parse(text), open, nil)
		if got.ref != nil && got.ref.Broke {
			t.Fatal(got.ref.Reason)
		}
		if len(got.DKIM) > maxSignatures || got.From.Result == Pass || got.DMARC.Result == Pass {
			t.Errorf("%+v", got.Results)
		}
		if got.From.Domain != domainOf(got.From.Domain) {
			t.Errorf("the author is %q", got.From.Domain)
		}
		for line := range strings.Lines(got.field()) {
			if body, ok := strings.CutSuffix(line, "\r\n"); !ok || strings.ContainsAny(body, "\r\n") || len(line) > 998 {
				t.Errorf("a line %q", line)
			}
		}
		if got.ref == nil && formatField("x", netip.Addr{}, got.Results) == "" {
			t.Error("no field")
		}
	})
}
