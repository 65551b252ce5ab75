package mailparse

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// Whatever comes, the limits hold, all text is UTF-8, each part opens and has the
// size that was told, and pieces and seeking make no difference.
func FuzzRead(f *testing.F) {
	for _, file := range letters(f) {
		f.Add(letter(f, file))
	}
	f.Add([]byte(siblings(3)))
	f.Add([]byte(nested(MaxDepth + 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := parse(t, text)
		if len(m.Parts) == 0 || len(m.Parts) > MaxParts+1 || len(m.Text) > MaxText || len(m.HTML) > MaxText || len(m.Problems) > MaxProblems || m.Kind == "" {
			t.Fatalf("%d parts, %d octets of text, %d of HTML, %d problems, kind %q", len(m.Parts), len(m.Text), len(m.HTML), len(m.Problems), m.Kind)
		}
		field := []string{m.Subject, m.MessageID}
		for _, a := range append(append(m.From, m.To...), m.Cc...) {
			field = append(field, a.Name, a.Address)
		}
		for _, p := range m.Parts {
			field = append(field, p.Name, p.ContentID, p.Type)
			if n := len(content(t, p)); int64(n) != p.Size {
				t.Fatalf("part %s has %d octets, not %d", p.Section, n, p.Size)
			}
			if strings.ContainsAny(p.Name, `/\`) {
				t.Fatalf("name %q", p.Name)
			}
		}
		for _, s := range field {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\r\n\x00") {
				t.Fatalf("a field is %q", s)
			}
		}
		for _, s := range []string{m.Text, m.HTML, m.Reply(), m.Signature(), m.ReplyHTML()} {
			if !utf8.ValidString(s) || strings.Contains(s, "\r") {
				t.Fatalf("text is %q", s)
			}
		}
		if len(m.Reply()) > MaxText {
			t.Fatal("the reply is too long")
		}
		other, err := ReadFrom(func() (io.ReadCloser, error) { return io.NopCloser(iotest.HalfReader(bytes.NewReader(text))), nil })
		if err != nil {
			t.Fatal(err)
		}
		if a, b := dump(t, m), dump(t, other); a != b {
			t.Fatalf("in pieces it is\n%s\nnot\n%s", b, a)
		}
	})
}

// The readers of fields alone, which see more of their own grammar so.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"=?utf-8?Q?a?= =?utf-8?B?w6k=?=", `"a, b" <a@b>, (c) d@e;`, `a/b; c*0*=utf-8''%41; c*1="d"`, "<a@b> <c@d>", "Tue, 6 Jan 2026 10:20:30 +0000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		texts := []string{Decode(s)}
		for _, a := range Addresses(s) {
			texts = append(texts, a.Name, a.Address)
		}
		kind, ps := parseParams(s)
		for name := range ps {
			texts = append(texts, ps.text(name))
		}
		texts = append(texts, messageIDs(s)...)
		base, plus := SplitPlus(s)
		if len(base)+len(plus) > len(s) || len(kind) > len(s) {
			t.Fatalf("%q, %q of %q", base, plus, s)
		}
		if d, ok := parseDate(s); !ok && !d.IsZero() {
			t.Fatalf("date %v", d)
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
				t.Fatalf("%q of %q", text, s)
			}
		}
	})
}
