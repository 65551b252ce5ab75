package main

import (
	"encoding"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

func TestRecipientsAreComparedAsMailDoes(t *testing.T) {
	t.Parallel()
	var list []config.Known
	for _, s := range []string{"Bob@example.org", "bob@bücher.example", "@Lists.example.org", "@[192.0.2.1]", "grüße@xn--fa-hia.example"} {
		var r config.Known
		if err := encoding.TextUnmarshaler(&r).UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	known, err := recipientsOf(list)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"bob@example.org":             true,
		"BOB@EXAMPLE.ORG":             true,
		"bob@xn--bcher-kva.example":   true,
		"bob@BÜCHER.example":          true,
		"bob@bu\u0308cher.example":    true,
		`"b\ob"@bücher.example`:       true,
		"GRÜße@faß.example":           true,
		"gru\u0308ße@faß.example":     true,
		"grüße@fass.example":          false,
		"grusse@faß.example":          false,
		"any@lists.example.org":       true,
		"any@[192.0.2.1]":             true,
		"alice@example.org":           false,
		"alice@xn--bcher-kva.example": false,
		"bob@sub.example.org":         false,
		"bob@elsewhere.example":       false,
	} {
		if got := known(t.Context(), smtp.ParsePath(address)); (got == nil) != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if all, err := recipientsOf(nil); all != nil || err != nil {
		t.Error("without a list somebody is unknown")
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
