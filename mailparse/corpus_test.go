package mailparse

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// letter is a file of testdata as it comes over the wire.
func letter(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

func letters(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

func parse(t testing.TB, text []byte) *Mail {
	t.Helper()
	m, err := ReadAt(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func parseString(t testing.TB, text string) *Mail {
	t.Helper()
	return parse(t, []byte(text))
}

func content(t testing.TB, p *Part) string {
	t.Helper()
	r, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dump is all that a Mail says, for people.
func dump(t testing.TB, m *Mail) string {
	t.Helper()
	var b strings.Builder
	line := func(name string, v any) {
		if s := fmt.Sprintf("%v", v); s != "" && s != "[]" {
			fmt.Fprintf(&b, "%s: %s\n", name, s)
		}
	}
	line("subject", m.Subject)
	for _, f := range []struct {
		name string
		list []mail.Address
	}{{"from", m.From}, {"reply-to", m.ReplyTo}, {"to", m.To}, {"cc", m.Cc}} {
		for _, a := range f.list {
			line(f.name, fmt.Sprintf("%q %s", a.Name, a.Address))
		}
	}
	if !m.Date.IsZero() {
		line("date", m.Date.Format(time.RFC3339))
	}
	line("message-id", m.MessageID)
	line("in-reply-to", m.InReplyTo)
	line("references", m.References)
	line("kind", m.Kind)
	if m.Bounce != nil {
		line("bounce", fmt.Sprintf("of %q, by %q, envelope %q", m.Bounce.MessageID, m.Bounce.ReportingMTA, m.Bounce.EnvelopeID))
		for _, r := range m.Bounce.Recipients {
			line("bounced", fmt.Sprintf("%+v", r))
		}
	}
	if m.List != nil {
		line("list", fmt.Sprintf("%+v", *m.List))
	}
	for _, p := range m.Parts {
		line("part "+p.Section, fmt.Sprintf("%s charset=%q name=%q cid=%q %s %s %d octets", p.Type, p.Charset, p.Name, p.ContentID, p.Disposition, p.Encoding, p.Size))
	}
	for _, p := range m.Attachments {
		line("attachment", fmt.Sprintf("%s %.80q", p.Section, content(t, p)))
	}
	for _, p := range m.Problems {
		line("problem", p)
	}
	block := func(name, s string) {
		if s != "" {
			fmt.Fprintf(&b, "--- %s\n%s\n", name, strings.TrimSuffix(s, "\n"))
		}
	}
	if m.TextFromHTML {
		block("text, from the HTML", m.Text)
	} else {
		block("text", m.Text)
	}
	block("reply", m.Reply())
	block("signature", m.Signature())
	block("html", m.HTML)
	if m.ReplyHTML() != m.HTML {
		block("reply as html", m.ReplyHTML())
	}
	return b.String()
}

func TestEachLetterOfTheCorpusIsReadAsItsGoldenFileSays(t *testing.T) {
	t.Parallel()
	for _, file := range letters(t) {
		got := dump(t, parse(t, letter(t, file)))
		golden := strings.TrimSuffix(file, ".eml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (look at it, then go test -update): got\n%s\nwant\n%s", golden, got, want)
		}
	}
}

func TestBareLineFeedsAreLineEnds(t *testing.T) {
	t.Parallel()
	for _, file := range letters(t) {
		crlf := letter(t, file)
		a, b := parse(t, crlf), parse(t, bytes.ReplaceAll(crlf, []byte("\r\n"), []byte("\n")))
		if a.Subject != b.Subject || a.Text != b.Text || a.HTML != b.HTML || a.Kind != b.Kind || len(a.Parts) != len(b.Parts) || len(a.Problems) != len(b.Problems) {
			t.Errorf("%s: with LF\n%s\nwith CRLF\n%s", file, dump(t, b), dump(t, a))
		}
	}
}
