package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/smtp"
)

func writeList(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func openList(t testing.TB, text string, o *AccessListOptions) (*AccessList, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access")
	writeList(t, path, text)
	l, err := OpenAccessList(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, path
}

// refusedAt is the first stage at which a list refuses a message; 0 for none.
func refusedAt(t testing.TB, l *AccessList, peer, hello, sender, rcpt string) Stage {
	t.Helper()
	tx := from(t, peer)
	tx.Reset()
	for stage := StageConnect; stage <= StageMessage; stage++ {
		switch stage {
		case StageHello:
			tx.Hello = hello
		case StageMail:
			tx.Begin(smtp.ParsePath(sender), smtp.MailParams{})
		case StageRcpt:
			tx.To = []Recipient{{Path: smtp.ParsePath(rcpt)}}
		}
		got := ask(t, l, stage, tx)
		if got == "" {
			continue
		}
		want := "550 5.7.1 Access denied"
		if stage == StageConnect {
			want = "554 5.7.1 Access denied"
		}
		if got != want {
			t.Errorf("at %v: %q", stage, got)
		}
		return stage
	}
	return 0
}

func TestAccessListRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules                     string
		peer, hello, sender, rcpt string
		want                      Stage
	}{
		{"", "192.0.2.1", "h.example", "a@x.example", "b@y.example", 0},
		{"deny network 192.0.2.0/24", "192.0.2.1", "", "", "", StageConnect},
		{"deny network 192.0.2.0/24", "::ffff:192.0.2.1", "", "", "", StageConnect},
		{"deny network 192.0.2.0/24", "192.0.3.1", "h", "a@x", "b@y", 0},
		{"deny network 192.0.2.1", "192.0.2.1", "", "", "", StageConnect},
		{"deny network 192.0.2.1", "192.0.2.2", "h", "a@x", "b@y", 0},
		{"deny network 2001:db8::/32", "2001:db8::7", "", "", "", StageConnect},
		{"deny network 2001:db8::/32", "192.0.2.1", "h", "a@x", "b@y", 0},
		{"deny network 0.0.0.0/0", "2001:db8::7", "h", "a@x", "b@y", 0},
		{"deny network *", "", "", "", "", StageConnect},
		{"deny network 0.0.0.0/0\ndeny network ::/0", "", "h", "a@x", "b@y", 0},

		{"deny hello bad.example", "192.0.2.1", "BAD.example", "", "", StageHello},
		{"deny hello bad.example", "192.0.2.1", "a.bad.example", "a@x", "b@y", 0},
		{"deny hello *.bad.example", "192.0.2.1", "a.b.bad.example", "", "", StageHello},
		{"deny hello *.bad.example", "192.0.2.1", "bad.example", "a@x", "b@y", 0},
		{"deny hello *.bad.example", "192.0.2.1", "verybad.example", "a@x", "b@y", 0},
		{"deny hello [127.0.0.1]", "192.0.2.1", "[127.0.0.1]", "", "", StageHello},
		{"deny hello [IPv6:::1]", "192.0.2.1", "[ipv6:0:0::1]", "", "", StageHello},
		{"deny hello localhost", "192.0.2.1", "localhost", "", "", StageHello},
		{"deny hello *", "192.0.2.1", "x", "", "", StageHello},
		{"deny hello bücher.example", "192.0.2.1", "xn--bcher-kva.example", "", "", StageHello},

		{"deny hello *.bücher.example", "192.0.2.1", "a.XN--BCHER-KVA.example", "", "", StageHello},

		{"deny sender @bücher.example", "192.0.2.1", "h", "a@xn--bcher-kva.example", "", StageMail},
		{"deny sender @xn--bcher-kva.example", "192.0.2.1", "h", "a@bu\u0308cher.example", "", StageMail},
		{"deny sender @*.xn--bcher-kva.example", "192.0.2.1", "h", "a@b.BÜCHER.example", "", StageMail},
		{"deny sender grüße@bücher.example", "192.0.2.1", "h", "GRU\u0308ße@xn--bcher-kva.example", "", StageMail},
		{"deny recipient gru\u0308ße@bücher.example", "192.0.2.1", "h", "a@x", `"grüße"@bücher.example`, StageRcpt},
		{"deny sender @bücher.example", "192.0.2.1", "h", "a@bucher.example", "b@y", 0},
		{"deny sender @bücher.example", "192.0.2.1", "h", "a@xn--a.example", "b@y", 0}, // encodes nothing
		{"deny sender *", "192.0.2.1", "h", "a@xn--a.example", "", StageMail},
		{"deny sender a@x.example", "192.0.2.1", "h", "A@X.EXAMPLE", "", StageMail},
		{"deny sender a@x.example", "192.0.2.1", "h", `"a"@x.example`, "", StageMail},
		{"deny sender a@x.example", "192.0.2.1", "h", `"\a"@x.example`, "", StageMail},
		{"deny sender \"a\"@x.example", "192.0.2.1", "h", `a@x.example`, "", StageMail},
		{"deny sender \"a b\"@x.example", "192.0.2.1", "h", `"a b"@x.example`, "", StageMail},
		{"deny sender a#b@x.example # why", "192.0.2.1", "h", `a#b@x.example`, "", StageMail},
		{"deny sender a@x.example", "192.0.2.1", "h", "b@x.example", "b@y", 0},
		{"deny sender @x.example", "192.0.2.1", "h", "b@x.example", "", StageMail},
		{"deny sender @x.example", "192.0.2.1", "h", "b@a.x.example", "b@y", 0},
		{"deny sender @*.x.example", "192.0.2.1", "h", "b@a.x.example", "", StageMail},
		{"deny sender @*.x.example", "192.0.2.1", "h", "b@x.example", "b@y", 0},
		{"deny sender <>", "192.0.2.1", "h", "", "", StageMail},
		{"deny sender <>", "192.0.2.1", "h", "a@x", "b@y", 0},
		{"deny sender *", "192.0.2.1", "h", "", "", StageMail},

		{"deny recipient b@y.example", "192.0.2.1", "h", "a@x", "B@y.example", StageRcpt},
		{"deny recipient @y.example", "192.0.2.1", "h", "a@x", "B@y.example", StageRcpt},
		{"deny recipient <postmaster>", "192.0.2.1", "h", "a@x", "Postmaster", StageRcpt},
		{"deny recipient b@y.example", "192.0.2.1", "h", "b@y.example", "c@y.example", 0},

		// The first rule from the top decides, over all kinds.
		{"allow network 192.0.2.7\ndeny network 192.0.2.0/24", "192.0.2.7", "h", "a@x", "b@y", 0},
		{"deny network 192.0.2.0/24\nallow network 192.0.2.7", "192.0.2.7", "", "", "", StageConnect},
		{"allow network 192.0.2.7\ndeny sender @x.example", "192.0.2.7", "h", "a@x.example", "b@y", 0},
		{"deny sender @x.example\nallow network 192.0.2.7", "192.0.2.7", "h", "a@x.example", "", StageMail},
		{"allow sender f@x.example\ndeny sender @x.example", "192.0.2.7", "h", "f@x.example", "b@y", 0},
		{"allow sender f@x.example\ndeny sender @x.example", "192.0.2.7", "h", "g@x.example", "", StageMail},
		// Not before what stands above it is known.
		{"allow sender f@x.example\ndeny network 192.0.2.0/24", "192.0.2.7", "h", "f@x.example", "b@y", 0},
		{"allow sender f@x.example\ndeny network 192.0.2.0/24", "192.0.2.7", "h", "g@x.example", "", StageMail},
		{"allow recipient <postmaster>\ndeny network 192.0.2.0/24", "192.0.2.7", "h", "a@x", "postmaster", 0},
		{"allow recipient <postmaster>\ndeny network 192.0.2.0/24", "192.0.2.7", "h", "a@x", "b@y", StageRcpt},
		{"deny network 192.0.2.0/24\nallow recipient <postmaster>", "192.0.2.7", "", "", "", StageConnect},
		{"deny sender @z.example\ndeny network 192.0.2.0/24", "192.0.2.7", "", "", "", StageConnect},
		{"deny sender @x.example\nallow sender @x.example", "192.0.2.7", "h", "a@x.example", "", StageMail},
		// Case, tabs, comments, a byte order mark, CRLF.
		{"\ufeff# list\r\n\r\n\tDENY\tSender   @X.example  # spam\r\n", "192.0.2.7", "h", "a@x.example", "", StageMail},
	} {
		t.Run(strings.ReplaceAll(c.rules, "\n", "; "), func(t *testing.T) {
			t.Parallel()
			l, _ := openList(t, c.rules, nil)
			if got := refusedAt(t, l, c.peer, c.hello, c.sender, c.rcpt); got != c.want {
				t.Errorf("%s %s <%s> <%s>: refused at %d, want %d", c.peer, c.hello, c.sender, c.rcpt, got, c.want)
			}
		})
	}
}

func TestAccessListReasonNamesTheRule(t *testing.T) {
	t.Parallel()
	l, path := openList(t, "# first\ndeny   sender\t@x.example # spam\n", nil)
	r := refusal(t, NewChain([]Policy{l}, nil).Check(t.Context(), StageMail, inMail(t)))
	if want := path + ":2: deny sender @x.example: 550 5.7.1 Access denied"; r.Reason != want || r.Policy != "access_list" {
		t.Errorf("%s: %q, want %q", r.Policy, r.Reason, want)
	}
}

func TestAccessListErrorsNameLineAndMend(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"permit sender @x":                `:1: "permit" is neither allow nor deny: write such as`,
		"\n\ndeny":                        ":3: too few words: write allow or deny, then",
		"deny sender":                     ":1: too few words",
		"deny sender # none":              ":1: too few words",
		"deny client 192.0.2.1":           `:1: "client" is none of network, hello, sender, recipient`,
		"deny network 192.0.2.1/24":       ":1: 192.0.2.1/24 has bits set past its length: write 192.0.2.0/24 for the network, 192.0.2.1 for the one address",
		"deny network 192.0.2":            `:1: "192.0.2" is no network: write such as 192.0.2.0/24`,
		"deny network 192.0.2.0/33":       `:1: "192.0.2.0/33" is no network`,
		"deny network ::ffff:1.2.3.0/120": ":1: ::ffff:1.2.3.0/120 is an IPv4 network written as IPv6: write it as IPv4",
		"deny network fe80::1%eth0":       `:1: "fe80::1%eth0" is no network`,
		"deny hello a b":                  `:1: "a b" is no domain: write example.org, or *.example.org`,
		"deny hello a.*.b":                `:1: "a.*.b" is no domain`,
		"deny sender bob":                 `:1: "bob" is no address: write user@example.org, @example.org for the whole domain`,
		"deny sender <bob@x.example>":     `:1: "<bob@x.example>" is no address`,
		"deny sender <postmaster>":        `:1: "<postmaster>" is no address`,
		"deny recipient <>":               `:1: "<>" is no address`,
		"deny sender @*":                  ":1: @*: write * for any",
		"deny sender a@*.x.example":       `:1: "*.x.example": a pattern with a local part wants a whole domain`,
		"deny sender a@x b@y":             `:1: "a@x b@y" has more than one word: write one rule a line`,
		"allow sender *\ndeny \xff":       ":2: not UTF-8",
	} {
		path := filepath.Join(t.TempDir(), "access")
		writeList(t, path, text)
		_, err := OpenAccessList(path, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "access list: "+path+want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, path+want)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), os.DevNull} {
		if _, err := OpenAccessList(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// told keeps what OnReload is told.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (r *told) options() *AccessListOptions {
	return &AccessListOptions{OnReload: func(n int, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		line := fmt.Sprint(n)
		if err != nil {
			line += " " + err.Error()
		}
		r.lines = append(r.lines, line)
	}}
}

func (r *told) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.lines = nil }()
	return strings.Join(r.lines, "|")
}

// due makes the list look at its file at the next Check, as time would.
func (l *AccessList) due() { l.file.Due() }

func TestAccessListIsReadAgainWhenItsFileChanges(t *testing.T) {
	t.Parallel()
	var said told
	l, path := openList(t, "deny sender @x.example\n", said.options())
	is := func(what string, sender string, want Stage, report string) {
		t.Helper()
		l.due()
		if got := refusedAt(t, l, "192.0.2.1", "h", sender, "b@y"); got != want {
			t.Errorf("%s: <%s> refused at %d, want %d", what, sender, got, want)
		}
		if got := strings.ReplaceAll(said.take(), path, "F"); got != report {
			t.Errorf("%s: told %q, want %q", what, got, report)
		}
	}
	is("unchanged", "a@x.example", StageMail, "")
	writeList(t, path, "deny sender @z.example\n") // same size
	is("changed", "a@x.example", 0, "1")
	is("changed", "a@z.example", StageMail, "")
	writeList(t, path, "deny sender @z.example\ndeny\n")
	is("with an error", "a@z.example", StageMail, "1 access list: F:2: too few words: write allow or deny, then network, hello, sender or recipient, then a pattern")
	is("with the same error", "a@z.example", StageMail, "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	is("gone", "a@z.example", StageMail, "1 access list: stat F: no such file or directory")
	is("still gone", "a@z.example", StageMail, "")
	writeList(t, path, "")
	is("back and empty", "a@z.example", 0, "0")
	writeList(t, path, "deny sender *")
	if err := l.Reload(); err != nil || l.Len() != 1 {
		t.Errorf("reload: %v, %d rules", err, l.Len())
	}
	is("reloaded", "a@z.example", StageMail, "")
	writeList(t, path, "?")
	if err := l.Reload(); err == nil {
		t.Error("reload of a bad file: no error")
	}
	is("a bad file reloaded", "a@z.example", StageMail, "")
}

func TestAccessListMayBeAskedWhileItIsRead(t *testing.T) {
	t.Parallel()
	l, path := openList(t, "deny sender @x.example", nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				l.due()
				if got := refusedAt(t, l, "192.0.2.1", "h", "a@x.example", "b@y"); got != StageMail {
					t.Errorf("refused at %v", got)
				}
			}
		})
	}
	for i := range 50 {
		writeList(t, path, fmt.Sprintf("deny sender @x.example\ndeny sender @%d.example", i))
	}
	wg.Wait()
}

func FuzzParseRules(f *testing.F) {
	f.Add("deny network 192.0.2.0/24\nallow sender a@x.example # c\ndeny hello *.bad\ndeny recipient <postmaster>", "a@x.example", "h")
	f.Fuzz(func(t *testing.T, text, address, hello string) {
		rs, err := parseRules("F", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "F:") {
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		tx := &Transaction{Hello: hello}
		tx.Begin(smtp.ParsePath(address), smtp.MailParams{})
		tx.To = []Recipient{{Path: smtp.ParsePath(address)}}
		for stage := StageConnect; stage <= StageRcpt; stage++ {
			if r := rs.deny(stage, tx); r != nil && (r.allow || r.line < 1) {
				t.Errorf("denied by %+v", r)
			}
		}
	})
}

// The manual's list is one that can be read.
func TestTheManualsAccessListIsOne(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### The access list\n")
	section, _, _ = strings.Cut(section, "\n### ")
	var list strings.Builder
	for line := range strings.Lines(section) {
		if rule, indented := strings.CutPrefix(line, "    "); indented {
			list.WriteString(rule)
		}
	}
	rs, err := parseRules("docs/policies.md", []byte(list.String()))
	if err != nil {
		t.Fatal(err)
	}
	if rs.n < 9 {
		t.Errorf("%d rules", rs.n)
	}
}
