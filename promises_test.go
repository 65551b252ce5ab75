package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
)

// Promise 1: the reply to the end of data is written after Commit returned nil,
// never before. Q21.
func TestNo250BeforeDurable(t *testing.T) {
	t.Parallel()
	for _, bdat := range []bool{false, true} {
		j := newJournal()
		release := make(chan struct{})
		q := &tamper{Queue: newQueue(t, nil), commit: func(do func() (*queue.Message, error)) (*queue.Message, error) {
			j.add("commit begins")
			<-release
			m, err := do()
			j.add("commit done")
			return m, err
		}}
		ln := spyListener{loopback(t), func(p []byte) {
			if strings.Contains(string(p), "queued as") {
				j.add("250")
			}
		}}
		srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Listeners: []incoming.Listener{{Name: "spied", Net: ln}}})
		c := srv.Dial()
		c.Play(ehloMailRcpt)
		if bdat {
			c.Write("BDAT 8 LAST\r\nX: y\r\n\r\n")
		} else {
			c.Play("C: DATA\nS: 354")
			c.Text("X: y\r\n\r\n")
		}
		j.await(t, "commit begins")
		close(release)
		c.Expect("250 2.0.0 Ok: queued as ")
		srv.Next(t)
		if got, want := j.all(), []string{"commit begins", "commit done", "250"}; !slices.Equal(got, want) {
			t.Errorf("BDAT %v: happened %q, want %q", bdat, got, want)
		}
	}

	// And none at all when it fails.
	q := &tamper{Queue: newQueue(t, nil), commit: func(func() (*queue.Message, error)) (*queue.Message, error) {
		return nil, fmt.Errorf("disk on fire: %w", queue.ErrSick)
	}}
	srv := incomingtest.NewServer(t, incoming.Config{Queue: q})
	c := srv.Dial()
	c.Play(toData)
	c.Text("X: y\r\n\r\n").Expect("451 4.3.0")
	c.Play("C: QUIT\nS: 221")
}

// Promise 2: whatever goes wrong while a text comes, none of it is read as a
// command, and there is one reply. E02, E03, E04, E06.
func TestNeverReParse(t *testing.T) {
	t.Parallel()
	evil := "MAIL FROM:<evil@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nQUIT\r\n"
	text := "Subject: x\r\n\r\n" + strings.Repeat(evil, 2000) + "a\n.\n" + evil + "a\r\n.\n" + evil + "a\n.\r\n" + evil + "a\r.\r" + evil
	no := &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "No"}
	for _, c := range []struct {
		name  string
		edit  func(cfg *incoming.Config, q *tamper)
		reply string
	}{
		{"accepted", func(*incoming.Config, *tamper) {}, "250 2.0.0"},
		{"too big", func(cfg *incoming.Config, _ *tamper) { cfg.Limits.MessageSize = int64(len(text)) - 1000 }, "552 5.3.4"},
		{"header refused", func(cfg *incoming.Config, _ *tamper) {
			cfg.Policies = []incoming.Policy{policy.OnHeader(func(context.Context, header.Header, *policy.Transaction) error { return no })}
		}, "550 5.7.1 No"},
		{"message refused", func(cfg *incoming.Config, _ *tamper) {
			cfg.Policies = []incoming.Policy{policy.OnMessage(func(context.Context, *policy.Transaction) error { return no })}
		}, "550 5.7.1 No"},
		{"policy panics", func(cfg *incoming.Config, _ *tamper) {
			cfg.Policies = []incoming.Policy{policy.OnHeader(func(context.Context, header.Header, *policy.Transaction) error { panic("no") })}
		}, "451 4.3.0"},
		{"header too big", func(cfg *incoming.Config, _ *tamper) { cfg.Limits.Header = 5 }, "554 5.6.0"},
		{"bare line ends refused", func(cfg *incoming.Config, _ *tamper) {
			cfg.RejectBareNewline = prefixes("127.0.0.0/8")
		}, "554 5.6.0"},
		{"disk full in the middle", func(_ *incoming.Config, q *tamper) {
			q.write = func(total int) error {
				if total > 9000 {
					return queue.ErrNoSpace
				}
				return nil
			}
		}, "452 4.3.1"},
		{"commit fails", func(_ *incoming.Config, q *tamper) {
			q.commit = func(func() (*queue.Message, error)) (*queue.Message, error) { return nil, queue.ErrSick }
		}, "451 4.3.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			q := &tamper{Queue: newQueue(t, nil)}
			cfg := incoming.Config{Queue: q}
			c.edit(&cfg, q)
			cfg.Policies = append(cfg.Policies, recordSenders(j))
			srv := incomingtest.NewServer(t, cfg)
			client := srv.Dial()
			client.Play(toData)
			client.Text(text).Expect(c.reply)
			client.Play("C: NOOP\nS: 250\nC: QUIT\nS: 221")
			client.ExpectClosed()
			if got := j.all(); !slices.Equal(got, []string{"MAIL a@example.net"}) {
				t.Errorf("the policies were asked about %q", got)
			}
			if strings.HasPrefix(c.reply, "250") {
				if m := srv.Next(t); m.Envelope.MailFrom != "a@example.net" {
					t.Errorf("a message from %q", m.Envelope.MailFrom)
				}
			}
			if err := srv.Stop(); err != nil {
				t.Error(err)
			}
			srv.None()
		})
	}
}

// A text that stops coming ends the connection in the same step as the 421:
// what comes later is read by nobody. R07.
func TestNeverReParseAfterATimeout(t *testing.T) {
	t.Parallel()
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{
		Timeouts: incoming.Timeouts{Data: 50 * time.Millisecond}, Policies: []incoming.Policy{recordSenders(j)}})
	c := srv.Dial()
	c.Play(toData)
	c.Write("Subject: x\r\n")
	c.Expect("421 4.4.2")
	c.ExpectClosed()
	if got := j.all(); len(got) != 1 {
		t.Errorf("the policies were asked about %q", got)
	}
	srv.None()
}

// Promise 3: an adapter is given leased messages only, and the ID is the same
// at each attempt. Q17.
func TestAtLeastOnceByOnePath(t *testing.T) {
	t.Parallel()
	var leases, calls atomic.Int64
	q := &tamper{Queue: newQueue(t, nil), lease: func() { leases.Add(1) }}
	srv := incomingtest.NewServer(t, incoming.Config{
		Queue:    q,
		Delivery: incoming.Delivery{Backoff: time.Millisecond},
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			if calls.Add(1); m.Attempt < 3 {
				return errors.New("not yet")
			}
			return nil
		}),
	})
	receipt := srv.Send("a@example.net", []string{"b@example.org"}, "X: y\r\n\r\n")
	for attempt := 1; attempt <= 3; attempt++ {
		m := srv.Next(t)
		if m.Attempt != attempt || receipt != "Ok: queued as "+string(m.ID) {
			t.Errorf("attempt %d of %s; want %d, of the one in %q", m.Attempt, m.ID, attempt, receipt)
		}
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	if leases.Load() != 3 || calls.Load() != 3 {
		t.Errorf("%d leases, %d calls of the adapter; want 3 each", leases.Load(), calls.Load())
	}
	srv.None()
}

// Promise 4: each message that had its 250 ends acknowledged or as a dead letter
// with a reason.
func TestNothingVanishes(t *testing.T) {
	t.Parallel()
	q := newQueue(t, nil)
	var mu sync.Mutex
	acked := make(map[string]bool)
	srv := incomingtest.NewServer(t, incoming.Config{
		Queue:    q,
		Delivery: incoming.Delivery{Backoff: time.Millisecond, MaxAttempts: 3},
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			switch m.Envelope.RcptTo[0].Address[0] {
			case 'r':
				return incoming.Reject(errors.New("unwanted"))
			case 'p':
				panic("poison")
			case 'l':
				if m.Attempt == 1 {
					return errors.New("later")
				}
			case 's':
				return errors.New("always later")
			}
			mu.Lock()
			defer mu.Unlock()
			acked[string(m.ID)] = true
			return nil
		}),
	})
	accepted := make(map[string]byte)
	for range 5 {
		for _, to := range []string{"ok", "reject", "panic", "later", "spent"} {
			receipt := srv.Send("a@example.net", []string{to + "@example.org"}, "X: y\r\n\r\n")
			accepted[strings.TrimPrefix(receipt, "Ok: queued as ")] = to[0]
		}
	}
	waitFor(t, "the queue to be done", func() bool { return q.Depth().Live() == 0 })
	dead := make(map[string]string)
	for e, err := range q.List(t.Context(), queue.Filter{States: []queue.State{queue.StateDead}}) {
		if err != nil {
			t.Fatal(err)
		}
		dead[string(e.ID)] = string(e.Dead.Kind) + ": " + e.Dead.Reason
	}
	want := map[byte]string{'r': "rejected: unwanted", 'p': "panic: ", 's': "spent: "}
	for id, kind := range accepted {
		if acked[id] == (dead[id] != "") {
			t.Errorf("%s (%c): acknowledged %v, dead %q", id, kind, acked[id], dead[id])
		}
		if !strings.HasPrefix(dead[id], want[kind]) || (want[kind] == "") != (dead[id] == "") {
			t.Errorf("%s (%c): dead %q, want %q", id, kind, dead[id], want[kind])
		}
	}
	if len(accepted) != 25 || len(dead)+len(acked) != 25 {
		t.Errorf("%d accepted, %d acknowledged, %d dead", len(accepted), len(acked), len(dead))
	}
}

// Promise 5: memory does not grow with the size of messages, nor with how much
// of them has no line end. Not parallel: the heap is everybody's. R03, R19.
func TestBoundedMemory(t *testing.T) {
	srv := incomingtest.NewServer(t, incoming.Config{Queue: sink{newQueue(t, nil)}})
	const connections, size = 8, 16 << 20
	var clients []*incomingtest.Client
	for range connections {
		c := srv.Dial()
		c.Play(toData)
		clients = append(clients, c)
	}
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	chunk := strings.Repeat("x", 1<<20)
	for sent := 0; sent < size; sent += len(chunk) {
		for i, c := range clients {
			if i%2 == 0 { // the others send their size in one line
				c.Write("\r\n")
			}
			c.Write(chunk)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > connections*256<<10 {
		t.Errorf("the heap grew by %d KiB while %d MiB came", grown>>10, connections*size>>20)
	}
	for _, c := range clients {
		c.Write("\r\n.\r\n").Expect("250 2.0.0")
		c.Close()
	}
}

// Promise 6: what passes is 4xx, what no retry cures 5xx, and internal text
// stays inside. Q02, Q05.
func TestHonestReplies(t *testing.T) {
	t.Parallel()
	const secret = "/var/secret/path"
	wrapped := func(err error) error { return fmt.Errorf("%s: %w", secret, err) }
	own := errors.New("unheard of")
	for _, c := range []struct {
		name   string
		err    error
		banner string // "" is 220
		mail   string
		data   string // in 354's place
		text   string // after the text: from Write and from Commit
	}{
		{"full", queue.ErrFull, "", "250", "421 4.3.2 Try again later", "421 4.3.2"},
		{"no space", queue.ErrNoSpace, "", "452 4.3.1", "452 4.3.1", "452 4.3.1"},
		{"busy", queue.ErrBusy, "", "451 4.3.0", "451 4.3.0", "451 4.3.0"},
		{"sick", queue.ErrSick, "421 4.3.2", "451 4.3.0", "451 4.3.0", "451 4.3.0"},
		{"closed", queue.ErrClosed, "421 4.3.2", "421 4.3.2", "421 4.3.2", "421 4.3.2"},
		{"too large", queue.ErrTooLarge, "", "552 5.3.4", "552 5.3.4", "552 5.3.4"},
		{"unknown", own, "", "451 4.3.0", "451 4.3.0", "451 4.3.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fail := wrapped(c.err)
			var at atomic.Value
			at.Store("")
			failing := func(stage string) error {
				if at.Load() == stage {
					return fail
				}
				return nil
			}
			q := &tamper{Queue: newQueue(t, nil)}
			q.check = func(size int64) error {
				if size > 0 {
					return failing("mail")
				}
				return failing("banner")
			}
			q.begin = func() error { return failing("data") }
			q.write = func(int) error { return failing("write") }
			q.commit = func(do func() (*queue.Message, error)) (*queue.Message, error) {
				if err := failing("commit"); err != nil {
					return nil, err
				}
				return do()
			}
			spied := newJournal()
			ln := spyListener{loopback(t), func(p []byte) { spied.add(string(p)) }}
			srv := incomingtest.NewServer(t, incoming.Config{Queue: q, Listeners: []incoming.Listener{{Name: "spied", Net: ln}}})
			for _, step := range []struct{ stage, banner, mail, data, text string }{
				{"banner", c.banner, "", "", ""},
				{"mail", "", c.mail, "", ""},
				{"data", "", "", c.data, ""},
				{"write", "", "", "", c.text},
				{"commit", "", "", "", c.text},
			} {
				at.Store("")
				if step.stage == "banner" {
					at.Store("banner")
				}
				client := srv.Dial()
				if step.banner != "" {
					client.Expect(step.banner)
					client.ExpectClosed()
					continue
				}
				client.Play("S: 220\nC: EHLO x\nS: 250")
				at.Store(step.stage)
				client.Send("MAIL FROM:<a@example.net> SIZE=100").Expect(or(step.mail, "250"))
				if strings.HasPrefix(or(step.mail, "250"), "250") {
					client.Play("C: RCPT TO:<b@example.org>\nS: 250")
					client.Send("DATA").Expect(or(step.data, "354"))
					if step.data == "" {
						client.Text("X: y\r\n\r\n").Expect(or(step.text, "250"))
					}
				}
				client.Close()
			}
			if all := strings.Join(spied.all(), ""); strings.Contains(all, secret) || strings.Contains(all, own.Error()) {
				t.Errorf("internal text on the wire: %q", all)
			}
		})
	}
}

// Promise 7: each bad thing is met while good messages go through. R15.
func TestOneBadThingStaysOneBadThing(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	defer close(hang)
	q := newQueue(t, &memqueue.Options{})
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{
		Queue: q,
		Hooks: eventHooks(j),
		// Long enough for those that do not hang, on a machine that is busy.
		Timeouts: incoming.Timeouts{Policy: 2 * time.Second},
		Delivery: incoming.Delivery{Workers: 4, Deadline: 2 * time.Second, Backoff: time.Hour, BackoffCap: time.Hour},
		Policies: []incoming.Policy{policy.Named("touchy", policy.OnMail(func(ctx context.Context, from smtp.Path, _ *policy.Transaction) error {
			switch from.Local {
			case "panic":
				panic("policy")
			case "hang":
				<-ctx.Done()
			}
			return nil
		}))},
		Adapter: incoming.AdapterFunc(func(ctx context.Context, m *incoming.Message) error {
			switch m.Envelope.RcptTo[0].Address {
			case "panic@example.org":
				panic("adapter")
			case "hang@example.org":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}),
	})
	good := func() {
		t.Helper()
		srv.Send("good@example.net", []string{"good@example.org"}, "X: y\r\n\r\n")
		for {
			if m := srv.Next(t); m.Envelope.MailFrom == "good@example.net" {
				return
			}
		}
	}
	slow := srv.Dial() // says nothing more
	slow.Play(toData)
	slow.Write("X: half a li")
	good()
	gone := srv.Dial()
	gone.Play(toData)
	gone.Write("X: y\r\n").Reset()
	good()
	for _, from := range []string{"panic", "hang"} {
		c := srv.Dial()
		c.Play("S: 220\nC: EHLO x\nS: 250")
		c.Send("MAIL FROM:<" + from + "@example.net>").Expect("451 4.3.0")
		c.Play("C: MAIL FROM:<good@example.net>\nS: 250\nC: QUIT\nS: 221")
		good()
	}
	for _, to := range []string{"panic", "hang"} {
		srv.Send("a@example.net", []string{to + "@example.org"}, "X: y\r\n\r\n")
		good()
	}
	slow.Write("ne\r\n\r\n.\r\n").Expect("250")
	waitFor(t, "the bad ones to wait for their retry", func() bool {
		d := q.Depth()
		return d.Waiting == 2 && d.Live() == 2
	})
	if got := strings.Join(j.all(), "\n"); !strings.Contains(got, "panic policy touchy") || !strings.Contains(got, "panic adapter") {
		t.Errorf("told:\n%s", got)
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// waitFor waits for something that no event tells of.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout := time.After(incomingtest.Wait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited %v for %s", incomingtest.Wait, what)
		}
	}
}
