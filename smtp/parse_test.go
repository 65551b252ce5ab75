package smtp

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line string
		v    verb
		args string
	}{
		{"EHLO x", verbEHLO, "x"},
		{"ehlo\tx \t", verbEHLO, "x"},
		{"QUIT", verbQUIT, ""},
		{"quit  ", verbQUIT, ""},
		{"QUITE", verbUnknown, "QUITE"},
		{" QUIT", verbUnknown, " QUIT"},
		{"", verbUnknown, ""},
		{"MAIL\x00", verbUnknown, "MAIL\x00"},
		{"STARTTLSX", verbUnknown, "STARTTLSX"},
		{"get / HTTP/1.1", verbHTTP, "/ HTTP/1.1"},
		{"auth", verbRefused, ""},
	} {
		if v, args := parseCommand([]byte(c.line)); v != c.v || string(args) != c.args {
			t.Errorf("%q: %d %q, want %d %q", c.line, v, args, c.v, c.args)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"0": 0, "007": 7, "9223372036854775807": math.MaxInt64, "9223372036854775808": -1, "99999999999999999999999": -1} {
		if got, ok := parseSize([]byte(in)); !ok || got != want {
			t.Errorf("%q: %d, %t", in, got, ok)
		}
	}
	for _, bad := range []string{"", "-1", "+1", " 1", "1 ", "1x", strings.Repeat("1", 101)} {
		if got, ok := parseSize([]byte(bad)); ok {
			t.Errorf("%q: %d", bad, got)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, seed := range []string{"EHLO x", "MAIL FROM:<a@x.example> SIZE=1", "BDAT 5 LAST", "AUTH \x0b", "MAIL F", "\xff\xfe", "STARTTLS", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		v, args := parseCommand(line)
		if v > verbHTTP {
			t.Errorf("verb %d", v)
		}
		if !bytes.Contains(line, args) {
			t.Errorf("%q is no part of %q", args, line)
		}
		if name, ok := parseHello(args); ok && (name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("hello %q", name)
		}
		if size, _, ok := parseChunk(args); ok && size < 0 {
			t.Errorf("%q: a chunk of %d", args, size)
		}
		if !bytes.Equal(line, before) {
			t.Error("the line was changed")
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{"<>", "<a@b>", "<@x,@y:a@b> SIZE=1", `<"a b\""@c>`, "<a@[IPv6:::1]>", "<postmaster>", "<a@b>x", "<j\xc3\xb6rg@x>", "<@a>", "<a@b@c>", "<", `<"`, `<"\`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		p, nonASCII, rest, err := parsePath(args)
		if err != nil {
			if p != (Path{}) {
				t.Errorf("%q: an error and %q", args, p)
			}
			return
		}
		s := p.String()
		if len(s) > mostPath || hasControl([]byte(s)) || strings.Contains(s, "\t") || !bytes.Contains(args, []byte(s)) || !bytes.HasSuffix(args, rest) {
			t.Errorf("%q: path %q, rest %q", args, s, rest)
		}
		if nonASCII == isASCII(s) {
			t.Errorf("%q: nonASCII %t", args, nonASCII)
		}
		// What was accepted is accepted again, and is the same.
		again, _, rest, err := parsePath([]byte("<" + s + ">"))
		if again != p || len(rest) > 0 || err != nil {
			t.Errorf("%q: %q, then %q, %q, %v", args, p, again, rest, err)
		}
		if p.Domain != "" && ParsePath(s) != p {
			t.Errorf("%q: the last @ is not the one between the parts", s)
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, seed := range []string{" SIZE=1 BODY=8BITMIME SMTPUTF8", " NOTIFY=NEVER ORCPT=rfc822;a+2Bb", " RET=FULL ENVID=QQ+41", " AUTH=<>", " X", " =", "  SIZE=99999999999999999999"} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, rest []byte, smtputf8 bool) {
		if p, err := parseMailParams(rest); err == nil {
			if p.Size < 0 || hasControl([]byte(p.EnvID+p.Auth)) || !isASCII(p.EnvID+p.Auth) || len(p.EnvID) > mostEnvID {
				t.Errorf("%q: %+v", rest, p)
			}
		}
		if p, err := parseRcptParams(rest, smtputf8); err == nil {
			if hasControl([]byte(p.ORcpt)) || !utf8.ValidString(p.ORcpt) || !smtputf8 && !isASCII(p.ORcpt) || strings.ToUpper(p.Notify) != p.Notify {
				t.Errorf("%q: %+v", rest, p)
			}
		}
	})
}
