package relay

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/queue"
)

const text = "Subject: x\r\n\r\nbody\r\n"

// hello is how a server with those extensions begins.
func hello(extensions ...string) string {
	lines := "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\n"
	for _, e := range extensions {
		lines += "S: 250-" + e + "\n"
	}
	return lines + "S: 250 ENHANCEDSTATUSCODES\n"
}

func message(text string, to ...string) *queue.Message {
	e := queue.Entry{ID: "01J", Envelope: queue.Envelope{MailFrom: "a@x.example"}}
	for _, r := range to {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: r})
	}
	return deliverytest.NewMessage(e, text)
}

// deliver is the verdict for each recipient.
func deliver(t *testing.T, a *Adapter, m *queue.Message) map[string]error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return delivery.Results(a.Deliver(ctx, m), m.Envelope.Addresses())
}

// kind is a verdict in a word.
func kind(err error) string {
	var retry *delivery.RetryError
	var reject *delivery.RejectError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &reject):
		return "rejected"
	case errors.As(err, &retry) && retry.Contained:
		return "waits" // this recipient, and nobody else
	}
	return "retry"
}

func wants(t *testing.T, got map[string]error, want ...string) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		if kind(got[want[i]]) != want[i+1] {
			t.Errorf("%s: %s (%v), want %s", want[i], kind(got[want[i]]), got[want[i]], want[i+1])
		}
	}
}

// D11: replies for each, in two segments.
func TestOnlyWhoHasToWaitIsTriedAgain(t *testing.T) {
	t.Parallel()
	srv := play(t, `
		S: 220 mx.test
		C: LHLO client.test
		S: 250-mx.test
		S: 250 8BITMIME
		C: MAIL FROM:<a@x.example> BODY=8BITMIME
		S: 250 ok
		C: RCPT TO:<b@y>
		S: 250 ok
		C: RCPT TO:<c@y>
		S: 250 ok
		C: RCPT TO:<d@y>
		S: 250 ok
		C: RCPT TO:<e@y>
		S: 550 5.1.1 no such user
		C: DATA
		S: 354 go on
		text
		S| 250 2.0.0 ok\r\n451 4.2.2 full
		S| \r\n550 5.7.1 no\r\n
	`)
	got := deliver(t, newAdapter(t, Config{Address: srv.address, LMTP: true, TLS: TLSDisabled}), message(text, "b@y", "c@y", "d@y", "e@y"))
	wants(t, got, "b@y", "done", "c@y", "waits", "d@y", "rejected", "e@y", "rejected")
	if err := got["c@y"]; err == nil || !strings.Contains(err.Error(), `it said 451 4.2.2 "full"`) || !strings.Contains(err.Error(), srv.address) {
		t.Errorf("the reason is %v", err)
	}
}

// D12.
func TestAServerThatClosesBehindTheDotIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, replies := range map[string]string{"no reply": "", "one of two": "S: 250 ok\n"} {
		srv := play(t, "S: 220 x\nC: LHLO\nS: 250 x\nC: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\n"+replies+"close")
		got := deliver(t, newAdapter(t, Config{Address: srv.address, LMTP: true, TLS: TLSDisabled}), message(text, "b@y", "c@y"))
		first := map[string]string{"no reply": "retry", "one of two": "done"}[name]
		wants(t, got, "b@y", first, "c@y", "retry")
	}
	srv := play(t, hello()+"C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nclose")
	wants(t, deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), message(text, "b@y")), "b@y", "retry")
}

func TestAReplyIsAVerdictWhereItIsAboutTheMessage(t *testing.T) {
	t.Parallel()
	const mail = "C: MAIL\nS: 250 ok\n"
	const rcpt = mail + "C: RCPT\nS: 250 ok\nC: RCPT\nS: 250 ok\n"
	for name, c := range map[string]struct{ dialogue, b, c string }{
		"a banner of 554":       {"S: 554 go away\n", "retry", "retry"},
		"a banner of 421":       {"S: 421 later\n", "retry", "retry"},
		"no banner":             {"close\n", "retry", "retry"},
		"no hello":              {"S: 220 x\nC: EHLO\nS: 550 who are you\nclose\n", "retry", "retry"},
		"MAIL 550":              {hello() + "C: MAIL\nS: 550 5.7.1 no\n", "rejected", "rejected"},
		"MAIL 451":              {hello() + "C: MAIL\nS: 451 later\n", "waits", "waits"},
		"MAIL 530":              {hello() + "C: MAIL\nS: 530 5.7.0 STARTTLS first\n", "retry", "retry"},
		"MAIL 421":              {hello() + "C: MAIL\nS: 421 closing\nclose\n", "retry", "retry"},
		"RCPT of both kinds":    {hello() + mail + "C: RCPT\nS: 450 later\nC: RCPT\nS: 553 no\nC: RSET\nS: 250 ok\nC: EHLO\nS: 250 x\n", "waits", "rejected"},
		"RCPT 421":              {hello() + mail + "C: RCPT\nS: 550 no\nC: RCPT\nS: 421 closing\nclose\n", "rejected", "retry"},
		"RCPT 503":              {hello() + mail + "C: RCPT\nS: 503 what\nC: RCPT\nS: 251 will forward\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", "retry", "done"},
		"RCPT 354":              {hello() + mail + "C: RCPT\nS: 354 what\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", "retry", "done"},
		"DATA 554":              {hello() + rcpt + "C: DATA\nS: 554 no\n", "rejected", "rejected"},
		"DATA 250":              {hello() + rcpt + "C: DATA\nS: 250 what\n", "retry", "retry"},
		"end of text 552":       {hello() + rcpt + "C: DATA\nS: 354 go\ntext\nS: 552 too big\n", "rejected", "rejected"},
		"end of text 452":       {hello() + rcpt + "C: DATA\nS: 354 go\ntext\nS: 452 full\n", "waits", "waits"},
		"end of text no reply":  {hello() + rcpt + "C: DATA\nS: 354 go\ntext\nS: hello there\n", "retry", "retry"},
		"a reply without end":   {"S: 220 x\nC: EHLO\nS* 100000 250-x\nclose\n", "retry", "retry"},
		"a line without end":    {"S: 220 x\nC: EHLO\nS| 250-\nS* 1000000 x\nclose\n", "retry", "retry"},
		"nonsense for a banner": {"S: \\x00\\xff\nclose\n", "retry", "retry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := play(t, c.dialogue)
			got := deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), message(text, "b@y", "c@y"))
			wants(t, got, "b@y", c.b, "c@y", c.c)
		})
	}
}

func TestNoMoreIsReadThanRepliesNeed(t *testing.T) {
	t.Parallel()
	for name, dialogue := range map[string]string{
		"before hello": "S: 220 x\nC: EHLO\nS* 100000 250-x\n",
		"behind it":    hello() + "C: MAIL\nS* 100000 250-x\n",
	} {
		srv := play(t, dialogue+"hang")
		err := deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), message(text, "b@y"))["b@y"]
		if kind(err) != "retry" || !strings.Contains(err.Error(), errTooMuch.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// D25, and what is smuggled: whatever a message holds, one text and one end arrive.
func TestLineEndsAreRepairedAndDotsStuffed(t *testing.T) {
	t.Parallel()
	for from, to := range map[string]string{
		"a\r\nb\r\n":                      "a\r\nb\r\n",
		"a\nb\rc":                         "a\r\nb\r\nc\r\n",
		"\r\r\n\n\r":                      "\r\n\r\n\r\n\r\n",
		"a\n.\nMAIL FROM:<m@evil>\r\n":    "a\r\n..\r\nMAIL FROM:<m@evil>\r\n",
		"a\r.\r\nMAIL FROM:<m@evil>\r\n":  "a\r\n..\r\nMAIL FROM:<m@evil>\r\n",
		"a\r\n.\rMAIL FROM:<m@evil>\r\n":  "a\r\n..\r\nMAIL FROM:<m@evil>\r\n",
		".":                               "..\r\n",
		"..\r\n.x\r\n":                    "...\r\n..x\r\n",
		"no field\r\n.nor an empty line.": "no field\r\n..nor an empty line.\r\n",
	} {
		srv := play(t, hello()+"C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n")
		wants(t, deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), message(from, "b@y")), "b@y", "done")
		if got := srv.text(t); got != to {
			t.Errorf("%q went as %q, want %q", from, got, to)
		}
	}
}

func TestLineEndsAreTheSameHoweverTheTextIsRead(t *testing.T) {
	t.Parallel()
	const text, want = "a\r\r\nb\n\nc\r", "a\r\n\r\nb\r\n\r\nc\r\n"
	for size := 1; size < 8; size++ {
		for in := 1; in < 8; in++ {
			l := newLines(strings.NewReader(text))
			l.buf = make([]byte, in)
			var got strings.Builder
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{l}, make([]byte, size)); err != nil || got.String() != want {
				t.Errorf("by %d and %d: %q, %v", in, size, got.String(), err)
			}
		}
	}
}

type failing struct{ io.ReaderAt }

func (failing) Close() error { return nil }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 512<<10 {
		return 0, errors.New("the disk fails")
	}
	for i := range p {
		p[i] = "half a line\r\n"[(off+int64(i))%13]
	}
	return len(p), nil
}

func TestNoDotBehindATextThatIsNotWhole(t *testing.T) {
	t.Parallel()
	srv := play(t, hello("8BITMIME")+"C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nrest")
	e := queue.Entry{ID: "01J", Size: 1 << 20, Envelope: message("", "b@y").Envelope}
	m := queue.NewMessage(e, func() (queue.Raw, error) { return failing{}, nil })
	got := deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), m)
	wants(t, got, "b@y", "retry")
	if !strings.Contains(got["b@y"].Error(), "the disk fails") {
		t.Error(got["b@y"])
	}
	if rest := srv.text(t); strings.Contains(rest, "\r\n.\r\n") || strings.Contains(rest, "QUIT") {
		t.Errorf("it was sent %q", rest)
	}
}

func TestAServerThatReadsNothingOrSaysNothingIsLeftAtTheDeadline(t *testing.T) {
	t.Parallel()
	for name, dialogue := range map[string]string{
		"says nothing":  "hang",
		"reads nothing": hello("8BITMIME") + "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nhang",
	} {
		srv := play(t, dialogue)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
		err := delivery.Results(a.Deliver(ctx, message(strings.Repeat("long text\r\n", 1<<20), "b@y")), []string{"b@y"})["b@y"]
		if kind(err) != "retry" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatTheOtherServerCannotTakeIsRejectedWithTheReason(t *testing.T) {
	t.Parallel()
	to := func(from string, utf8 bool, rcpts ...string) queue.Envelope {
		env := message("", rcpts...).Envelope
		env.MailFrom, env.SMTPUTF8 = from, utf8
		return env
	}
	for name, c := range map[string]struct {
		extensions []string
		env        queue.Envelope
		text       string
		dialogue   string
		want       []string
		reason     string
	}{
		"the sender is not ASCII": {nil, to("grüße@x", true, "b@y"), text, "", []string{"b@y", "rejected"}, "SMTPUTF8"},
		"a recipient is not ASCII": {nil, to("a@x", true, "grüße@y", "b@y"), text,
			"C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", []string{"grüße@y", "rejected", "b@y", "done"}, "SMTPUTF8"},
		"domains have A-labels": {nil, to("a@bücher.example", true, "b@bücher.example"), text,
			"C: MAIL FROM:<a@xn--bcher-kva.example>\nS: 250 ok\nC: RCPT TO:<b@xn--bcher-kva.example>\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", []string{"b@bücher.example", "done"}, ""},
		"a field is not ASCII":   {[]string{"8BITMIME"}, to("a@x", true, "b@y"), "Subject: grüße\r\n\r\n", "", []string{"b@y", "rejected"}, "field Subject"},
		"it is asked and needed": {[]string{"SMTPUTF8", "8BITMIME"}, to("grüße@bücher.example", false, "b@y"), text, "C: MAIL FROM:<grüße@bücher.example> BODY=8BITMIME SMTPUTF8\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", []string{"b@y", "done"}, ""},
		"the text is of 8 bits":  {nil, to("a@x", false, "b@y"), "Subject: x\r\n\r\n\xe9\r\n", "", []string{"b@y", "rejected"}, "8BITMIME"},
		"it is too big":          {[]string{"SIZE 10"}, to("a@x", false, "b@y"), text, "", []string{"b@y", "rejected"}, "takes 10"},
		"its size is told":       {[]string{"SIZE 1000"}, to("", false, "b@y"), text, "C: MAIL FROM:<> SIZE=20\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", []string{"b@y", "done"}, ""},
		"a line end in a recipient": {nil, to("a@x", false, "b@y>\r\nRSET", "c@y"), text,
			"C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<c@y>\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n", []string{"b@y>\r\nRSET", "rejected", "c@y", "done"}, "cannot be said"},
		"a line end in the sender": {nil, to("a@x>\nRSET", false, "b@y"), text, "", []string{"b@y", "rejected"}, "cannot be said"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := play(t, hello(c.extensions...)+c.dialogue)
			got := deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), deliverytest.NewMessage(queue.Entry{ID: "01J", Envelope: c.env}, c.text))
			wants(t, got, c.want...)
			if err := got[c.want[0]]; c.reason != "" && !strings.Contains(err.Error(), c.reason) {
				t.Errorf("the reason is %v, want %s", err, c.reason)
			}
		})
	}
}

func TestParametersOfDSNGoOnWhereTheyAreOffered(t *testing.T) {
	t.Parallel()
	env := queue.Envelope{MailFrom: "a@x", Ret: "HDRS", EnvID: "e+1", RcptTo: []queue.Recipient{
		{Address: "b@y", Notify: "SUCCESS,FAILURE", ORcpt: "rfc822;b@z"}, {Address: "c@y", ORcpt: "x400;c"}}}
	const rest = "S: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n"
	for extension, dialogue := range map[string]string{
		"DSN": "C: MAIL FROM:<a@x> RET=HDRS ENVID=e+2B1\nS: 250 ok\nC: RCPT TO:<b@y> NOTIFY=SUCCESS,FAILURE ORCPT=RFC822;b@z\nS: 250 ok\nC: RCPT TO:<c@y>\n",
		"X":   "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: RCPT TO:<c@y>\n",
	} {
		srv := play(t, hello(extension)+dialogue+rest)
		got := deliver(t, newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled}), deliverytest.NewMessage(queue.Entry{ID: "01J", Envelope: env}, text))
		wants(t, got, "b@y", "done", "c@y", "done")
	}
}

func TestAMistakeInAConfigIsNamed(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"host:port":   {Address: "mail.example.org"},
		"no path":     {Address: "unix:"},
		"implicit":    {Address: "a:25", TLS: "maybe"},
		"ServerName":  {Address: "unix:/s", TLS: TLSRequired},
		"white space": {Address: "a:25", Hello: "a b"},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
}
