package smtp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/internal/transcript"
)

const (
	evil     = "MAIL FROM:<m@evil.example>\r\n"
	envelope = "EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n"
)

// stuff is what a client makes of a text, as far as line ends allow: a dot
// before each dot behind a real CRLF, and the end.
func stuff(text string) string {
	if strings.HasPrefix(text, ".") {
		text = "." + text
	}
	text = strings.ReplaceAll(text, "\r\n.", "\r\n..")
	if text != "" && !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	return text + ".\r\n"
}

// randomText is made of what is dangerous.
func randomText(r *rand.Rand) string {
	bits := []string{"\r", "\n", "\r\n", ".", "\r\n.\n", "\n.\r\n", "\r.\r", "\x00", "a", "bc", evil, "DATA\r\n", "QUIT\r\n", "BDAT 1\r\n", "\r\n"}
	var b strings.Builder
	for range r.IntN(40) {
		b.WriteString(bits[r.IntN(len(bits))])
	}
	return b.String()
}

// TestNeverReParse: whatever becomes of a message, not one octet of its text is
// read as a command, and the dialogue goes on behind it or ends.
func TestNeverReParse(t *testing.T) {
	t.Parallel()
	ways := map[string]struct {
		cfg   Config
		rules map[string]string
	}{
		"accepted":           {},
		"refused at the end": {rules: map[string]string{"end": "554 5.7.1 Spam"}},
		"broken at the end":  {rules: map[string]string{"end": "error x"}},
		"panic at the end":   {rules: map[string]string{"end": "panic x"}},
		"refused in Write":   {rules: map[string]string{"write": "554 5.6.0 Header"}},
		"broken in Write":    {rules: map[string]string{"write": "error x"}},
		"panic in Write":     {rules: map[string]string{"write": "panic x"}},
		"too big":            {cfg: Config{Limits: Limits{MessageSize: 60}}},
		"far too big":        {cfg: Config{Limits: Limits{MessageSize: 3}}},
	}
	seed := rand.Uint64()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				text := randomText(r)
				behind := "NOOP\r\nMAIL FROM:<behind@x.example>\r\nQUIT\r\n"
				byData := envelope + "DATA\r\n" + stuff(text) + behind
				byChunk := envelope + fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text) + behind
				half := len(text) / 2
				byChunks := envelope + fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", half, text[:half], len(text)-half, text[half:]) + behind
				for _, sent := range []string{byData, byChunk, byChunks} {
					checkNeverReParsed(t, &way.cfg, way.rules, sent, seed)
				}
			}
		})
	}
}

func checkNeverReParsed(t *testing.T, cfg *Config, rules map[string]string, sent string, seed uint64) {
	t.Helper()
	cfg.Hostname = "mx.example"
	var first string
	tried := 0
	for name, pieces := range transcript.Cuts([]byte(sent), seed) {
		if tried++; tried > 2 && tried%17 != 0 {
			continue // the transcripts are cut everywhere
		}
		p := play(cfg, rules, pieces)
		saw := strings.Join(p.saw, "\n")
		behind := strings.Count(saw, "mail <behind@x.example>")
		switch {
		case strings.Contains(saw, "mail <m@evil.example>"):
			t.Fatalf("seed %d, %s: text was obeyed: %q\n%s", seed, name, sent, saw)
		case p.end.Reason == closedQuit.String() && behind != 1, p.end.Reason != closedQuit.String() && (behind != 0 || p.end.Reason != closedLimit.String()):
			t.Fatalf("seed %d, %s: ended %q having seen %d commands behind the text: %q\n%s", seed, name, p.end.Reason, behind, sent, p.said)
		case len(p.faults) > 0:
			t.Fatalf("seed %d, %s: %q: %s", seed, name, sent, p.faults)
		case first == "":
			first = p.said + saw
		case first != p.said+saw:
			t.Fatalf("seed %d, %s: %q: another result:\n%s\nthan whole:\n%s", seed, name, sent, p.said+saw, first)
		}
	}
}

// TestHonestReplies: our fault and what passes is 4xx, and the text of an error
// or a panic never reaches the wire.
func TestHonestReplies(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"open", "hello", "mail", "rcpt", "data", "write", "end"} {
		for _, rule := range []string{"error secret /var/spool", "panic secret /var/spool"} {
			for _, text := range []string{"DATA\r\nabcdef\r\n.\r\n", "BDAT 6 LAST\r\nabcdef"} {
				p := play(&Config{Hostname: "mx.example"}, map[string]string{call: rule}, [][]byte{[]byte(envelope + text)})
				if strings.Contains(p.said, "secret") || strings.Contains(p.said, "spool") || strings.Contains(p.said, "goroutine") {
					t.Errorf("%s: %s: the peer read %q", call, rule, p.said)
				}
				honest := strings.Contains(p.said, "\r\n451 4.3.0 ") || call == "open" && strings.HasPrefix(p.said, "421 4.3.0 ")
				if !honest {
					t.Errorf("%s: %s: no 4.3.0 in %q", call, rule, p.said)
				}
			}
		}
	}
}

// A refusal that is wrapped is sent, what it is wrapped in is not.
func TestWrappedRefusalIsSentWithoutItsWrapping(t *testing.T) {
	t.Parallel()
	inner := &Reply{550, EnhancedCode{5, 7, 1}, "No"}
	a := refusal(stageMail, fmt.Errorf("secret: %w", inner))
	if a.reply != inner || a.detail().err == nil {
		t.Errorf("%+v", a)
	}
	if a := refusal(stageMail, inner); a.reply != inner || a.detail().err != nil {
		t.Errorf("%+v", a)
	}
	var none *Reply
	for _, err := range []error{errors.New("x"), none, &Reply{Code: 250}, context.Canceled} {
		if a := refusal(stageMail, err); a.reply != replyInternal {
			t.Errorf("%v: %v", err, a.reply)
		}
	}
}

// TestRepliesAreWellFormed holds the table of replies against the rules that
// all of them obey.
func TestRepliesAreWellFormed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Replies() {
		if seen[r.String()] {
			t.Errorf("twice: %s", r.String())
		}
		seen[r.String()] = true
		switch e := r.Enhanced; {
		case r.Code < 200 || r.Code > 599:
			t.Errorf("code: %s", r.String())
		case e != (EnhancedCode{}) && e[0] != r.Code/100:
			t.Errorf("class: %s", r.String())
		case e == (EnhancedCode{}) && r.Code >= 400:
			t.Errorf("no enhanced code: %s", r.String())
		case strings.HasPrefix(r.Text, "HOST") != (r.Code == 421 || r == *replyBanner || r == *replyBannerLMTP || r == *replyHello || r == *replyBye):
			t.Errorf("HOST: %s", r.String())
		}
		if got := string(appendText(nil, r.Text)); got != r.Text {
			t.Errorf("not as it would be sent: %q", r.Text)
		}
	}
	for _, row := range order {
		for _, r := range row {
			if r != nil && !seen[r.String()] {
				t.Errorf("not in Replies: %s", r)
			}
		}
	}
}

func TestReplyTextIsSanitised(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    Reply
		want string
	}{
		{Reply{550, EnhancedCode{5, 7, 1}, "a\r\nb\x00\x1b[2J\tü"}, "550-5.7.1 a?\r\n550 5.7.1 b??[2J???\r\n"},
		{Reply{550, EnhancedCode{5, 7, 1}, ""}, "550 5.7.1\r\n"},
		{Reply{550, EnhancedCode{}, ""}, "550\r\n"},
		{Reply{250, EnhancedCode{}, "a\nb\nc"}, "250-a\r\n250-b\r\n250 c\r\n"},
		{Reply{250, EnhancedCode{}, "a\n"}, "250-a\r\n250\r\n"},
	} {
		if got := string(appendReply(nil, c.r.Code, c.r.Enhanced, c.r.Text)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.r.Text, got, c.want)
		}
	}
}

// No reply is so long that it does not fit into a buffer, or that a line passes
// the 512 octets of RFC 5321.
func TestLongRepliesAreBrokenAndCut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("x", 3*mostReplyLine), strings.Repeat("x", mostReplyLine), strings.Repeat("x", 1<<20),
		strings.Repeat("\n", 1<<20), strings.Repeat("xy\n", 5000), strings.Repeat(strings.Repeat("z", mostReplyLine)+"\n", 90),
	} {
		for range 3 {
			c := newConn(transcript.NewConn(nil), &Config{Hostname: "mx.example"})
			for range 10 {
				c.put(&Reply{550, EnhancedCode{5, 999, 999}, text})
			}
			if err := c.flush(); err != nil {
				t.Fatal(err)
			}
			if c.out.lent != nil {
				t.Error("an idle connection keeps a buffer")
			}
			said, _ := c.raw.(*transcript.Conn).Said()
			for line := range strings.Lines(string(said)) {
				if len(line) > 512 || !strings.HasSuffix(line, "\r\n") {
					t.Fatalf("a line of %d octets", len(line))
				}
			}
		}
	}
}

// TestDialogueShowsNoText: what is shown for debugging is commands and replies,
// no message and no password.
func TestDialogueShowsNoText(t *testing.T) {
	t.Parallel()
	var shown []string
	cfg := &Config{Hostname: "mx.example", OnDialogue: func(_ *Conn, fromPeer bool, line string) {
		mark := "S: "
		if fromPeer {
			mark = "C: "
		}
		shown = append(shown, mark+line)
	}}
	play(cfg, nil, [][]byte{[]byte("AUTH PLAIN secret\r\nHELO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\nsecret\r\n.\r\nQUIT\r\n")})
	got := strings.Join(shown, "\n")
	want := `S: 220 mx.example ESMTP incoming
C: AUTH
S: 502 5.5.1 Command not implemented
C: HELO x
S: 250 mx.example
C: MAIL FROM:<a@x.example>
S: 250 2.1.0 Ok
C: RCPT TO:<b@y.example>
S: 250 2.1.5 Ok
C: DATA
S: 354 End data with <CR><LF>.<CR><LF>
S: 250 2.0.0 Ok: stored
C: QUIT
S: 221 2.0.0 mx.example Bye`
	if got != want {
		t.Error(diff("shown", got, want))
	}
}

// TestRefusalsAreReported: with stage, reply, reason and envelope.
func TestRefusalsAreReported(t *testing.T) {
	t.Parallel()
	var got []string
	cfg := &Config{Hostname: "mx.example", OnRefused: func(_ *Conn, r Refusal) {
		got = append(got, fmt.Sprintf("%s|%s|%v|%s|%s|%s", r.Stage, r.Reply, r.Err, r.Reason, r.MailFrom, r.Rcpt))
	}}
	run := func(rules map[string]string, sent string) {
		s := &fake{rules: rules}
		err := Serve(t.Context(), transcript.NewConn([][]byte{[]byte(sent)}), cfg, func(_ context.Context, c *Conn) (Session, error) {
			s.conn = c
			return s, s.rule("open", "")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	run(map[string]string{"open": "550 5.7.1 Away"}, "")
	run(map[string]string{"rcpt no@y.example": "error secret", "end": "554 5.7.1 Spam"},
		"FOO\r\nEHLO a b\r\nHELO x\r\nMAIL FROM:<a@x.example> SIZE=99999999\r\nMAIL FROM:<a@x.example>\r\n"+
			"RCPT TO:<no@y.example>\r\nRCPT TO:<b@y>x\r\nRCPT TO:<b@y.example>\r\nDATA\r\na\r\n.\r\nDATA\r\nSTARTTLS\r\nRSET\r\nGET /\r\n")
	run(map[string]string{"rcpt no@y.example": "550 5.7.1 No"}, "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<no@y.example>\r\nRSET\r\nRCPT TO:<no@y.example>\r\n")
	want := []string{
		"connect|554 5.7.1 Away|<nil>|||",
		"command|500 5.5.2 Command not recognised|<nil>|unknown command||",
		"hello|501 5.5.4 Syntax: EHLO hostname|<nil>|syntax||",
		"mail|552 5.3.4 Message too big|<nil>|limits.message_size|a@x.example|",
		"rcpt|451 4.3.0 Internal error, try again later|secret||a@x.example|no@y.example",
		"rcpt|501 5.1.3 Bad recipient address syntax|<nil>|syntax|a@x.example|TO:<b@y>x",
		"message|554 5.7.1 Spam|<nil>||a@x.example|",
		"data|503 5.5.1 Send MAIL first|<nil>|out of order||",
		"starttls|502 5.5.1 STARTTLS is not offered|<nil>|TLS is disabled||",
		"rcpt|550 5.7.1 No|<nil>||<>|no@y.example",
		"rcpt|503 5.5.1 Send MAIL first|<nil>|out of order||",
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Error(diff("refusals", a, b))
	}
}

// TestALineWithoutEndIsGivenUp: it is read through as far as it is worth, then
// that is the end.
func TestALineWithoutEndIsGivenUp(t *testing.T) {
	t.Parallel()
	piece := []byte(strings.Repeat("a", 1<<20))
	var hits, replies []string
	var end Closing
	err := Serve(t.Context(), transcript.NewConn(slices.Repeat([][]byte{piece}, mostSkipped>>20+1)), &Config{Hostname: "mx.example",
		OnLimit: func(_ *Conn, limit string, use, most int64) {
			hits = append(hits, fmt.Sprintf("%s %v %d", limit, use > mostSkipped, most))
		},
		OnRefused: func(_ *Conn, r Refusal) { replies = append(replies, r.Reply.String()+": "+r.Reason) },
		OnClosed:  func(_ *Conn, c Closing) { end = c },
	}, func(context.Context, *Conn) (Session, error) { return &fake{}, nil })
	if err != nil || end.Reason != closedJunk.String() {
		t.Errorf("ended %+v, %v", end, err)
	}
	if !slices.Equal(hits, []string{"limits.command_line true 4096"}) ||
		!slices.Equal(replies, []string{"500 5.5.2 Line too long: command line without end"}) {
		t.Errorf("told %q and %q", hits, replies)
	}
}
