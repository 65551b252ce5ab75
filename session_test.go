package incoming_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	c := srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250")
	c.Send("MAIL FROM:<a@example.net> BODY=8BITMIME RET=HDRS ENVID=x+2By SIZE=20").Expect("250")
	c.Send("RCPT TO:<b@example.org> NOTIFY=FAILURE ORCPT=rfc822;c@example.org").Expect("250")
	c.Send("RCPT TO:<d@example.org>").Expect("250")
	c.Play("C: DATA\nS: 354")
	text := "Subject: x\r\n\r\n.dot\r\n\xe9\r\n"
	receipt := c.Text(text).Expect("250 2.0.0 ")
	m := srv.Next(t)
	if receipt != "Ok: queued as "+string(m.ID) {
		t.Errorf("receipt %q, message %s", receipt, m.ID)
	}
	want := incoming.Envelope{MailFrom: "a@example.net", Body: "8BITMIME", Ret: "HDRS", EnvID: "x+y", RcptTo: []queue.Recipient{
		{Address: "b@example.org", Notify: "FAILURE", ORcpt: "rfc822;c@example.org"}, {Address: "d@example.org"}}}
	if fmt.Sprint(m.Envelope) != fmt.Sprint(want) {
		t.Errorf("envelope %+v, want %+v", m.Envelope, want)
	}
	if m.Listener != "test" || m.Hello != "client.test" || !strings.HasPrefix(m.Peer, "127.0.0.1:") || m.TLS != nil || time.Since(m.ReceivedAt) > time.Minute {
		t.Errorf("origin %+v", m.Origin)
	}
	received, ok := strings.CutSuffix(string(m.Raw), text)
	if !ok || !strings.HasPrefix(received, "Received: from client.test ([127.0.0.1])\r\n\tby mx.test with ESMTP id "+string(m.ID)+";\r\n\t") {
		t.Errorf("raw %q", m.Raw)
	}
	if len(m.Facts) != 0 || m.Quarantine != "" {
		t.Errorf("facts %v, quarantine %q", m.Facts, m.Quarantine)
	}
}

// E10, Q09, D25.
func TestAnEmptyMessageAndOneWithoutHeaderAreTaken(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	for _, text := range []string{"", "no header at all\r\n", "\r\n", "X: only a header\r\n",
		"From: device\r\nSubject: alarm\r\nThe door is open\r\nReceived: by nobody\r\n", " a fold of nothing\r\n", "From root@host Thu\r\nX: y\r\n\r\n"} {
		srv.Send("", []string{"b@example.org"}, text)
		m := srv.Next(t)
		top, whole := strings.CutSuffix(string(m.Raw), "\r\n"+text)
		if !whole || !strings.HasPrefix(top, "Received: from ") || strings.Count(top, ": ") != 1 || m.Envelope.MailFrom != "" {
			t.Errorf("%q became %q", text, m.Raw)
		}
	}
}

// R12: how deep a message is nested, of how many parts it is, and what stands
// where addresses should, is nothing to who only carries it.
func TestAMessageIsCarriedHoweverItIsNested(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	for name, text := range map[string]string{
		"a hundred thousand parts":  "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000) + "--b--\r\n",
		"a hundred thousand deep":   strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000),
		"comments that never close": "From: " + strings.Repeat("(", 100_000) + "\r\n\r\n",
		"nothing but blank lines":   strings.Repeat("\r\n", 100_000),
		"one long fold":             "Subject: a\r\n" + strings.Repeat(" b\r\n", 50_000) + "\r\n",
	} {
		srv.Send("a@example.net", []string{"b@example.org"}, text)
		if m := srv.Next(t); !strings.HasSuffix(string(m.Raw), "\r\n"+text) {
			t.Errorf("%s: %d octets became %d", name, len(text), len(m.Raw))
		}
	}
}

// S22.
func TestPostmasterIsAlwaysThere(t *testing.T) {
	t.Parallel()
	no := policy.OnRcpt(func(context.Context, smtp.Path, *policy.Transaction) error { return policy.Reject("Nobody") })
	for _, c := range []struct {
		name    string
		domains []string
		to      string
		want    string // the address it is kept as; "" is refused
	}{
		{"bare", []string{"Example.org", "example.net"}, "postmaster", "postmaster@Example.org"},
		{"bare in another case", []string{"*", "example.org"}, "PostMaster", "postmaster@example.org"},
		{"no domain is named", nil, "postmaster", "postmaster@mx.test"},
		{"none is ours", []string{}, "postmaster", "postmaster@mx.test"},
		{"of ours", []string{"example.org"}, "Postmaster@EXAMPLE.org", "Postmaster@EXAMPLE.org"},
		{"of a named one beside any", []string{"*", "example.org"}, "postmaster@example.org", "postmaster@example.org"},
		{"of any: policies say whose it is", nil, "postmaster@example.com", ""},
		{"of any, said by *", []string{"*"}, "postmaster@example.com", ""},
		{"bare, of a domain with an umlaut", []string{"bücher.example"}, "Postmaster", "postmaster@xn--bcher-kva.example"},
		{"of ours by its A-label", []string{"bücher.example"}, "postmaster@XN--BCHER-KVA.example", "postmaster@XN--BCHER-KVA.example"},
		{"that only Unicode folds to it", []string{"example.org"}, "po\u017ftmaster@example.org", ""},
		{"of another", []string{"example.org"}, "postmaster@example.com", ""},
		{"anybody else", nil, "b@example.org", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := incomingtest.NewServer(t, incoming.Config{Domains: c.domains, Policies: []incoming.Policy{no},
				Recipient: func(context.Context, incoming.Address) error { return policy.Reject("Nobody") }})
			client := srv.Dial()
			client.Play("S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<> SMTPUTF8\nS: 250")
			client.Send("RCPT TO:<" + c.to + ">")
			if c.want == "" {
				client.Expect("550 5.7.1")
				return
			}
			client.Expect("250")
			client.Play("C: DATA\nS: 354\nC: .\nS: 250")
			if got := srv.Next(t).Envelope.Addresses(); !slices.Equal(got, []string{c.want}) {
				t.Errorf("kept as %q", got)
			}
		})
	}
}

func TestRecipientFuncAndDomains(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{
		Domains: []string{"example.org"},
		Recipient: func(_ context.Context, to incoming.Address) error {
			switch to.Local {
			case "nobody":
				return &incoming.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such user"}
			case "broken":
				return errors.New("the database is gone")
			case "panic":
				panic("recipient")
			case "elsewhere":
				t.Errorf("asked about %s, which is not ours", to)
			}
			return nil
		}})
	c := srv.Dial()
	c.Play(`
		S: 220
		C: EHLO x
		S: 250
		C: MAIL FROM:<a@example.net>
		S: 250
		C: RCPT TO:<nobody@example.org>
		S: 550 5.1.1 No such user
		C: RCPT TO:<broken@example.org>
		S: 451 4.3.0
		C: RCPT TO:<panic@example.org>
		S: 451 4.3.0
		C: RCPT TO:<elsewhere@example.com>
		S: 550 5.7.1
		C: DATA
		S: 554 5.5.1
		C: RCPT TO:<b@EXAMPLE.org>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250
	`)
	if got := srv.Next(t).Envelope.Addresses(); !slices.Equal(got, []string{"b@EXAMPLE.org"}) {
		t.Errorf("recipients %q", got)
	}
}

// S26.
func TestARecipientGivenTwiceIsKeptOnce(t *testing.T) {
	t.Parallel()
	asked := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Recipient: func(_ context.Context, to incoming.Address) error {
		asked.add(to.String())
		return nil
	}})
	c := srv.Dial()
	c.Play("S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<> SMTPUTF8\nS: 250")
	var want []string
	for i := range 40 { // past where an index is made
		want = append(want, fmt.Sprintf("r%d@example.org", i))
		c.Send(fmt.Sprintf("RCPT TO:<r%d@example.org>", i)).Expect("250")
		c.Send(fmt.Sprintf("RCPT TO:<r%d@EXAMPLE.org>", i/2)).Expect("250")
	}
	want = append(want, "x@xn--bcher-kva.example")
	c.Send("RCPT TO:<x@xn--bcher-kva.example>").Expect("250")
	c.Send("RCPT TO:<x@bücher.example>").Expect("250") // the same one
	c.Send("RCPT TO:<x@BU\u0308CHER.example>").Expect("250")
	want = append(want, "R1@example.org")
	c.Send("RCPT TO:<R1@example.org>").Expect("250") // local parts have case
	c.Play("C: DATA\nS: 354\nC: .\nS: 250")
	if got := srv.Next(t).Envelope.Addresses(); !slices.Equal(got, want) {
		t.Errorf("kept %q", got)
	}
	if got := asked.all(); !slices.Equal(got, want) {
		t.Errorf("asked about %q", got)
	}
}

func TestDiscardSays250AndKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []policy.Stage{policy.StageMail, policy.StageRcpt, policy.StageData, policy.StageHeader, policy.StageMessage} {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			q := newQueue(t, nil)
			srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Hooks: eventHooks(j), Policies: []incoming.Policy{
				policy.Named("bin", policy.Func(func(_ context.Context, stage policy.Stage, _ *policy.Transaction) error {
					if stage == at {
						return policy.Discard
					}
					return nil
				})),
			}})
			c := srv.Dial()
			c.Play(toData)
			receipt := c.Text("X: y\r\n\r\nbody\r\n").Expect("250 2.0.0 Ok: queued as ")
			if len(receipt) != 26 {
				t.Errorf("receipt %q", receipt)
			}
			c.Play("C: QUIT\nS: 221")
			if err := srv.Stop(); err != nil {
				t.Error(err)
			}
			srv.None()
			if got := j.all(); !slices.Contains(got, "discarded bin") || slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "queued") }) {
				t.Errorf("told %q", got)
			}
		})
	}
}

func TestWhatPoliciesLearnReachesTheAdapter(t *testing.T) {
	t.Parallel()
	marked := make(chan telemetry.PolicyDecision, 1)
	hooks := telemetry.Hooks{PolicyDecision: func(e telemetry.PolicyDecision) { marked <- e }}
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: hooks, Policies: []incoming.Policy{
		policy.OnHello(func(_ context.Context, name string, tx *policy.Transaction) error {
			return tx.SetFact("test.hello", name)
		}),
		policy.OnHeader(func(_ context.Context, h header.Header, tx *policy.Transaction) error {
			for f := range h.Fields() {
				if strings.EqualFold(f.Name, "X-Remove") {
					tx.Remove(f)
				}
			}
			return errors.Join(tx.Prepend("X-Added", "1"), tx.SetFact("test.subject", h.Get("Subject")))
		}),
		policy.OnMessage(func(_ context.Context, tx *policy.Transaction) error {
			r, err := tx.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if err := tx.SetFact("test.size", len(text)); err != nil {
				return err
			}
			return policy.Quarantine("smells")
		}),
	}})
	const text = "X-Remove: a\r\nSubject: hello\r\nX-Remove: b\r\n c\r\n\r\nbody\r\n"
	for range 2 { // a second message on another connection has its own
		srv.Send("a@example.net", []string{"b@example.org"}, text)
		m := srv.Next(t)
		if !strings.Contains(string(m.Raw), "+0000\r\nX-Added: 1\r\nSubject: hello\r\n\r\nbody\r\n") {
			t.Errorf("raw %q", m.Raw)
		}
		want := queue.Facts{"test.hello": []byte(`"client.test"`), "test.subject": []byte(`"hello"`), "test.size": []byte(fmt.Sprint(len(text)))}
		if got, want := mustJSON(t, m.Facts), mustJSON(t, want); got != want {
			t.Errorf("facts %s, want %s", got, want)
		}
		if m.Quarantine != "smells" {
			t.Errorf("quarantine %q", m.Quarantine)
		}
		if e := <-marked; e.Decision != "quarantine" || e.ID != string(m.ID) {
			t.Errorf("told of a %s of %q, want a quarantine of %s", e.Decision, e.ID, m.ID)
		}
	}
}

func TestBareLineEndsAreAFact(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	c := srv.Dial()
	c.Play(toData)
	c.Write("X: y\r\n\r\na\nb\rc\n\r\n.\r\n").Expect("250")
	if got := string(srv.Next(t).Facts["smtp.bare_line_ends"]); got != `{"lf":2,"cr":1}` {
		t.Errorf("fact %s", got)
	}
	c.Play("C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354")
	c.Write("X: y\r\n\r\n.\r\n").Expect("250")
	if facts := srv.Next(t).Facts; len(facts) != 0 {
		t.Errorf("a clean message has the facts %v", facts)
	}
}

// The header is judged as soon as it is in, and what it is refused with is the
// reply at the end.
func TestTheHeaderIsJudgedBeforeTheTextIsIn(t *testing.T) {
	t.Parallel()
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Policies: []incoming.Policy{
		policy.OnHeader(func(_ context.Context, h header.Header, _ *policy.Transaction) error {
			j.add("header " + h.Get("Subject"))
			return policy.Reject("Not that")
		}),
		policy.OnMessage(func(context.Context, *policy.Transaction) error { j.add("message"); return nil }),
	}})
	c := srv.Dial()
	c.Play(toData)
	c.Write("Subject: x\r\n\r\n")
	j.await(t, "header x")
	c.Write("body\r\n.\r\n").Expect("550 5.7.1 Not that")
	c.Play("C: NOOP\nS: 250")
	if got := j.all(); len(got) != 1 {
		t.Errorf("asked %q", got)
	}
	srv.None()
}

// A header that is not kept in memory while the text comes is the same to
// policies.
func TestABigHeaderIsReadBack(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 16 << 10, 100 << 10} {
		j := newJournal()
		srv := incomingtest.NewServer(t, incoming.Config{Policies: []incoming.Policy{
			policy.Func(func(_ context.Context, stage policy.Stage, tx *policy.Transaction) error {
				if stage >= policy.StageHeader {
					j.add(fmt.Sprintf("%v %d %s", stage, len(tx.Header.Get("X-Big")), tx.Header.Get("Subject")))
				}
				return nil
			}),
		}})
		srv.Send("a@example.net", []string{"b@example.org"}, "X-Big: "+strings.Repeat("x", size)+"\r\nSubject: s\r\n\r\n"+strings.Repeat("body\r\n", 1000))
		want := []string{fmt.Sprintf("header %d s", size), fmt.Sprintf("message %d s", size)}
		if got := j.all(); !slices.Equal(got, want) {
			t.Errorf("policies saw %q, want %q", got, want)
		}
		srv.Next(t)
	}
}

// R11.
func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	fields := func(n int, name string) string { return strings.Repeat(name+": x\r\n", n) }
	for _, c := range []struct {
		name   string
		limits incoming.Limits
		within string
		past   string
		reply  string
		limit  string
	}{
		{"octets", incoming.Limits{Header: 60}, fields(10, "A"), fields(10, "A") + "B:\r\n", "554 5.6.0", "limits.header"},
		{"octets of one line", incoming.Limits{Header: 3000}, "A: " + strings.Repeat("x", 2995) + "\r\n", "A: " + strings.Repeat("x", 2996) + "\r\n", "554 5.6.0", "limits.header"},
		{"fields", incoming.Limits{HeaderFields: 10}, fields(10, "A"), fields(11, "A"), "554 5.6.0", "limits.header_fields"},
		{"received", incoming.Limits{Received: 10}, fields(10, "received"), fields(11, "Received"), "554 5.4.6", "limits.received"},
		{"octets by default", incoming.Limits{}, "A: " + strings.Repeat("x", 256<<10-5) + "\r\n", "A: " + strings.Repeat("x", 256<<10-4) + "\r\n", "554 5.6.0", "limits.header"},
		{"far past it", incoming.Limits{}, "", "A: " + strings.Repeat("x", 20<<20) + "\r\n", "554 5.6.0", "limits.header"},
		{"ten thousand Received", incoming.Limits{}, "", fields(10_000, "Received"), "554 5.4.6", "limits.received"},
		{"a hundred thousand fields", incoming.Limits{Header: -1}, "", fields(100_000, "A"), "554 5.6.0", "limits.header_fields"},
		{"fields, then octets", incoming.Limits{Header: 60, HeaderFields: 3}, "", fields(4, "A") + "B: " + strings.Repeat("x", 60) + "\r\n", "554 5.6.0 Too many", "limits.header_fields"},
		{"octets, then fields", incoming.Limits{Header: 60, HeaderFields: 3}, "", "B: " + strings.Repeat("x", 60) + "\r\n" + fields(4, "A"), "554 5.6.0 Message header", "limits.header"},
		{"received, then fields", incoming.Limits{Received: 2, HeaderFields: 5}, "", fields(3, "Received") + fields(9, "A"), "554 5.4.6", "limits.received"},
		{"fields, then received", incoming.Limits{Received: 2, HeaderFields: 5}, "", fields(6, "A") + fields(3, "Received"), "554 5.6.0 Too many", "limits.header_fields"},
		{"a line of text past the octets", incoming.Limits{Header: 60}, fields(10, "A") + "no field, and no header any more\r\n", fields(10, "A") + "B: a field\r\n", "554 5.6.0", "limits.header"},
		{"received by default", incoming.Limits{}, fields(100, "Received"), fields(101, "Received"), "554 5.4.6", "limits.received"},
		{"fields by default", incoming.Limits{}, fields(1000, "A"), fields(1001, "A"), "554 5.6.0", "limits.header_fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			srv := incomingtest.NewServer(t, incoming.Config{Limits: c.limits, Hooks: eventHooks(j)})
			if last := strings.LastIndex(strings.TrimSuffix(c.within, "\r\n"), "\r\n"); last >= 0 {
				srv.Send("a@example.net", []string{"b@example.org"}, c.within[:last+2]+"\r\nbody: x\r\n") // a field below the limit
				srv.Next(t)
			}
			srv.Send("a@example.net", []string{"b@example.org"}, c.within+"\r\nbody: x\r\n")
			srv.Next(t)
			for _, rest := range []string{"\r\nbody: x\r\n", ""} {
				client := srv.Dial()
				client.Play(toData)
				client.Text(c.past + rest).Expect(c.reply)
				client.Play("C: NOOP\nS: 250")
			}
			if got := j.all(); !slices.Contains(got, "limit "+c.limit) {
				t.Errorf("told %q", got)
			}
			srv.None()
		})
	}
}

// A line of ten megabytes is text, not an endless header field. R03, R11.
func TestALongLineWithoutHeader(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	srv.Send("a@example.net", []string{"b@example.org"}, strings.Repeat("x", 10<<20))
	if m := srv.Next(t); len(m.Raw) < 10<<20 {
		t.Errorf("%d octets", len(m.Raw))
	}
}

// All policies share one policy's time from the final dot on.
func TestPoliciesShareTheirTimeFromTheFinalDot(t *testing.T) {
	t.Parallel()
	slow := policy.OnMessage(func(ctx context.Context, _ *policy.Transaction) error {
		select {
		case <-ctx.Done():
		case <-time.After(60 * time.Millisecond):
		}
		return nil
	})
	srv := incomingtest.NewServer(t, incoming.Config{
		Timeouts: incoming.Timeouts{Policy: 100 * time.Millisecond}, Policies: []incoming.Policy{slow, slow, slow}})
	c := srv.Dial()
	c.Play(toData)
	c.Text("X: y\r\n\r\n").Expect("451 4.3.0")
	c.Play("C: NOOP\nS: 250")
	srv.None()
}

// E17.
func TestAPeerThatResetsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	q := newQueue(t, nil)
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Hooks: eventHooks(j)})
	for i, dialogue := range []string{"S: 220", ehloMailRcpt, toData, ehloMailRcpt + "C: BDAT 0\nS: 250", ehloMailRcpt + "C: BDAT 100"} {
		c := srv.Dial()
		c.Play(dialogue)
		if i >= 2 {
			c.Write("X: y\r\n\r\nhalf a li")
		}
		c.Reset()
	}
	waitFor(t, "the sessions to end", func() bool { return srv.Status().Sessions == 0 })
	if d := q.Depth(); d != (queue.Depth{}) {
		t.Errorf("left behind: %+v", d)
	}
	srv.None()
}

func TestAFullQueueSays421InThePlaceOf354(t *testing.T) {
	t.Parallel()
	j := newJournal()
	q := newQueue(t, &memqueue.Options{Depth: 2})
	hold := make(chan struct{})
	srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Hooks: eventHooks(j),
		Adapter: incoming.AdapterFunc(func(context.Context, *incoming.Message) error { <-hold; return nil })})
	for range 2 {
		srv.Send("a@example.net", []string{"b@example.org"}, "X: y\r\n\r\n")
	}
	c := srv.Dial()
	c.Play(ehloMailRcpt)
	c.Send("DATA").Expect("421 4.3.2 Try again later")
	c.ExpectClosed()
	if got := j.all(); !slices.Contains(got, "enqueue_error full") || !slices.Contains(got, "limit queue.depth") {
		t.Errorf("told %q", got)
	}
	close(hold)
	waitFor(t, "room in the queue", func() bool { return q.Depth().Live() == 0 })
	srv.Send("a@example.net", []string{"b@example.org"}, "X: y\r\n\r\n")
}

func TestHooksTellOfEachFact(t *testing.T) {
	t.Parallel()
	j := newJournal()
	var queued telemetry.MessageQueued
	hooks := eventHooks(j)
	hooks = telemetry.Tee(hooks, telemetry.Hooks{MessageQueued: func(e telemetry.MessageQueued) { queued = e }})
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: hooks, Policies: []incoming.Policy{
		policy.Named("picky", policy.OnMail(func(_ context.Context, from smtp.Path, _ *policy.Transaction) error {
			if from.Local == "bad" {
				return fmt.Errorf("on a list: %w", policy.Reject("No"))
			}
			return nil
		})),
	}})
	c := srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<bad@example.net>\nS: 550 5.7.1 No\nC: RCPT TO:<b@example.org>\nS: 503")
	c.Play("C: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354")
	receipt := c.Text("Message-ID: <x@y>\r\n\r\n").Expect("250 2.0.0 Ok: queued as ")
	c.Play("C: QUIT\nS: 221")
	j.await(t, "closed")
	want := []string{
		"connect", "accepted",
		"decision picky reject",
		"rejected mail 550 5.7.1 No policy=picky reason=on a list: 550 5.7.1 No",
		"rejected rcpt 503 5.5.1",
		"queued " + receipt,
		"closed quit",
	}
	got := j.all()
	if len(got) != len(want) {
		t.Fatalf("told %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(withoutRef(got[i]), want[i]) {
			t.Errorf("told %q, want %q", got[i], want[i])
		}
	}
	if queued.MailFrom != "a@example.net" || queued.MessageID != "<x@y>" || queued.Size != 21 || queued.Hello != "client.test" ||
		queued.Listener != "test" || !slices.Equal(queued.Rcpts, []string{"b@example.org"}) || queued.Commit <= 0 || queued.Duration < queued.Commit {
		t.Errorf("queued %+v", queued)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// S02: who is forgiven is told by network; everyone else is held to the syntax.
func TestOnlyWhoIsForgivenIsForgiven(t *testing.T) {
	t.Parallel()
	for network, forgiven := range map[string]bool{"127.0.0.0/8": true, "192.0.2.0/24": false} {
		srv := incomingtest.NewServer(t, incoming.Config{Lenient: prefixes(network)})
		c := srv.Dial()
		c.Expect("220")
		ask := func(command, yes, no string) {
			if !forgiven {
				yes = no
			}
			c.Send(command).Expect(yes)
		}
		ask("HELO my fax", "250", "501 5.5.4")
		c.Send("HELO fax").Expect("250")
		ask("MAIL FROM:a@example.net", "250", "501 5.1.7")
		c.Send("RSET").Expect("250")
		c.Send("MAIL FROM:<a@example.net>").Expect("250")
		ask("RCPT TO:b@example.org", "250", "501 5.1.3")
		if forgiven {
			c.Send("DATA").Expect("354")
			c.Text("X: y\r\n\r\n").Expect("250")
			if m := srv.Next(t); m.Envelope.RcptTo[0].Address != "b@example.org" || m.Hello != "fax" {
				t.Errorf("%+v from %q", m.Envelope, m.Hello)
			}
		}
	}
}
