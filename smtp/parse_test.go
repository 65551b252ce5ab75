package smtp

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
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

// verbNames is the verbs of the grammar as the engine knows them.
var verbNames = map[string]verb{"EHLO": verbEHLO, "HELO": verbHELO, "LHLO": verbLHLO, "MAIL": verbMAIL, "RCPT": verbRCPT, "DATA": verbDATA, "BDAT": verbBDAT,
	"RSET": verbRSET, "NOOP": verbNOOP, "QUIT": verbQUIT, "STARTTLS": verbSTARTTLS, "VRFY": verbVRFY, "HELP": verbHELP, "XCLIENT": verbXCLIENT,
	"": verbUnknown}

// FuzzCommand holds what takes a command apart against the grammar.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{"EHLO x", "MAIL FROM:<a@x.example> SIZE=1", "BDAT 5 LAST", "AUTH \x0b", "MAIL F", "\xff\xfe", "STARTTLS", "",
		"BDAT 9223372036854775808 LAST", "BDAT 0\tLAST", "bdat 5 \t last", "BDAT 5 LAſT", "PRI * HTTP/2.0", "helo\t a_b ", "EHLO [IPv6:::1]", "0000000000000000 "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := string(line)
		v, args := parseCommand(line)
		name, wantArgs := words(before)
		want, known := verbNames[name]
		switch {
		case httpVerbs[name]:
			want = verbHTTP
		case !known:
			want = verbRefused
		}
		if v != want || string(args) != wantArgs {
			t.Errorf("verb %d %q, want %d %q", v, args, want, wantArgs)
		}
		if host, ok := parseHello(args); ok != helloName.MatchString(wantArgs) || ok && host != wantArgs {
			t.Errorf("hello %q, %t", host, ok)
		}
		// The arguments of a command have no white space around them; those of
		// what is no command are the whole line.
		chunk := bytes.Trim(args, " \t")
		size, last, ok := parseChunk(chunk)
		if wantSize, wantLast, want := readChunkSize(string(chunk)); ok != want || ok && (size != wantSize || last != wantLast) {
			t.Errorf("%q: a chunk of %d, last %t, %t; want %d, %t, %t", chunk, size, last, ok, wantSize, wantLast, want)
		}
		if hasControl(line) != controls.MatchString(before) {
			t.Errorf("control characters: %t", hasControl(line))
		}
		if string(line) != before {
			t.Error("the line was changed")
		}
	})
}

// FuzzPath holds what reads a path against the grammar.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"<>", "<a@b>", "<@x,@y:a@b> SIZE=1", `<"a b\""@c>`, "<a@[IPv6:::1]>", "<postmaster>", "<a@b>x", "<j\xc3\xb6rg@x>", "<@a>", "<a@b@c>", "<", `<"`, `<"\`,
		"<@a:>", "<@a:@b>", "<a@" + strings.Repeat("b", 64) + ">", "<a@" + strings.Repeat("b", 64) + "\xc3\xb6>", "<" + strings.Repeat("a", 252) + "@b>",
		"<" + strings.Repeat("a", 253) + "@b>", `<"[x]"@` + strings.Repeat("b", 64), "<@[1.2.3.4],@b:c@d>"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		p, nonASCII, rest, err := parsePath(args)
		want, wantRest, ok, tooLong := readPath(string(args))
		if tooLong != (err == errLongPath) || ok != (err == nil) || p != want || string(rest) != wantRest {
			t.Fatalf("%q: %q, rest %q, %v; want %q, rest %q, %t, too long %t", args, p, rest, err, want, wantRest, ok, tooLong)
		}
		if err != nil {
			return
		}
		s := p.String()
		if len(s) > mostPath || hasControl([]byte(s)) || strings.Contains(s, "\t") {
			t.Errorf("%q: path %q", args, s)
		}
		if nonASCII != overASCII(s) {
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

// FuzzParams holds what reads the arguments of MAIL and RCPT against the grammar.
func FuzzParams(f *testing.F) {
	for _, seed := range []string{" SIZE=1 BODY=8BITMIME SMTPUTF8", " NOTIFY=NEVER ORCPT=rfc822;a+2Bb", " RET=FULL ENVID=QQ+41", " AUTH=<>", " X", " =", "  SIZE=99999999999999999999",
		" NOTIFY=ſUCCESS", " RET=HDRſ", " ORCPT=utf-8;\xc2\x85", " ORCPT=rfc822;+C2+85", " SIZE=1 size=2", " X=1 X=2", " NOTIFY=SUCCESS,NEVER", " ENVID=" + strings.Repeat("+41", 101),
		" SMTPUTF8=", " ORCPT=" + strings.Repeat("x", 600) + ";a", " BODY=binarymime"} {
		f.Add([]byte(seed), "<a@b>", true, false)
	}
	f.Add([]byte(" SMTPUTF8"), "<poſtmaster>", true, false)
	f.Add([]byte(""), "<Postmaster>", false, false)
	f.Add([]byte(" X"), "a@b", false, true)
	f.Add([]byte("c"), "a@b>", false, true)
	f.Fuzz(func(t *testing.T, rest []byte, path string, smtputf8, lenient bool) {
		c := &Conn{cfg: &Config{Lenient: func(netip.AddrPort) bool { return lenient }}, utf8: smtputf8}
		args := "FROM:" + path + string(rest)
		from, mail, wrong := c.parseMail([]byte(args))
		wantFrom, wantMail, wantWrong := readMAIL(args, lenient)
		if wrong != wantWrong || wrong == nil && (from != wantFrom || mail != wantMail) {
			t.Errorf("%q: %q %+v %v, want %q %+v %v", args, from, mail, wrong, wantFrom, wantMail, wantWrong)
		}
		args = "TO: " + path + string(rest)
		to, rcpt, wrong := c.parseRcpt([]byte(args))
		wantTo, wantRcpt, wantWrong := readRCPT(args, smtputf8, lenient)
		if wrong != wantWrong || wrong == nil && (to != wantTo || rcpt != wantRcpt) {
			t.Errorf("%q: %q %+v %v, want %q %+v %v", args, to, rcpt, wrong, wantTo, wantRcpt, wantWrong)
		}
	})
}

// FuzzLine takes lines off the buffer however they come in: they are what stands
// between line feeds, the long ones are left out, and the buffer stays small.
func FuzzLine(f *testing.F) {
	f.Add([]byte("NOOP\r\nNOOP\n\r\n\n\r\r\n"), []byte{2}, uint16(10))
	f.Add([]byte("\xff\r\nQUIT\r\n"), []byte{255, 0}, uint16(4096))
	f.Add([]byte("\xff\xff\xff\xff\xff"), []byte{200}, uint16(20000))
	f.Fuzz(func(t *testing.T, short, sizes []byte, most uint16) {
		if len(short) > 1000 || most == 0 {
			return
		}
		wire := bytes.ReplaceAll(short, []byte("\xff"), bytes.Repeat([]byte("a"), 4000))
		var want []string
		for line := range strings.Lines(string(wire)) {
			switch text, whole := strings.CutSuffix(line, "\n"); {
			case !whole:
			case len(line) > int(most):
				want = append(want, "too long")
			default:
				want = append(want, "line "+strings.TrimSuffix(text, "\r"))
			}
		}
		var in input
		in.init()
		var got []string
		for _, piece := range piecesOf(wire, sizes) {
			for len(piece) > 0 {
				n := copy(in.room(), piece)
				piece = piece[n:]
				in.added(n)
				for line, whole := in.line(int(most)); whole; line, whole = in.line(int(most)) {
					if line == nil {
						got = append(got, "too long")
					} else {
						got = append(got, "line "+string(line))
					}
				}
				if len(in.buf) > max(bigBuffer, 2*int(most)) {
					t.Fatalf("a buffer of %d octets", len(in.buf))
				}
				if in.burst {
					in.enlarge()
				} else {
					in.shrink()
				}
			}
		}
		in.release()
		if in.big != nil || !slices.Equal(got, want) {
			t.Fatalf("%q, limit %d: %q, want %q", short, most, got, want)
		}
	})
}
