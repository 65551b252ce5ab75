package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// A recipient elsewhere is refused as such, and the application is not asked.
func TestRecipientsAreAskedAboutInOurDomainsOnly(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	for _, s := range []string{"domains=example.org", "recipients=bob@example.org,http://127.0.0.1:1/none", "recipient_lookup.delimiters=none"} {
		if err := cfg.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newParts(cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	chain := policy.NewChain(p.policies, nil)
	for to, want := range map[string]string{
		"bob@example.org":       "",
		"bob@elsewhere.example": "550 5.7.1 No mail is accepted here for that domain",
		"bob+x@example.org":     "451 4.3.0 Local problem, try again later", // without tags it is asked about
	} {
		tx := &policy.Transaction{InMail: true, To: []policy.Recipient{{Path: smtp.ParsePath(to)}}}
		err := chain.Check(t.Context(), policy.StageRcpt, tx)
		got := ""
		var r *policy.Refusal
		if errors.As(err, &r) {
			got, _, _ = strings.Cut(r.Reply.String(), " (ref ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}

// All policies ask by one resolver; what it remembers goes on over a reload that
// does not touch dns.servers.
func TestPoliciesShareOneResolverAcrossReloads(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	if err := cfg.Set("dns.servers=192.0.2.53,[2001:db8::53]:5353"); err != nil {
		t.Fatal(err)
	}
	first, again, other := new(parts), new(parts), new(parts)
	one, err := first.resolver(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := first.resolver(cfg, nil); err != nil || two != one {
		t.Errorf("a second policy gets another: %v", err)
	}
	if two, err := again.resolver(cfg.Clone(), first); err != nil || two != one {
		t.Errorf("after a reload it is another: %v", err)
	}
	if err := cfg.Set("dns.servers=192.0.2.54"); err != nil {
		t.Fatal(err)
	}
	if two, err := other.resolver(cfg, again); err != nil || two == one {
		t.Errorf("after a change it is the same: %v", err)
	}
	if err := cfg.Set("dns.servers="); err != nil {
		t.Fatal(err)
	}
	if _, err := new(parts).resolver(cfg, nil); err == nil || !strings.Contains(err.Error(), "dns.servers") {
		t.Errorf("no server will do: %v", err)
	}
}

// The rate limit's counts are what is set, and by address also when the policy is
// merely named; what has counted goes on over a reload that does not touch it.
func TestRateLimitOfAConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set                []string
		client, mail, rcpt int // how many are let through
	}{
		{[]string{"policies=rate_limit"}, 5, 9, 9},
		{[]string{"rate_limit.count=2"}, 2, 9, 9},
		{[]string{"rate_limit.sender_count=2"}, 9, 2, 9},
		{[]string{"rate_limit.recipient_count=2"}, 9, 9, 2},
		{[]string{"policies=rate_limit", "rate_limit.recipient_count=2"}, 5, 9, 2},
		{[]string{"policies=rate_limit", "rate_limit.count=none", "rate_limit.sender_count=3"}, 9, 3, 9},
	} {
		cfg := config.Default()
		for _, s := range c.set {
			if err := cfg.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		first, err := newParts(cfg, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		again, err := newParts(cfg, first, slog.New(slog.DiscardHandler))
		if err != nil || len(again.policies) != 1 || again.limiter != first.limiter {
			t.Fatalf("%v: %v, %d policies, %t", c.set, err, len(again.policies), again.limiter == first.limiter)
		}
		asked := func(n int, of func(i int) (policy.Stage, *policy.Transaction)) (passed int) {
			for i := range n {
				stage, tx := of(i)
				if again.policies[0].Check(t.Context(), stage, tx) == nil {
					passed++
				}
			}
			return passed
		}
		tx := func(i int, domain string) *policy.Transaction {
			return &policy.Transaction{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1), From: smtp.Path{Local: "a", Domain: domain},
				To: []policy.Recipient{{Path: smtp.Path{Local: "b", Domain: "example.org"}}}}
		}
		client := asked(9, func(i int) (policy.Stage, *policy.Transaction) {
			return policy.StageMail, tx(100, fmt.Sprint(i, ".example"))
		})
		mail := asked(9, func(i int) (policy.Stage, *policy.Transaction) { return policy.StageMail, tx(i, "example.net") })
		rcpt := asked(9, func(i int) (policy.Stage, *policy.Transaction) { return policy.StageRcpt, tx(i, "example.net") })
		if client != c.client || mail != c.mail || rcpt != c.rcpt {
			t.Errorf("%v: %d of a client, %d of a sender, %d for a recipient, want %d, %d, %d", c.set, client, mail, rcpt, c.client, c.mail, c.rcpt)
		}
	}
}

// TestAReloadNamesEveryFileThatItReads: those of parts that a route alone uses,
// or a policy, were read and not named.
func TestAReloadNamesEveryFileThatItReads(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	for _, s := range []string{
		"domains=example.org", "delivery.to=discard", "webhook.secret_file=hook.secret", "s3.endpoint=http://127.0.0.1:1", "s3.access_key=a",
		"s3.secret_key_file=s3.secret", "http_policy.url=http://127.0.0.1:1", "http_policy.secret_file=policy.secret",
		"minted.key_file=minted.keys", `minted.routes=["tickets"]`, "access_list.file=access", "relay.tls_ca=inner.pem",
	} {
		if err := cfg.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{file: "incoming.toml"}
	always := []string{"incoming.toml", "access", "policy.secret", "minted.keys"}
	if got := slices.Sorted(slices.Values(d.files(cfg))); !slices.Equal(got, slices.Sorted(slices.Values(always))) {
		t.Errorf("%q", got)
	}
	for target, more := range map[string][]string{"http://127.0.0.1:1": {"hook.secret"}, "s3:bucket": {"s3.secret"},
		"smtp:mail.example:25": {"inner.pem"}, "lmtp:mail.example:24": {"inner.pem"}} {
		var to config.Target
		if err := to.UnmarshalText([]byte(target)); err != nil {
			t.Fatal(err)
		}
		routed := *cfg
		routed.Routes = []config.Route{{Name: "tickets", To: []config.Target{to}}}
		want := slices.Sorted(slices.Values(append(more, always...)))
		if got := slices.Sorted(slices.Values(d.files(&routed))); !slices.Equal(got, want) {
			t.Errorf("%s: %q", target, got)
		}
	}
}
