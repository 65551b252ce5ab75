package incomingtest_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

func TestAMessageFromAFileNeedsNoServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "order.eml")
	if err := os.WriteFile(file, []byte("From: Alice <alice@example.net>\nSubject: order\r\n\nTwo, please.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := incomingtest.Message(t, file, "shop@example.org", "archive@example.org")
	text, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(text)
	if err != nil || string(got) != "From: Alice <alice@example.net>\r\nSubject: order\r\n\r\nTwo, please.\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	if m.Envelope.MailFrom != "alice@example.net" || len(m.Envelope.RcptTo) != 2 || m.ID != "TEST-order" || m.Attempt != 1 || m.Size != int64(len(got)) {
		t.Errorf("%+v", m.Envelope)
	}
	if said := failure(t, func(tb testing.TB) { incomingtest.Message(tb, "testdata/none.eml") }); !strings.Contains(said, "none.eml") {
		t.Errorf("no such file: %q", said)
	}
}

func TestAQueueIsFullOnDemand(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	c := srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250")
	srv.Fill(true)
	c.Play("C: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 421 4.3.2")
	c.ExpectClosed()
	srv.Fill(false)
	srv.Send("a@example.net", []string{"b@example.org"}, "")
	srv.Next(t)
	own := memqueue.New(nil)
	t.Cleanup(func() { _ = own.Close() })
	said := failure(t, func(tb testing.TB) { incomingtest.NewServer(tb, incoming.Config{Queue: own}).Fill(true) })
	if !strings.Contains(said, "by itself") {
		t.Errorf("a queue of one's own: %q", said)
	}
}

func TestAWayIsSlowOrIsResetOnDemand(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	const late = 50 * time.Millisecond
	began := time.Now()
	c := incomingtest.Dial(t, srv.Faulty(incomingtest.Faults{Slow: late}))
	c.Play("S: 220 mx.test\nC: NOOP\nS: 250\nC: QUIT\nS: 221")
	c.ExpectClosed()
	if took := time.Since(began); took < 3*late {
		t.Errorf("three replies came in %v", took)
	}
	good := incomingtest.Dial(t, srv.Faulty(incomingtest.Faults{}))
	good.Play("S: 220\nC: QUIT\nS: 221")
	good.ExpectClosed()
	addr := srv.Faulty(incomingtest.Faults{ResetAfter: int64(len("EHLO client.test\r\nMA"))})
	for range 2 {
		c := incomingtest.Dial(t, addr)
		c.Play("S: 220\nC: EHLO client.test\nS: 250")
		said := failure(t, func(tb testing.TB) {
			c := incomingtest.Dial(tb, addr)
			c.Play("S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250")
		})
		if !strings.Contains(said, "reset") && !strings.Contains(said, "EOF") && !strings.Contains(said, "broken pipe") {
			t.Errorf("said %q", said)
		}
		if got := c.Transcript(); !strings.HasPrefix(got, `S: "220 mx.test`) || !strings.Contains(got, `C: "EHLO client.test\r\n"`) {
			t.Errorf("transcript %s", got)
		}
	}
	srv.None()
}
