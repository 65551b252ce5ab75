package dnsbl_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/dnsbl"
	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/incoming-mx/incoming/smtp"
)

// fake is a DNS of names and their addresses. "trouble" is one that does not answer,
// "hang" one that answers nothing until the asker gives up, "panic" panics; "gate"
// lets what follows wait.
type fake struct {
	resolver.Resolver // nothing else is asked
	mu                sync.Mutex
	records           map[string]string
	asked             []string
	gate              chan struct{} // what "gate" waits for
}

func (f *fake) LookupIP(ctx context.Context, network, host string) ([]net.IP, error) {
	f.mu.Lock()
	f.asked = append(f.asked, host)
	records := f.records[host]
	f.mu.Unlock()
	if network != "ip4" {
		return nil, fmt.Errorf("%s was asked for", network)
	}
	var ips []net.IP
	for word := range strings.FieldsSeq(records) {
		switch word {
		case "panic":
			panic("oh")
		case "hang":
			<-ctx.Done()
			return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: true}
		case "gate":
			select {
			case <-f.gate:
				continue
			case <-ctx.Done():
				return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: true}
			}
		case "trouble":
			return nil, &net.DNSError{Err: "servfail", Name: host, IsTemporary: true}
		}
		ips = append(ips, net.ParseIP(word))
	}
	if ips == nil {
		return nil, &net.DNSError{Err: "no such name", Name: host, IsNotFound: true}
	}
	return ips, nil
}

func (f *fake) set(host, records string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records[host] = records
}

// took is how often a name was asked about since the last call.
func (f *fake) took(host string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if a == host {
			n++
		}
	}
	f.asked = nil
	return n
}

// bl is a DNS in which a.example and b.example are lists that are well.
func bl(records map[string]string) *fake {
	f := &fake{records: map[string]string{"2.0.0.127.a.example.": "127.0.0.2", "2.0.0.127.b.example.": "127.0.0.2"}}
	for name, r := range records {
		f.records[name] = r
	}
	return f
}

func codes(t testing.TB, texts ...string) (cs []dnsbl.Codes) {
	t.Helper()
	for _, s := range texts {
		c, err := dnsbl.ParseCodes(s)
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return cs
}

func made(t testing.TB, r resolver.Resolver, o *dnsbl.Options, zones ...dnsbl.Zone) *policy.Chain {
	t.Helper()
	if o == nil {
		o = &dnsbl.Options{OnZone: func(zone string, why error) {
			if why != nil {
				t.Errorf("%s is switched off: %v", zone, why)
			}
		}}
	}
	p, err := dnsbl.New(r, zones, o)
	if err != nil {
		t.Fatal(err)
	}
	return policy.NewChain([]policy.Policy{p}, nil)
}

// outcome is what comes of a message from a peer: the refusal of its recipient, the
// mark, the facts.
type outcome struct{ reply, mark, facts string }

func mail(t testing.TB, c *policy.Chain, peer string) (o outcome) {
	t.Helper()
	tx := &policy.Transaction{}
	if peer != "" {
		tx.Peer = netip.AddrPortFrom(netip.MustParseAddr(peer), 25)
	}
	for _, stage := range []policy.Stage{policy.StageConnect, policy.StageHello, policy.StageMail, policy.StageRcpt} {
		switch stage {
		case policy.StageMail:
			tx.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{})
		case policy.StageRcpt:
			tx.To = []policy.Recipient{{Path: smtp.ParsePath("b@y.example")}}
		}
		if err := c.Check(t.Context(), stage, tx); err != nil {
			var r *policy.Refusal
			if !errors.As(err, &r) || stage != policy.StageRcpt {
				t.Fatalf("at %v: %v", stage, err)
			}
			o.reply, _, _ = strings.Cut(r.Reply.String(), " (ref ")
		}
	}
	o.mark = tx.Quarantined()
	if f := tx.Fact("dnsbl.listed"); f != nil {
		o.facts = string(f) + " " + string(tx.Fact("dnsbl.zones"))
	}
	return o
}

func TestAListedClientIsRefusedMarkedOrNoted(t *testing.T) {
	t.Parallel()
	one := `true [{"zone":"a.example","codes":["127.0.0.4"]}]`
	for name, c := range map[string]struct {
		records map[string]string
		zones   []dnsbl.Zone
		peer    string
		want    outcome
	}{
		"reject is the default": {map[string]string{"7.2.0.192.a.example.": "127.0.0.4"}, []dnsbl.Zone{{Name: "A.example"}}, "192.0.2.7",
			outcome{"550 5.7.1 Your address is listed by a.example", "", one}},
		"quarantine": {map[string]string{"7.2.0.192.a.example.": "127.0.0.4"}, []dnsbl.Zone{{Name: "a.example", Action: dnsbl.Quarantine}}, "192.0.2.7",
			outcome{"", "listed by a.example", one}},
		"fact": {map[string]string{"7.2.0.192.a.example.": "127.0.0.4"}, []dnsbl.Zone{{Name: "a.example", Action: dnsbl.Fact}}, "192.0.2.7",
			outcome{"", "", one}},
		"the first that refuses is named": {map[string]string{"7.2.0.192.a.example.": "127.0.0.4", "7.2.0.192.b.example.": "127.0.0.3 127.0.0.2 127.0.0.99"},
			[]dnsbl.Zone{{Name: "a.example", Action: dnsbl.Fact}, {Name: "b.example"}}, "192.0.2.7",
			outcome{"550 5.7.1 Your address is listed by b.example", "", `true [{"zone":"a.example","codes":["127.0.0.4"]},{"zone":"b.example","codes":["127.0.0.2","127.0.0.3"]}]`}},
		"an address by IPv4 written as IPv6": {map[string]string{"7.2.0.192.a.example.": "127.0.0.4"}, []dnsbl.Zone{{Name: "a.example"}}, "::ffff:192.0.2.7",
			outcome{"550 5.7.1 Your address is listed by a.example", "", one}},
		"an address by IPv6": {map[string]string{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.1.0.0.8.b.d.0.1.0.0.2.a.example.": "127.0.0.4"},
			[]dnsbl.Zone{{Name: "a.example"}}, "2001:db8:12::7", outcome{"550 5.7.1 Your address is listed by a.example", "", one}},
		"a code that does not count": {map[string]string{"7.2.0.192.a.example.": "127.0.0.12 127.0.0.1 127.0.1.4"}, []dnsbl.Zone{{Name: "a.example"}}, "192.0.2.7", outcome{}},
		"not listed":                 {nil, []dnsbl.Zone{{Name: "a.example"}}, "192.0.2.7", outcome{}},
		"trouble is no listing":      {map[string]string{"7.2.0.192.a.example.": "trouble"}, []dnsbl.Zone{{Name: "a.example"}}, "192.0.2.7", outcome{}},
		"nor is a panic":             {map[string]string{"7.2.0.192.a.example.": "panic"}, []dnsbl.Zone{{Name: "a.example"}}, "192.0.2.7", outcome{}},
		"trouble of one hides no other": {map[string]string{"7.2.0.192.a.example.": "trouble", "7.2.0.192.b.example.": "127.0.0.2"},
			[]dnsbl.Zone{{Name: "a.example"}, {Name: "b.example"}}, "192.0.2.7",
			outcome{"550 5.7.1 Your address is listed by b.example", "", `true [{"zone":"b.example","codes":["127.0.0.2"]}]`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range c.zones {
				c.zones[i].Codes = codes(t, "127.0.0.2-127.0.0.11")
			}
			if got := mail(t, made(t, bl(c.records), nil, c.zones...), c.peer); got != c.want {
				t.Errorf("%+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestTheRefusalSaysWhy(t *testing.T) {
	t.Parallel()
	c := made(t, bl(map[string]string{"7.2.0.192.a.example.": "127.0.0.4 127.0.0.2"}), nil, dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2", "127.0.0.4")})
	tx := &policy.Transaction{Peer: netip.MustParseAddrPort("192.0.2.7:25")}
	tx.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{})
	if err := c.Check(t.Context(), policy.StageMail, tx); err != nil {
		t.Fatal(err)
	}
	var r *policy.Refusal
	if err := c.Check(t.Context(), policy.StageRcpt, tx); !errors.As(err, &r) {
		t.Fatal(err)
	}
	if want := "192.0.2.7 is listed by a.example with 127.0.0.2, 127.0.0.4: 550 5.7.1 Your address is listed by a.example"; r.Reason != want || r.Rule != "a.example" || r.Policy != "dnsbl" {
		t.Errorf("%+v", r)
	}
	if got := fmt.Sprint(r.Inputs); got != "[client=192.0.2.7 codes=127.0.0.2, 127.0.0.4]" {
		t.Errorf("inputs %s", got)
	}
}

// D19: a list that does not answer is told of as a failure, and mail goes on.
func TestAQuestionWithoutAnAnswerIsAFailureThatIsTold(t *testing.T) {
	t.Parallel()
	f := bl(map[string]string{"7.2.0.192.a.example.": "trouble", "7.2.0.192.b.example.": "127.0.0.2"})
	for action, want := range map[dnsbl.Action]string{
		dnsbl.Fact:       "mail fail_open no_answer zone a.example: lookup 7.2.0.192.a.example.: servfail",
		dnsbl.Quarantine: "mail quarantine b.example listed by b.example",
	} {
		p, err := dnsbl.New(f, []dnsbl.Zone{{Name: "a.example", Codes: codes(t, "127.0.0.2")}, {Name: "b.example", Codes: codes(t, "127.0.0.2"), Action: action}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var decided []string
		c := policy.NewChain([]policy.Policy{p}, &policy.ChainOptions{OnDecision: func(_ *policy.Transaction, d policy.Decision) {
			decided = append(decided, fmt.Sprint(d.Stage, " ", d.Kind, " ", d.Rule, " ", d.Reason))
		}})
		if got := mail(t, c, "192.0.2.7"); got.reply != "" || got.facts == "" {
			t.Errorf("%+v", got)
		}
		if !slices.Equal(decided, []string{want}) {
			t.Errorf("%q, want %q", decided, want)
		}
	}
}

func TestWhoIsNoStrangerIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	for _, peer := range []string{"", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd00::1", "fe80::1%eth0", "198.51.100.7", "2001:db8:7::1"} {
		f := bl(nil)
		p, err := dnsbl.New(f, []dnsbl.Zone{{Name: "a.example", Codes: codes(t, "127.0.0.2")}},
			&dnsbl.Options{Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:7::/48")}})
		if err != nil {
			t.Fatal(err)
		}
		mail(t, policy.NewChain([]policy.Policy{p}, nil), peer)
		if len(f.asked) > 0 {
			t.Errorf("%s: asked %q", peer, f.asked)
		}
	}
}

// told keeps what OnZone is told.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (r *told) options() *dnsbl.Options {
	return &dnsbl.Options{OnZone: func(zone string, why error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines = append(r.lines, fmt.Sprintf("%s: %v", zone, why))
	}}
}

func (r *told) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.lines = nil }()
	return strings.Join(r.lines, "|")
}

func TestAZoneThatCannotBeBelievedIsSwitchedOff(t *testing.T) {
	t.Parallel()
	const client, test, other = "7.2.0.192.a.example.", "2.0.0.127.a.example.", "1.0.0.127.a.example."
	for name, c := range map[string]struct {
		host, records string // what is wrong
		told          string
	}{
		"it lists everybody":               {other, "127.0.0.2", "a.example: it lists 127.0.0.1, so it may list everybody"},
		"it lists nobody":                  {test, "", "a.example: it does not list 127.0.0.2, so it is no list, or none any more"},
		"the test is answered by an error": {test, "127.255.255.254", "a.example: it answers 127.255.255.254, which is no listing"},
		"a client is":                      {client, "127.255.255.255", "a.example: <nil>|a.example: it answers 127.255.255.255, which is no listing"},
		"its domain is parked":             {client, "203.0.113.9", "a.example: <nil>|a.example: it answers 203.0.113.9, which is no listing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var said told
				f := bl(map[string]string{client: "127.0.0.2"})
				well := f.records[c.host]
				f.set(c.host, c.records)
				chain := made(t, f, said.options(), dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2-127.0.0.254")})
				refused := func(want bool) {
					t.Helper()
					if got := mail(t, chain, "192.0.2.7"); (got.reply != "") != want {
						t.Errorf("%+v", got)
					}
					synctest.Wait() // for a test that goes on
				}
				refused(false)
				if got := said.take(); got != c.told {
					t.Errorf("told %q, want %q", got, c.told)
				}
				f.took("")
				refused(false)
				if n := f.took(client); n != 0 {
					t.Error("it is still asked")
				}
				f.set(c.host, well)
				time.Sleep(10*time.Minute - time.Nanosecond)
				refused(false)
				time.Sleep(time.Nanosecond)
				refused(false) // the test is under way
				if got := said.take(); got != "a.example: <nil>" {
					t.Errorf("told %q", got)
				}
				refused(true)
			})
		})
	}
}

func TestAZoneThatDoesNotAnswerIsLeftAloneForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said told
		f := bl(map[string]string{"7.2.0.192.a.example.": "trouble", "8.2.0.192.a.example.": "127.0.0.2"})
		chain := made(t, f, said.options(), dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2")})
		for range 2 {
			mail(t, chain, "192.0.2.7")
		}
		if got := mail(t, chain, "192.0.2.8"); got.reply == "" { // an answer begins the count anew
			t.Errorf("%+v", got)
		}
		for range 2 {
			mail(t, chain, "192.0.2.7")
		}
		if got := said.take(); got != "a.example: <nil>" {
			t.Errorf("told %q", got)
		}
		mail(t, chain, "192.0.2.7")
		if got := said.take(); !strings.HasPrefix(got, "a.example: lookup 7.2.0.192.a.example.: servfail") {
			t.Errorf("told %q", got)
		}
		f.took("")
		if got := mail(t, chain, "192.0.2.8"); got != (outcome{}) || f.took("8.2.0.192.a.example.") != 0 {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Minute)
		mail(t, chain, "192.0.2.8")
		synctest.Wait()
		if got := mail(t, chain, "192.0.2.8"); got.reply == "" || said.take() != "a.example: <nil>" {
			t.Errorf("%+v", got)
		}
	})
}

func TestAClientThatLeavesIsNoFaultOfAZone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said told
		f := bl(map[string]string{"2.0.0.127.a.example.": "gate 127.0.0.2", "7.2.0.192.a.example.": "hang", "8.2.0.192.a.example.": "127.0.0.2"})
		f.gate = make(chan struct{})
		chain := made(t, f, said.options(), dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2")})
		leave := func() {
			ctx, cancel := context.WithCancel(t.Context())
			tx := &policy.Transaction{Peer: netip.MustParseAddrPort("192.0.2.7:25")}
			tx.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = chain.Check(ctx, policy.StageMail, tx) // nobody is there to be told
			}()
			synctest.Wait()
			cancel()
			<-done
		}
		leave() // during the first test
		close(f.gate)
		synctest.Wait()
		for range 5 {
			leave()
		}
		if got := mail(t, chain, "192.0.2.8"); got.reply == "" {
			t.Errorf("%+v", got)
		}
		if got := said.take(); got != "a.example: <nil>" {
			t.Errorf("told %q", got)
		}
	})
}

// A14: lists that do not answer hold a message up for no longer than is allowed, all
// of them together, and refuse nobody.
func TestListsThatHangHoldUpNoMessageForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said told
		f := bl(map[string]string{"7.2.0.192.a.example.": "hang", "7.2.0.192.b.example.": "hang"})
		o := said.options()
		o.Timeout = 4 * time.Second
		chain := made(t, f, o, dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2")}, dnsbl.Zone{Name: "b.example", Codes: codes(t, "127.0.0.2")})
		start := time.Now()
		if got := mail(t, chain, "192.0.2.7"); got != (outcome{}) {
			t.Errorf("%+v", got)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestAZoneIsTestedOnceAndEachHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bl(nil)
		chain := made(t, f, nil, dnsbl.Zone{Name: "a.example", Codes: codes(t, "127.0.0.2")})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { mail(t, chain, "192.0.2.7") })
		}
		all.Wait()
		if n := f.took("2.0.0.127.a.example."); n != 1 {
			t.Errorf("tested %d times", n)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		mail(t, chain, "192.0.2.7")
		synctest.Wait()
		if n := f.took("2.0.0.127.a.example."); n != 0 {
			t.Errorf("tested before its time")
		}
		time.Sleep(time.Nanosecond)
		mail(t, chain, "192.0.2.7")
		synctest.Wait()
		if n := f.took("2.0.0.127.a.example."); n != 1 {
			t.Errorf("in its time tested %d times", n)
		}
	})
}

func TestObservedNobodyIsRefusedAndTheFactsAreKept(t *testing.T) {
	t.Parallel()
	p, err := dnsbl.New(bl(map[string]string{"7.2.0.192.a.example.": "127.0.0.2"}), []dnsbl.Zone{{Name: "a.example", Codes: codes(t, "127.0.0.2")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var decided []string
	c := policy.NewChain([]policy.Policy{policy.Observe(p)}, &policy.ChainOptions{OnDecision: func(_ *policy.Transaction, d policy.Decision) {
		decided = append(decided, fmt.Sprint(d.Policy, " ", d.Stage, " ", d.Kind, " ", d.Rule, " ", d.Observed))
	}})
	if got := mail(t, c, "192.0.2.7"); got != (outcome{facts: `true [{"zone":"a.example","codes":["127.0.0.2"]}]`}) {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(decided, []string{"dnsbl rcpt reject a.example true"}) {
		t.Errorf("%q", decided)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"127.0.0.2", "127.0.0.2-127.0.0.11", "127.0.1.0-127.0.1.255", "127.0.0.0-127.255.254.255"} {
		if c := codes(t, good)[0]; c.String() != good {
			t.Errorf("%s is shown as %s", good, c)
		}
	}
	for bad, want := range map[string]string{
		"":                          `"" is no code of a list`,
		"2":                         "is no code of a list",
		"192.0.2.1":                 "is no code of a list",
		"127.0.0.2-192.0.2.1":       "is no code of a list",
		"::ffff:127.0.0.2":          "is no code of a list",
		"127.0.0.9-127.0.0.2":       "ends before it begins; write 127.0.0.2-127.0.0.9",
		"127.0.0.2-127.255.0.0":     "",
		"127.255.255.254":           "leave them out",
		"127.0.0.2-127.255.255.255": "leave them out",
	} {
		if _, err := dnsbl.ParseCodes(bad); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAZoneThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	cs := codes(t, "127.0.0.2")
	for want, zones := range map[string][]dnsbl.Zone{
		`zone "" is no domain`:                {{Codes: cs}},
		`zone "example" is no domain`:         {{Name: "example", Codes: cs}},
		`zone "[192.0.2.1]" is no domain`:     {{Name: "[192.0.2.1]", Codes: cs}},
		`zone "a b.example" is no domain`:     {{Name: "a b.example", Codes: cs}},
		"zone a.example is named twice":       {{Name: "a.example", Codes: cs}, {Name: "A.example.", Codes: cs}},
		"zone a.example has no codes":         {{Name: "a.example"}},
		`zone a.example: "drop" is no action`: {{Name: "a.example", Codes: cs, Action: "drop"}},
	} {
		if _, err := dnsbl.New(bl(nil), zones, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
