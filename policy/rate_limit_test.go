package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/smtp"
)

// mailFrom is a transaction of a client and a sender.
func mailFrom(t testing.TB, client, sender string) *Transaction {
	t.Helper()
	tx := from(t, client)
	tx.From = smtp.ParsePath(sender)
	return tx
}

// rcptTo is one that has come to a recipient.
func rcptTo(t testing.TB, client, recipient string) *Transaction {
	t.Helper()
	tx := from(t, client)
	tx.To = []Recipient{{Path: smtp.ParsePath(recipient)}}
	return tx
}

const (
	domainSlowDown = "450 4.7.1 Too much mail from your domain, try again later"
	rcptSlowDown   = "450 4.2.1 Too much mail for this recipient, try again later"
)

// A sender's domain has one count, whoever its clients are and however it is
// written.
func TestRateLimitBySendersDomain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(&RateLimitOptions{Count: -1, SenderCount: 4})
		same := []string{"a@example.net", "b@EXAMPLE.net", "c@example.net.", "d@Example.Net", "e@example.net", "f@example.NET"}
		for i, sender := range same {
			want := ""
			if i >= 4 {
				want = domainSlowDown
			}
			if got := ask(t, l, StageMail, mailFrom(t, fmt.Sprintf("192.0.2.%d", i), sender)); got != want {
				t.Errorf("MAIL %d, %s: %q, want %q", i+1, sender, got, want)
			}
		}
		for _, other := range []string{"a@example.org", "a@sub.example.net"} {
			if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", other)); got != "" {
				t.Errorf("%s: %q", other, got)
			}
		}
		for range 20 { // bounces come from everywhere
			if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "")); got != "" {
				t.Errorf("the null sender: %q", got)
			}
		}
		// A peer without an address is local, its senders are not.
		if got := ask(t, l, StageMail, mailFrom(t, "", "a@example.net")); got != domainSlowDown {
			t.Errorf("without an address: %q", got)
		}
		time.Sleep(time.Minute)
		if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "a@example.net")); got != "" {
			t.Errorf("when the window has passed: %q", got)
		}

		l = RateLimit(&RateLimitOptions{SenderCount: 1})
		ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "a@bücher.example"))
		if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.2", "a@XN--BCHER-KVA.example")); got != domainSlowDown {
			t.Errorf("the same domain in A-labels: %q", got)
		}
	})
}

func TestRateLimitByRecipient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(&RateLimitOptions{Count: -1, RecipientCount: 4})
		same := []string{"b@example.org", "B@EXAMPLE.org", `"b"@example.org`, "b@example.org.", "b@example.org", "b@example.org"}
		for i, recipient := range same {
			want := ""
			if i >= 4 {
				want = rcptSlowDown
			}
			if got := ask(t, l, StageRcpt, rcptTo(t, fmt.Sprintf("192.0.2.%d", i), recipient)); got != want {
				t.Errorf("RCPT %d, %s: %q, want %q", i+1, recipient, got, want)
			}
		}
		for _, other := range []string{"c@example.org", "b@example.net"} {
			if got := ask(t, l, StageRcpt, rcptTo(t, "192.0.2.1", other)); got != "" {
				t.Errorf("%s: %q", other, got)
			}
		}
		for range 10 { // MAIL has no limit here
			if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "a@example.net")); got != "" {
				t.Errorf("MAIL: %q", got)
			}
		}
	})
}

// What is refused for one reason is not counted for another.
func TestRateLimitCountsAllOrNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(&RateLimitOptions{Count: 2, SenderCount: 1})
		for i, c := range []struct{ sender, want string }{
			{"a@example.net", ""},
			{"a@example.net", domainSlowDown},
			{"a@example.net", domainSlowDown},
			{"a@example.org", ""},
			{"a@example.com", slowDown},
		} {
			if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", c.sender)); got != c.want {
				t.Errorf("MAIL %d, %s: %q, want %q", i+1, c.sender, got, c.want)
			}
		}
		if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.2", "a@example.com")); got != "" {
			t.Errorf("a domain whose client was refused: %q", got)
		}
	})
}

// Who invents domains or recipients pushes no client out of the table.
func TestRateLimitTablesDoNotPushEachOtherOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(&RateLimitOptions{Count: 1, SenderCount: 5, RecipientCount: 5, Entries: 3})
		ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "a@example.net"))
		for i := range 100 {
			ask(t, l, StageMail, mailFrom(t, "", fmt.Sprintf("a@%d.example", i)))
			ask(t, l, StageRcpt, rcptTo(t, "192.0.2.1", fmt.Sprintf("%d@example.org", i)))
		}
		if got := ask(t, l, StageMail, mailFrom(t, "192.0.2.1", "a@example.net")); got != slowDown {
			t.Errorf("after a hundred domains and recipients: %q", got)
		}
		if n := l.Len(); n != 1+3+3 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestRateLimitReasonSaysOfWhat(t *testing.T) {
	t.Parallel()
	l := RateLimit(&RateLimitOptions{Count: 1, SenderCount: 1, RecipientCount: 1})
	ctx := t.Context()
	for range 2 {
		_ = l.Check(ctx, StageMail, mailFrom(t, "2001:db8::1", "a@example.net"))
		_ = l.Check(ctx, StageRcpt, rcptTo(t, "192.0.2.1", "b@example.org"))
	}
	for want, err := range map[string]error{
		"more than 1 of the client 2001:db8::/64 in 1m0s":    l.Check(ctx, StageMail, mailFrom(t, "2001:db8::1", "a@example.org")),
		"more than 1 of the sender example.net in 1m0s":      l.Check(ctx, StageMail, mailFrom(t, "192.0.2.9", "a@example.net")),
		"more than 1 of the recipient b@example.org in 1m0s": l.Check(ctx, StageRcpt, rcptTo(t, "192.0.2.9", "b@example.org")),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want+": 450 ") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// node is a RateCounter that others share, in which a test has its hands.
type node struct {
	table *rateTable

	mu    sync.Mutex
	fail  func(ctx context.Context) (int, error) // nil: it works
	asked int
}

func newNode() *node { return &node{table: newRateTable(0)} }

func (n *node) Take(ctx context.Context, window time.Duration, uses []RateUse) (int, error) {
	n.mu.Lock()
	n.asked++
	fail := n.fail
	n.mu.Unlock()
	if fail != nil {
		return fail(ctx)
	}
	return n.table.take(window, uses), nil
}

func (n *node) set(fail func(context.Context) (int, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = fail
}

func (n *node) times() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func TestRateLimitIsSharedByNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		one := RateLimit(&RateLimitOptions{Count: 3, Shared: n})
		two := RateLimit(&RateLimitOptions{Count: 3, Shared: n})
		for i, l := range []*RateLimiter{one, two, one, two, one} {
			want := ""
			if i >= 3 {
				want = slowDown
			}
			if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != want {
				t.Errorf("MAIL %d: %q, want %q", i+1, got, want)
			}
		}
		if one.Len() != 0 {
			t.Errorf("%d are counted here beside", one.Len())
		}
	})
}

// While the shared counter fails, in any way, mail goes on and is still limited,
// by this process alone. It is told once, and once more when it is over; the
// counter is asked now and then, and mail does not wait for it.
func TestRateLimitGoesOnWithoutItsSharedCounter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail func(context.Context) (int, error)
		wait time.Duration // of the one that asks
	}{
		"an error":    {func(context.Context) (int, error) { return 0, errors.New("connection refused") }, 0},
		"a panic":     {func(context.Context) (int, error) { panic("a bug") }, 0},
		"no such use": {func(context.Context) (int, error) { return 1, nil }, 0},
		"below none":  {func(context.Context) (int, error) { return -2, nil }, 0},
		"slow":        {func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				var told []error
				l := RateLimit(&RateLimitOptions{Count: 3, Window: time.Hour, Shared: n, OnShared: func(err error) { told = append(told, err) }})
				n.set(c.fail)
				began := time.Now()
				for i := range 5 {
					want := ""
					if i >= 3 {
						want = slowDown
					}
					if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != want {
						t.Errorf("MAIL %d: %q, want %q", i+1, got, want)
					}
				}
				if took := time.Since(began); took != c.wait {
					t.Errorf("five took %v", took)
				}
				if n.times() != 1 || len(told) != 1 || told[0] == nil {
					t.Errorf("asked %d times, told %v", n.times(), told)
				}
				time.Sleep(sharedRest)
				ask(t, l, StageMail, from(t, "192.0.2.1"))
				ask(t, l, StageMail, from(t, "192.0.2.1"))
				if n.times() != 2 || len(told) != 1 {
					t.Errorf("asked %d times, told %v", n.times(), told)
				}
				n.set(nil)
				time.Sleep(sharedRest)
				if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != "" {
					t.Errorf("the shared counter has counted none: %q", got)
				}
				if len(told) != 2 || told[1] != nil {
					t.Errorf("told %v", told)
				}
			})
		})
	}
}

// A counter that hangs for good is not asked again: it must not collect
// goroutines.
func TestRateLimitLeavesAHangingCounterAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		release := make(chan struct{})
		n.set(func(context.Context) (int, error) { <-release; return -1, nil })
		l := RateLimit(&RateLimitOptions{Count: 1000, Shared: n, OnShared: func(error) {}})
		for range 100 {
			if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != "" {
				t.Fatal(got)
			}
			time.Sleep(sharedRest)
		}
		if n.times() != 1 {
			t.Errorf("asked %d times", n.times())
		}
		n.set(nil)
		close(release)
		synctest.Wait()
		for range 2 {
			ask(t, l, StageMail, from(t, "192.0.2.1"))
		}
		if n.times() != 3 {
			t.Errorf("asked %d times in all", n.times())
		}
	})
}

// A client that leaves while the counter is asked is no fault of the counter's.
func TestRateLimitClientThatLeavesIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.set(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		l := RateLimit(&RateLimitOptions{Shared: n, OnShared: func(err error) { t.Errorf("told %v", err) }})
		ctx, cancel := context.WithTimeout(t.Context(), sharedTime/2)
		defer cancel()
		if err := l.Check(ctx, StageMail, from(t, "192.0.2.1")); err != nil {
			t.Error(err)
		}
		n.set(nil)
		ask(t, l, StageMail, from(t, "192.0.2.1"))
		if n.times() != 2 {
			t.Errorf("asked %d times", n.times())
		}
	})
}

// A limiter with a shared counter may wait: it is asked like a policy of the
// application's, and at the stages that it counts only.
func TestRateLimitWaitsOnlyWhenShared(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o      RateLimitOptions
		inline bool
		asks   []Stage
	}{
		{RateLimitOptions{}, true, []Stage{StageMail}},
		{RateLimitOptions{Count: -1}, true, nil},
		{RateLimitOptions{Count: -1, SenderCount: 1}, true, []Stage{StageMail}},
		{RateLimitOptions{Count: -1, RecipientCount: 1}, true, []Stage{StageRcpt}},
		{RateLimitOptions{RecipientCount: 1, Shared: newNode()}, false, []Stage{StageMail, StageRcpt}},
		{RateLimitOptions{SenderCount: 1, RecipientCount: 1, Window: -1}, true, nil},
	} {
		chain := NewChain([]Policy{Named("limit", RateLimit(&c.o))}, nil)
		if chain.links[0].inline != c.inline {
			t.Errorf("%+v: asked inline: %t", c.o, chain.links[0].inline)
		}
		var asks []Stage
		for stage := StageConnect; stage <= StageMessage; stage++ {
			if chain.AsksAt(stage) {
				asks = append(asks, stage)
			}
		}
		if fmt.Sprint(asks) != fmt.Sprint(c.asks) {
			t.Errorf("%+v: asks at %v, want %v", c.o, asks, c.asks)
		}
	}
}

func BenchmarkRateLimitAllThree(b *testing.B) {
	l := RateLimit(&RateLimitOptions{SenderCount: 5, RecipientCount: 5})
	tx := mailFrom(b, "192.0.2.1", "a@example.net")
	tx.To = []Recipient{{Path: smtp.ParsePath("b@example.org")}}
	for i := 0; b.Loop(); i++ {
		tx.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		_ = l.Check(b.Context(), StageMail, tx)
		_ = l.Check(b.Context(), StageRcpt, tx)
	}
}
