package incomingtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNextIsWhatWasSent(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	for i := range 3 {
		receipt := srv.Send("a@example.net", []string{"b@example.org", "c@example.org"}, fmt.Sprintf("Subject: %d\r\n\r\n.dot\r\nno line end", i))
		m := srv.Next(t)
		if !strings.HasSuffix(receipt, string(m.ID)) || m.Header.Get("Subject") != fmt.Sprint(i) || m.Attempt != 1 {
			t.Errorf("receipt %q, message %+v", receipt, m)
		}
		if !strings.HasSuffix(string(m.Raw), "\r\n\r\n.dot\r\nno line end\r\n") || fmt.Sprint(m.Envelope.Addresses()) != "[b@example.org c@example.org]" {
			t.Errorf("raw %q to %q", m.Raw, m.Envelope.Addresses())
		}
	}
	srv.None()
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
}

func TestAnAdapterOfOnesOwnHasTheVerdict(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{
		Delivery: incoming.Delivery{Backoff: time.Millisecond},
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			if m.Attempt == 1 {
				return errors.New("later")
			}
			return nil
		})})
	srv.Send("", []string{"b@example.org"}, "")
	if first, second := srv.Next(t), srv.Next(t); first.ID != second.ID || second.Attempt != 2 {
		t.Errorf("attempts %+v, %+v", first, second)
	}
}

func TestPlayAndStartTLS(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	srv := incomingtest.NewServer(t, incoming.Config{
		Policies: []incoming.Policy{policy.RequireTLS()},
		Listeners: []incoming.Listener{{Name: "mx", Address: "127.0.0.1:0", TLS: incoming.TLSOptional,
			TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}}})
	c := srv.Dial()
	c.Play(`
		S: 220 mx.test
		C: EHLO client.test
		S: 250-mx.test
		C: MAIL FROM:<a@example.net>
		S: 530
	`)
	if c.TLS().HandshakeComplete {
		t.Error("TLS before STARTTLS")
	}
	c.StartTLS(ca.ClientConfig("localhost"))
	if !c.TLS().HandshakeComplete {
		t.Error("no TLS after STARTTLS")
	}
	c.Play("C: EHLO client.test\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250\nC: QUIT\nS: 221")
	c.ExpectClosed()
	c.Close()
}

// A helper that cannot fail helps nobody.
func TestWhatIsNotExpectedFails(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	for name, c := range map[string]struct {
		run  func(c *incomingtest.Client)
		says string
	}{
		"another reply":       {func(c *incomingtest.Client) { c.Expect("554") }, `wanted a reply "554"`},
		"another text":        {func(c *incomingtest.Client) { c.Expect("220 another.test") }, "wanted a reply"},
		"not closed":          {func(c *incomingtest.Client) { c.ExpectClosed() }, "wanted the end"},
		"closed":              {func(c *incomingtest.Client) { c.Play("S: 220\nC: QUIT\nS: 221\nS: 250") }, "EOF"},
		"no step":             {func(c *incomingtest.Client) { c.Play("X: 220") }, "neither"},
		"dialogue is shown":   {func(c *incomingtest.Client) { c.Play("S: 220\nC: NOOP\nS: 550") }, `C: "NOOP\r\n"`},
		"a reply of the many": {func(c *incomingtest.Client) { c.Play("S: 220\nC: EHLO x\nS: 250 mx.test") }, "wanted a reply"},
	} {
		said := failure(t, func(tb testing.TB) { c.run(incomingtest.Dial(tb, srv.Addr)) })
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: said %q, want %q", name, said, c.says)
		}
	}
	said := failure(t, func(tb testing.TB) { incomingtest.NewServer(tb, incoming.Config{Domains: []string{"a@b"}}) })
	if !strings.Contains(said, "a@b") {
		t.Errorf("a bad Config: said %q", said)
	}
}

// failure is what f fails a test with; "" when it does not.
func failure(t *testing.T, f func(testing.TB)) string {
	tb := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tb)
	}()
	<-done
	return tb.said
}

type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
