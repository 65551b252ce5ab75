package policy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/smtp"
)

// ask is the reply that a policy gives, "" for none. What is no reply fails.
func ask(t testing.TB, p Policy, stage Stage, tx *Transaction) string {
	t.Helper()
	err := p.Check(t.Context(), stage, tx)
	if err == nil {
		return ""
	}
	var reply *smtp.Reply
	if !errors.As(err, &reply) {
		t.Fatalf("%v at %v is no reply", err, stage)
	}
	return reply.String()
}

func TestRequireHello(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for hello, ok := range map[string]bool{
		"mx.example.org":        true,
		"a.b":                   true,
		"a_b.example":           true,
		"MX.EXAMPLE.ORG":        true,
		"mx.example.org.":       true,
		"bücher.example":        true,
		"xn--bcher-kva.test":    true,
		"1.2.3.4.example":       true,
		"3com.example":          true,
		"[192.0.2.1]":           true,
		"[IPv6:2001:db8::1]":    true,
		"[ipv6:::1]":            true,
		"[IPv6:::ffff:1.2.3.4]": true,
		long + ".example":       true,

		"":                        false,
		"localhost":               false,
		"localhost.":              false,
		"7kO2OrE":                 false,
		"1.2.3.4":                 false,
		"example.123":             false,
		".example.org":            false,
		"a..b":                    false,
		"-a.example":              false,
		"a-.example":              false,
		"a b.example":             false,
		"a\x00.example":           false,
		"\xff.example":            false,
		long + "a.example":        false,
		strings.Repeat("a.", 128): false,
		"[192.0.2.256]":           false,
		"[192.0.2.1":              false,
		"192.0.2.1]":              false,
		"[]":                      false,
		"[2001:db8::1]":           false,
		"[IPv6:192.0.2.1]":        false,
		"[IPv6:2001:db8::1::2]":   false,
		"[IPv6:fe80::1%eth0]":     false,
		"[IPv6:]":                 false,
		"[x400:c=de]":             false,
		"[192.0.2.1].example.org": false,
	} {
		tx := inMail(t)
		tx.Hello = hello
		got := ask(t, RequireHello(), StageMail, tx)
		if want := "550 5.7.1 Say EHLO with your full host name or address literal first"; ok != (got == "") || !ok && got != want {
			t.Errorf("%q: %q", hello, got)
		}
		for _, stage := range []Stage{StageConnect, StageHello, StageRcpt, StageMessage} {
			if got := ask(t, RequireHello(), stage, tx); got != "" {
				t.Errorf("%q at %v: %s", hello, stage, got)
			}
		}
	}
}

func TestMaxSizeAtItsLimit(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]string{
		0: "", 99: "", 100: "",
		101: "552 5.3.4 Message too large: at most 100 octets",
	} {
		tx := inMail(t)
		tx.FromParams.Size = size
		if got := ask(t, MaxSize(100), StageMail, tx); got != want {
			t.Errorf("%d declared: %q", size, got)
		}
		if got := ask(t, MaxSize(100), StageMessage, tx); got != "" {
			t.Errorf("%d declared and not sent: %q", size, got)
		}
		tx.FromParams.Size, tx.Size = 0, size
		if got := ask(t, MaxSize(100), StageMessage, tx); got != want {
			t.Errorf("%d sent: %q", size, got)
		}
		for _, none := range []int64{0, -1} {
			if got := ask(t, MaxSize(none), StageMessage, tx); got != "" {
				t.Errorf("%d sent, no limit: %q", size, got)
			}
		}
	}
}

func TestMaxRecipientsAtItsLimit(t *testing.T) {
	t.Parallel()
	tx := inMail(t)
	for n := 1; n <= 5; n++ {
		tx.To = append(tx.To, Recipient{Path: smtp.ParsePath(fmt.Sprintf("r%d@y.example", n))})
		want := ""
		if n > 3 {
			want = "452 4.5.3 Too many recipients"
		}
		if got := ask(t, MaxRecipients(3), StageRcpt, tx); got != want {
			t.Errorf("recipient %d: %q", n, got)
		}
		if got := ask(t, MaxRecipients(0), StageRcpt, tx); got != "" {
			t.Errorf("recipient %d, no limit: %q", n, got)
		}
	}
}

func TestRequireTLS(t *testing.T) {
	t.Parallel()
	tx := inMail(t)
	if got := ask(t, RequireTLS(), StageMail, tx); got != "530 5.7.0 Must issue a STARTTLS command first" {
		t.Errorf("in clear: %q", got)
	}
	if got := ask(t, RequireTLS(), StageHello, tx); got != "" {
		t.Errorf("at hello: %q", got)
	}
	tx.TLS = &tls.ConnectionState{}
	if got := ask(t, RequireTLS(), StageMail, tx); got != "" {
		t.Errorf("by TLS: %q", got)
	}
}

func TestAcceptDomains(t *testing.T) {
	t.Parallel()
	ours := []string{"Example.ORG", "bücher.example", "xn--fa-hia.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "intern"}
	for to, ok := range map[string]bool{
		"b@example.org":              true,
		"b@EXAMPLE.org":              true,
		"b@example.org.":             true,
		"b@bücher.example":           true,
		"b@BÜCHER.example":           true,
		"b@bu\u0308cher.example":     true,
		"b@xn--bcher-kva.example":    true,
		"b@xn--bcher.example":        false,
		"b@xn--a.example":            false,
		"b@XN--BCHER-KVA.EXAMPLE":    true,
		"b@faß.example":              true,
		"b@[192.0.2.1]":              true,
		"b@[ipv6:2001:DB8:0::1]":     true,
		"b@intern":                   true,
		"postmaster":                 true,
		"PostMaster":                 true,
		"postmaster@example.org":     true,
		"postmaster@other.example":   false,
		"b@sub.example.org":          false,
		"b@example.org.evil.example": false,
		"b@example.com":              false,
		"b@fass.example":             false,
		"b@[192.0.2.2]":              false,
		"b@192.0.2.1":                false,
		"b@":                         false,
		"b":                          false,
		"b@*":                        false,
		"b@\xffexample.org":          false,
	} {
		p, err := AcceptDomains(ours...)
		if err != nil {
			t.Fatal(err)
		}
		got := ask(t, p, StageRcpt, inMail(t, "first@other.example", to))
		if ok != (got == "") || !ok && got != "550 5.7.1 No mail is accepted here for that domain" {
			t.Errorf("%q: %q", to, got)
		}
		any, err := AcceptDomains("x.example", "*")
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, any, StageRcpt, inMail(t, to)); got != "" {
			t.Errorf("%q with *: %q", to, got)
		}
		none, err := AcceptDomains()
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, none, StageRcpt, inMail(t, to)); (got == "") != strings.EqualFold(to, "postmaster") {
			t.Errorf("%q with no domain: %q", to, got)
		}
	}
}

func TestAcceptDomainsRefusesWhatIsNoDomain(t *testing.T) {
	t.Parallel()
	for _, d := range []string{"", "b@example.org", "@example.org", "*.example.org", "[192.0.2.300]", "a b", "a..b", "\xff", ".", "-a", "xn--a.example", "a\u202eb.example"} {
		if _, err := AcceptDomains("example.org", d); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", d)) {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// from is a transaction of a client.
func from(t testing.TB, addr string) *Transaction {
	t.Helper()
	tx := inMail(t)
	tx.Peer = netip.AddrPort{}
	if addr != "" {
		tx.Peer = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
	}
	return tx
}

const slowDown = "450 4.7.1 Too much mail from your address, try again later"

func TestRateLimitOfFiveLetsFiveThroughAndAnswersTheSixth450(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(nil)
		for n := 1; n <= 7; n++ {
			want := ""
			if n > 5 {
				want = slowDown
			}
			if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != want {
				t.Errorf("MAIL %d: %q", n, got)
			}
			for _, stage := range []Stage{StageConnect, StageHello, StageRcpt, StageMessage} {
				if got := ask(t, l, stage, from(t, "192.0.2.1")); got != "" {
					t.Errorf("%v: %q", stage, got)
				}
			}
		}
		if got := ask(t, l, StageMail, from(t, "192.0.2.2")); got != "" {
			t.Errorf("another client: %q", got)
		}
		time.Sleep(time.Minute - 1)
		if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != slowDown {
			t.Errorf("just before the window has passed: %q", got)
		}
		time.Sleep(time.Nanosecond)
		for n := 1; n <= 6; n++ {
			if got := ask(t, l, StageMail, from(t, "192.0.2.1")); (got == "") != (n <= 5) {
				t.Errorf("MAIL %d when it has: %q", n, got)
			}
		}
	})
}

// At no moment may the last window hold more than the limit, wherever it is cut:
// a fixed window would let twice as many through around its edge.
func TestRateLimitWindowTrulySlides(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 2, 3, 5, 7, 16} {
		synctest.Test(t, func(t *testing.T) {
			const window = 60 * time.Second
			l := RateLimit(&RateLimitOptions{Count: count, Window: window})
			var passed []time.Time
			refused := 0
			step := 700 * time.Millisecond
			for i := range 2000 {
				time.Sleep(step * time.Duration(i*i%11+1))
				now := time.Now()
				inWindow := 0
				for _, at := range passed {
					if now.Sub(at) < window {
						inWindow++
					}
				}
				got := ask(t, l, StageMail, from(t, "192.0.2.1"))
				if (got == "") != (inWindow < count) {
					t.Fatalf("limit %d, step %d: %q with %d in the window", count, i, got, inWindow)
				}
				if got == "" {
					passed = append(passed, now)
				} else {
					refused++
				}
			}
			c := l.own.sorts[RateClient].idle.Front().Value.(*rated)
			if len(c.hits) > count {
				t.Errorf("limit %d keeps %d hits", count, len(c.hits))
			}
			if count < 7 && refused == 0 {
				t.Errorf("limit %d was never reached", count)
			}
		})
	}
}

func TestRateLimitClientIsAnIPv4AddressOrAnIPv6Slash64(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:0:0:2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		l := RateLimit(&RateLimitOptions{Count: 1})
		ask(t, l, StageMail, from(t, c.a))
		if got := ask(t, l, StageMail, from(t, c.b)); (got != "") != c.same {
			t.Errorf("%s, then %s: %q", c.a, c.b, got)
		}
	}
	l := RateLimit(&RateLimitOptions{Count: 1})
	for range 3 {
		if got := ask(t, l, StageMail, from(t, "")); got != "" {
			t.Errorf("a peer without address: %q", got)
		}
	}
}

func TestRateLimitNegativeIsNone(t *testing.T) {
	t.Parallel()
	for _, o := range []RateLimitOptions{{Count: -1}, {Window: -1}} {
		l := RateLimit(&o)
		for range 20 {
			if got := ask(t, l, StageMail, from(t, "192.0.2.1")); got != "" {
				t.Fatalf("%+v: %q", o, got)
			}
		}
	}
	l := RateLimit(&RateLimitOptions{Entries: -1})
	for i := range 300 {
		ask(t, l, StageMail, from(t, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()))
	}
	if l.Len() != 300 {
		t.Errorf("%d entries", l.Len())
	}
}

func TestRateLimitTableIsBoundedAndForgetsTheIdlest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(&RateLimitOptions{Count: 1, Entries: 3})
		for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			ask(t, l, StageMail, from(t, a))
			time.Sleep(time.Second)
		}
		ask(t, l, StageMail, from(t, "192.0.2.1")) // refused, but not idle
		if l.Len() != 3 {
			t.Errorf("%d entries", l.Len())
		}
		ask(t, l, StageMail, from(t, "192.0.2.4"))
		if l.Len() != 3 {
			t.Errorf("past its bound: %d entries", l.Len())
		}
		for _, c := range []struct {
			addr string
			want string
		}{{"192.0.2.1", slowDown}, {"192.0.2.3", slowDown}, {"192.0.2.4", slowDown}, {"192.0.2.2", ""}} {
			if got := ask(t, l, StageMail, from(t, c.addr)); got != c.want {
				t.Errorf("%s: %q", c.addr, got)
			}
		}
	})
}

func TestRateLimitForgetsThoseWhoseWindowHasPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := RateLimit(nil)
		for i := range 100 {
			ask(t, l, StageMail, from(t, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()))
		}
		time.Sleep(time.Minute)
		for range 100 {
			ask(t, l, StageMail, from(t, "192.0.2.1"))
		}
		if l.Len() != 1 || l.own.sorts[RateClient].idle.Len() != 1 {
			t.Errorf("%d entries are left", l.Len())
		}
	})
}

func BenchmarkRateLimitFullTable(b *testing.B) {
	l := RateLimit(nil)
	tx := inMail(b)
	for i := 0; b.Loop(); i++ {
		tx.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		l.Check(b.Context(), StageMail, tx)
	}
}
