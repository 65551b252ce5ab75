package incoming_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
	"github.com/incoming-mx/incoming/telemetry/logging"
)

// logBook is a log at Info, to be read while it is written.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) hooks() telemetry.Hooks {
	return logging.New(slog.New(slog.NewJSONHandler(l, nil)), nil)
}

// lines is the lines with that message, each by its keys.
func (l *logBook) lines(t *testing.T, msg string) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range bytes.Lines(l.text.Bytes()) {
		var line map[string]any
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatal(err)
		}
		if line["msg"] == msg {
			lines = append(lines, line)
		}
	}
	return lines
}

// overTLS starts a server that logs here, and a client of it that has done
// STARTTLS.
func (l *logBook) overTLS(t *testing.T) (*incomingtest.Server, *incomingtest.Client) {
	t.Helper()
	ca := testcert.NewCA(t)
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: l.hooks(), Listeners: []incoming.Listener{
		{Name: "mx", Address: "127.0.0.1:0", TLS: incoming.TLSOptional, TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}}})
	c := srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250")
	c.StartTLS(ca.ClientConfig("localhost"))
	return srv, c
}

func TestAnAcceptedMessageIsOneLine(t *testing.T) {
	t.Parallel()
	var log logBook
	srv, c := log.overTLS(t)
	c.Play(strings.TrimPrefix(toData, "\n\tS: 220 mx.test ESMTP incoming"))
	c.Text("Message-ID: <1@example.net>\r\n\r\nx\r\n").Expect("250")
	m := srv.Next(t)
	got := log.lines(t, "accepted")
	if len(got) != 1 {
		t.Fatalf("%d lines: %v", len(got), got)
	}
	for key, want := range map[string]string{
		"id": string(m.ID), "session": "?", "listener": "mx", "peer": m.Peer, "helo": "client.test", "mail_from": "a@example.net",
		"rcpts": "[b@example.org]", "size": "34", "message_id": "<1@example.net>", "tls": "TLS 1.3", "duration": "?",
	} {
		if is := fmt.Sprint(got[0][key]); got[0][key] == nil || want != "?" && is != want {
			t.Errorf("%s is %s, want %s", key, is, want)
		}
	}

	// In clear, from the null sender and without a Message-ID the keys are there
	// too.
	srv.Send("", []string{"b@example.org"}, "X: y\r\n\r\n")
	got = log.lines(t, "accepted")
	for key, want := range map[string]any{"mail_from": "<>", "message_id": "", "tls": ""} {
		if is, there := got[1][key]; !there || is != want {
			t.Errorf("%s is %v, want %q", key, is, want)
		}
	}
}

// Who connects and leaves again, as balancers do to see whether we live, is no
// line at Info.
func TestAHealthCheckIsNoLine(t *testing.T) {
	t.Parallel()
	var log logBook
	var closed sync.WaitGroup
	hooks := telemetry.Tee(log.hooks(), telemetry.Hooks{SessionClosed: func(telemetry.SessionClosed) { closed.Done() }})
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: hooks})
	text := func() string {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.text.String()
	}
	before := text()
	closed.Add(3)
	for _, leave := range []func(*incomingtest.Client){
		(*incomingtest.Client).Close,
		func(c *incomingtest.Client) { c.Expect("220"); c.Close() },
		func(c *incomingtest.Client) { c.Expect("220"); c.Reset() },
	} {
		leave(srv.Dial())
	}
	closed.Wait()
	if got := text(); got != before {
		t.Errorf("logged %q", got[len(before):])
	}
}

func TestARefusalIsOneLineAtEachStage(t *testing.T) {
	t.Parallel()
	var log logBook
	var refuseAt atomic.Int64
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: log.hooks(), Policies: []incoming.Policy{
		policy.Named("gate", policy.Func(func(_ context.Context, stage policy.Stage, _ *policy.Transaction) error {
			if stage != policy.Stage(refuseAt.Load()) {
				return nil
			}
			return fmt.Errorf("as told: %w", policy.Reject("Not at "+stage.String()))
		}))}})
	const text = "X: y\r\n\r\nz\r\n.\r\n"
	for stage, dialogue := range map[policy.Stage]string{
		policy.StageConnect: "S: 554 5.7.1 Not at connect",
		policy.StageHello:   "S: 220\nC: EHLO client.test\nS: 550 5.7.1 Not at hello",
		policy.StageMail:    "S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 550 5.7.1 Not at mail",
		policy.StageRcpt:    "S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 550 5.7.1 Not at rcpt",
		policy.StageData:    ehloMailRcpt + "C: DATA\nS: 550 5.7.1 Not at data",
		policy.StageHeader:  toData,
		policy.StageMessage: toData,
	} {
		refuseAt.Store(int64(stage))
		before := len(log.lines(t, "refused"))
		c := srv.Dial()
		c.Play(dialogue)
		if stage >= policy.StageHeader {
			c.Write(text).Expect("550 5.7.1 Not at " + stage.String())
		}
		c.Close()
		got := log.lines(t, "refused")[before:]
		if len(got) != 1 {
			t.Errorf("%s: %d lines: %v", stage, len(got), got)
			continue
		}
		want := map[string]string{"stage": stage.String(), "policy": "gate", "listener": "test"}
		if stage >= policy.StageHello {
			want["helo"] = "client.test"
		}
		if stage >= policy.StageMail {
			want["mail_from"] = "a@example.net"
		}
		if stage == policy.StageRcpt {
			want["rcpt"] = "b@example.org"
		}
		for key, value := range want {
			if got[0][key] != value {
				t.Errorf("%s: %s is %v, want %s", stage, key, got[0][key], value)
			}
		}
		if !strings.HasSuffix(fmt.Sprint(got[0]["reply"]), fmt.Sprintf("5.7.1 Not at %s (ref %s)", stage, got[0]["ref"])) || got[0]["session"] == nil || got[0]["peer"] == nil ||
			!strings.HasPrefix(fmt.Sprint(got[0]["reason"]), "as told: ") {
			t.Errorf("%s: %v", stage, got[0])
		}
	}
	srv.None()
}

// Each 421 is one line with its reason. A client only reads to come again.
func TestEach421HasItsReasonInTheLog(t *testing.T) {
	t.Parallel()
	at := func(stage policy.Stage, err error) []incoming.Policy {
		return []incoming.Policy{policy.Named("gate", policy.Func(func(_ context.Context, s policy.Stage, _ *policy.Transaction) error {
			if s != stage {
				return nil
			}
			if err == nil {
				panic("a bug")
			}
			return err
		}))}
	}
	notNow := &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "Not now"}
	begin := func(err error) *tamper { return &tamper{begin: func() error { return err }} }
	for reason, c := range map[string]struct {
		cfg  incoming.Config
		q    *tamper
		play string
	}{
		"past limits.connections":        {cfg: incoming.Config{Limits: incoming.Limits{Connections: 1}}, play: "S: 421 4.3.2"},
		"past limits.connections_per_ip": {cfg: incoming.Config{Limits: incoming.Limits{ConnectionsPerIP: 1, Exempt: []netip.Prefix{}}}, play: "S: 421 4.7.0"},
		"limits.errors":                  {cfg: incoming.Config{Limits: incoming.Limits{Errors: 1}}, play: "S: 220\nC: FOO\nS: 500\nC: FOO\nS: 421 4.7.0"},
		"limits.commands":                {cfg: incoming.Config{Limits: incoming.Limits{Commands: 1}}, play: "S: 220\nC: NOOP\nS: 250\nC: NOOP\nS: 421 4.7.0"},
		"limits.refused_recipients": {cfg: incoming.Config{Limits: incoming.Limits{RefusedRecipients: 1}, Domains: []string{}},
			play: "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 550\nC: RCPT TO:<b@example.org>\nS: 421 4.7.0"},
		"text after a refused DATA":                 {play: "S: 220\nC: DATA\nS: 503\nC: Subject: x\nS: 421 4.7.0"},
		"no command came in time: timeouts.command": {cfg: incoming.Config{Timeouts: incoming.Timeouts{Command: 50 * time.Millisecond}}, play: "S: 220\nS: 421 4.4.2"},
		"no command came in time: timeouts.session": {cfg: incoming.Config{Timeouts: incoming.Timeouts{Session: 50 * time.Millisecond}}, play: "S: 220\nS: 421 4.4.2"},
		"no text came in time: timeouts.data":       {cfg: incoming.Config{Timeouts: incoming.Timeouts{Data: 50 * time.Millisecond}}, play: toData + "S: 421 4.4.2"},
		"queue: full":                               {q: begin(queue.ErrFull), play: ehloMailRcpt + "C: DATA\nS: 421 4.3.2 Try again later"},
		"queue: closed":                             {q: begin(queue.ErrClosed), play: ehloMailRcpt + "C: DATA\nS: 421 4.3.2 Shutting down"},
		"the disk burns":                            {q: &tamper{check: func(int64) error { return fmt.Errorf("the disk burns: %w", queue.ErrSick) }}, play: "S: 421 4.3.2 Service"},
		"421 4.7.0 Not now":                         {cfg: incoming.Config{Policies: at(policy.StageHello, notNow)}, play: "S: 220\nC: EHLO x\nS: 421 4.7.0 Not now"},
		"busy elsewhere: 451 4.7.1 Later":           {cfg: incoming.Config{Policies: at(policy.StageConnect, fmt.Errorf("busy elsewhere: %w", policy.Tempfail("Later")))}, play: "S: 421 4.7.1 Later"},
		"the list cannot be asked":                  {cfg: incoming.Config{Policies: at(policy.StageConnect, errors.New("the list cannot be asked"))}, play: "S: 421 4.3.0"},
		"panic: a bug":                              {cfg: incoming.Config{Policies: at(policy.StageConnect, nil)}, play: "S: 421 4.3.0"},
		"drain":                                     {play: "S: 220"},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			var log logBook
			c.cfg.Hooks = log.hooks()
			if c.q != nil {
				c.q.Queue = newQueue(t, nil)
				c.cfg.Queue = c.q
			}
			srv := incomingtest.NewServer(t, c.cfg)
			if strings.HasPrefix(reason, "past ") {
				srv.Dial().Expect("220")
			}
			client := srv.Dial()
			client.Play(c.play)
			if reason == "drain" {
				stopped := make(chan error, 1)
				go func() { stopped <- srv.Stop() }()
				client.Expect("421 4.3.2")
				client.Close()
				if err := <-stopped; err != nil {
					t.Error(err)
				}
			}
			got := slices.DeleteFunc(log.lines(t, "refused"), func(line map[string]any) bool {
				return !strings.HasPrefix(fmt.Sprint(line["reply"]), "421 ")
			})
			if len(got) != 1 || !strings.HasPrefix(fmt.Sprint(got[0]["reason"]), reason) {
				t.Errorf("logged %v", got)
			}
		})
	}
}
