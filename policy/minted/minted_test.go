package minted

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

const (
	keyA = "a key of some length"
	keyB = "another of that length"
)

func minter(t *testing.T, at time.Time, keys ...string) *Minter {
	t.Helper()
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, []byte(k))
	}
	m, err := New(raw...)
	if err != nil {
		t.Fatal(err)
	}
	m.now = func() time.Time { return at }
	return m
}

func mint(t *testing.T, m *Minter, a Address) string {
	t.Helper()
	s, err := m.Mint(a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestAnAddressSaysWhatItWasMintedWith(t *testing.T) {
	t.Parallel()
	m := minter(t, noon, keyA)
	for _, a := range []Address{
		{Route: "tickets", Domain: "example.org", Data: "4711", Expires: noon.Add(time.Hour)},
		{Route: "t", Domain: "bücher.example", Data: "\x00\xff octets", Expires: noon.Add(time.Second)},
		{Route: "a.b_c-9", Domain: "example.org"},
		{Route: strings.Repeat("r", 24), Domain: "example.org", Data: strings.Repeat("d", 10)},
		{Route: "tickets", Domain: "example.org", Data: strings.Repeat("x", 21)},
	} {
		s := mint(t, m, a)
		if local, _, _ := strings.Cut(s, "@"); len(local) > 64 || strings.ToLower(local) != local {
			t.Errorf("%s: a local part of %d octets", s, len(local))
		}
		if got, err := m.Open(s); err != nil || got != a {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, a)
		}
		if got, err := m.Open(strings.ToUpper(s)); err != nil || got.Data != a.Data || got.Route != a.Route {
			t.Errorf("%s in capitals: %+v, %v", s, got, err)
		}
	}
	if _, err := m.Open(strings.Replace(mint(t, m, Address{Route: "t", Domain: "bücher.example"}), "bücher", "xn--bcher-kva", 1)); err != nil {
		t.Errorf("in A-labels: %v", err)
	}
}

func TestAnAddressThatWasChangedAnywhereIsForged(t *testing.T) {
	t.Parallel()
	m := minter(t, noon, keyA)
	s := mint(t, m, Address{Route: "tickets", Domain: "example.org", Data: "4711", Expires: noon.Add(time.Hour)})
	for i := range s {
		others := "a2+@.x"
		if i == strings.Index(s, "@")-1 { // some of its bits may be nobody's
			others += "abcdefghijklmnopqrstuvwxyz234567"
		}
		for _, c := range []byte(others) {
			changed := s[:i] + string(c) + s[i+1:]
			if strings.EqualFold(changed, s) {
				continue
			}
			if a, err := m.Open(changed); !errors.Is(err, ErrForged) {
				t.Errorf("%s: %+v, %v", changed, a, err)
			}
		}
	}
	for _, other := range []string{"", "tickets@example.org", "tickets+@example.org", "tickets+abc@example.org", s[:len(s)-1], "x" + s,
		strings.Replace(s, "@", "a@", 1), strings.Replace(s, "@", "=@", 1), strings.Replace(s, "+", "++", 1)} {
		if _, err := m.Open(other); !errors.Is(err, ErrForged) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestAnAddressExpiresAtItsSecond(t *testing.T) {
	t.Parallel()
	at := noon.Add(time.Hour)
	s := mint(t, minter(t, noon, keyA), Address{Route: "t", Domain: "example.org", Data: "d", Expires: at})
	for now, want := range map[time.Time]error{at.Add(-time.Nanosecond): nil, at: ErrExpired, at.Add(time.Hour): ErrExpired} {
		if a, err := minter(t, now, keyA).Open(s); !errors.Is(err, want) || a.Data != "d" {
			t.Errorf("at %v: %+v, %v, want %v", now, a, err, want)
		}
	}
}

func TestTheFirstKeySignsAndEachVerifies(t *testing.T) {
	t.Parallel()
	old, both, new := minter(t, noon, keyA), minter(t, noon, keyB, keyA), minter(t, noon, keyB)
	a := Address{Route: "t", Domain: "example.org", Data: "d"}
	byOld, byBoth := mint(t, old, a), mint(t, both, a)
	if _, err := both.Open(byOld); err != nil {
		t.Error(err)
	}
	if _, err := new.Open(byBoth); err != nil {
		t.Error(err)
	}
	if _, err := new.Open(byOld); !errors.Is(err, ErrForged) {
		t.Errorf("without its key: %v", err)
	}
}

func TestWhatDoesNotFitIsNamed(t *testing.T) {
	t.Parallel()
	m := minter(t, noon, keyA)
	for want, a := range map[string]Address{
		"21 fit":    {Route: "tickets", Domain: "example.org", Data: strings.Repeat("x", 22)},
		"use 1":     {Route: "Tickets", Domain: "example.org"},
		"to 24":     {Route: strings.Repeat("r", 25), Domain: "example.org"},
		"no domain": {Route: "t", Domain: "a@b"},
		"expire at": {Route: "t", Domain: "example.org", Expires: time.Unix(1<<32, 0)},
	} {
		if _, err := m.Mint(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", a, err, want)
		}
	}
	if _, err := New([]byte("fifteen octets.")); err == nil {
		t.Error("a key of 15 octets is taken")
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# new\n"+keyB+"\n\n"+keyA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(file); err != nil || len(m.keys) != 2 || string(m.keys[0]) != keyB {
		t.Errorf("from a file: %v", err)
	}
}

func TestThePolicyRefusesWhatIsForgedOrExpiredAndKeepsWhatAnAddressSays(t *testing.T) {
	t.Parallel()
	m := minter(t, noon, keyA)
	p, err := m.Policy("tickets", "inbox")
	if err != nil {
		t.Fatal(err)
	}
	good := mint(t, m, Address{Route: "tickets", Domain: "example.org", Data: "4711", Expires: noon.Add(time.Hour)})
	odd := mint(t, m, Address{Route: "inbox", Domain: "example.org", Data: "\xff"})
	late := mint(t, m, Address{Route: "inbox", Domain: "example.org", Expires: noon})
	tx := &policy.Transaction{}
	tx.Begin(smtp.Path{}, smtp.MailParams{})
	for _, c := range []struct {
		to, want string
	}{
		{good, ""}, {odd, ""}, {"somebody@example.org", ""}, {"tickets2+x@example.org", ""},
		{late, "5.1.6"}, {"tickets@example.org", "5.1.1"}, {"Tickets+x@example.org", "5.1.1"}, {`"tickets+x"@example.org`, "5.1.1"},
		{strings.Replace(good, "tickets", "inbox", 1), "5.1.1"},
	} {
		tx.To = append(tx.To, policy.Recipient{Path: smtp.ParsePath(c.to)})
		err := p.Check(t.Context(), policy.StageRcpt, tx)
		var r *smtp.Reply
		if (err != nil) != (c.want != "") || c.want != "" && (!errors.As(err, &r) || r.Code != 550 || r.Enhanced.String() != c.want) {
			t.Errorf("%s: %v, want %s", c.to, err, c.want)
		}
	}
	facts := tx.Facts()
	if f, found, err := Of(facts, good); err != nil || !found || f.Route != "tickets" || f.Data != "4711" || !f.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v, %v, %v", f, found, err)
	}
	if f, found, err := Of(facts, odd); err != nil || !found || f.Data != "\ufffd" || string(f.Base64) != "\xff" || f.Expires != nil {
		t.Errorf("%+v, %v, %v", f, found, err)
	}
	if _, found, err := Of(facts, "somebody@example.org"); found || err != nil {
		t.Errorf("somebody: %v, %v", found, err)
	}
	if _, _, err := Of(map[string]json.RawMessage{FactName: json.RawMessage(`1`)}, good); err == nil {
		t.Error("a fact that is none of ours is taken")
	}
	for _, routes := range [][]string{nil, {"A"}} {
		if _, err := m.Policy(routes...); err == nil {
			t.Errorf("routes %q are taken", routes)
		}
	}
}

func FuzzOpen(f *testing.F) {
	m, err := New([]byte(keyA))
	if err != nil {
		f.Fatal(err)
	}
	s, err := m.Mint(Address{Route: "t", Domain: "example.org", Data: "d"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s)
	f.Add("t+aaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.org")
	f.Fuzz(func(t *testing.T, address string) {
		a, err := m.Open(address)
		if err == nil && (a.Route != "t" || a.Data != "d") {
			t.Errorf("%q says %+v", address, a)
		}
	})
}
