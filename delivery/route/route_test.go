package route_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/queue"
)

const letter = "From: a@x.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= to\r\n you\r\nX-Kind: order\r\n\r\nhello\r\n"

// message is letter from a@x.example to those.
func message(attempt int, to ...string) *queue.Message {
	e := queue.Entry{ID: "m1", Attempts: attempt - 1}
	e.ReceivedAt = time.Now()
	e.Envelope.MailFrom = "A@X.example"
	e.Facts = queue.Facts{"mailauth.results": json.RawMessage(`{"from":{"result":"pass","n":2,"by":["dkim","spf"]}}`), "x.flag": json.RawMessage(`true`),
		"minted.addresses": json.RawMessage(`{"t+abc@y.example":{"route":"t","data":"7"}}`)}
	for _, a := range to {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: a})
	}
	return deliverytest.NewMessage(e, letter)
}

// place is an adapter that keeps whom it was called for, and answers verdict.
type place struct {
	mu      sync.Mutex
	calls   []string
	verdict func(m *queue.Message) error
}

func (p *place) Deliver(_ context.Context, m *queue.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, strings.Join(m.Envelope.Addresses(), ","))
	if p.verdict == nil {
		return nil
	}
	return p.verdict(m)
}

func (p *place) answer(err error) { p.verdict = func(*queue.Message) error { return err } }

func (p *place) were(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.calls, want) {
		t.Errorf("called for %q, want %q", p.calls, want)
	}
}

func to(name string, a delivery.Adapter) []route.Destination {
	return []route.Destination{{Name: name, Adapter: a}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func results(t *testing.T, err error) map[string]error {
	t.Helper()
	var v *delivery.RecipientsError
	if !errors.As(err, &v) {
		t.Fatalf("verdict %v", err)
	}
	return v.Results
}

func TestAConditionHoldsForWhatItSays(t *testing.T) {
	t.Parallel()
	re := regexp.MustCompile
	for _, tc := range []struct {
		c    route.Condition
		to   string
		want bool
	}{
		{must(route.Domain("bücher.example")), "a@XN--BCHER-KVA.example", true},
		{must(route.Domain("*.x.example")), "a@b.X.example", true},
		{must(route.Domain("*.x.example")), "a@x.example", false},
		{must(route.Domain("x.example")), "a@y.x.example", false},
		{must(route.Address("Help@x.example")), `"help"@X.example`, true},
		{must(route.Address("help@x.example")), "help+7@x.example", true},
		{must(route.Address("help+7@x.example")), "help+7@x.example", true},
		{must(route.Address("help+7@x.example")), "help@x.example", false},
		{must(route.Address("help@x.example")), "helps@x.example", false},
		{route.Plus(nil), "a+@x.example", true},
		{route.Plus(nil), "a@x.example", false},
		{route.Plus(re(`t-\d`)), "a+T-7@x.example", true},
		{route.Plus(re(`t-\d`)), "a+t-77@x.example", false},
		{route.Plus(re(`a|b`)), "x+ac@x.example", false},
		{route.Recipient(re(`^sales[^@]*@`)), "Sales+eu@x.example", true},
		{route.Recipient(re(`^sales@`)), "sales+eu@x.example", false},
		{route.Sender(re(`@x\.example$`)), "a@y.example", true},
		{route.Sender(re(`^$`)), "a@y.example", false},
		{route.Header("subject", re(`(?i)grüße to you`)), "a@y.example", true},
		{route.Header("x-kind", nil), "a@y.example", true},
		{route.Header("x-none", nil), "a@y.example", false},
		{route.Fact("x.flag", nil), "a@y.example", true},
		{route.Fact("x.flag", true), "a@y.example", true},
		{route.Fact("x.flag", "true"), "a@y.example", false},
		{route.Fact("mailauth.results/from/result", "pass"), "a@y.example", true},
		{route.Fact("mailauth.results/from/n", 2.0), "a@y.example", true},
		{route.Fact("mailauth.results/from/by/1", "spf"), "a@y.example", true},
		{route.Fact("mailauth.results/from/by/2", nil), "a@y.example", false},
		{route.Fact("mailauth.results/from", map[string]any{}), "a@y.example", false},
		{must(route.Minted("s", "t")), "t+abc@y.example", true},
		{must(route.Minted("s")), "t+abc@y.example", false},
		{must(route.Minted("t")), "t+abd@y.example", false},
		{route.Quarantined(), "a@y.example", false},
		{route.Not(route.Quarantined()), "a@y.example", true},
	} {
		table := must(route.New([]route.Route{
			{Name: "r", When: []route.Condition{tc.c}, To: to("x", &place{})},
			{Name: "rest", To: to("y", &place{})},
		}))
		got := table.Choose(message(1, tc.to))[0]
		if (got.Route == "r") != tc.want || got.Err != nil {
			t.Errorf("%s of %s: %+v, want %v", tc.c, tc.to, got, tc.want)
		}
		if !tc.want && (len(got.Passed) != 1 || got.Passed[0].Condition != tc.c.String()) {
			t.Errorf("%s of %s: passed %+v", tc.c, tc.to, got.Passed)
		}
	}
}

func TestEachRecipientGoesByItsOwnRouteAndIsSettledByItself(t *testing.T) {
	t.Parallel()
	help, rest := &place{}, &place{}
	rest.answer(errors.New("away"))
	table := must(route.New([]route.Route{
		{Name: "help", When: []route.Condition{must(route.Address("help@x.example"))}, To: to("help", help)},
		{Name: "rest", To: to("rest", rest)},
	}))
	got := results(t, table.Deliver(t.Context(), message(1, "b@x.example", "help@x.example", "c@x.example")))
	help.were(t, "help@x.example")
	rest.were(t, "b@x.example,c@x.example")
	if err, ok := got["help@x.example"]; err != nil || !ok {
		t.Errorf("help: %v, %v", err, ok)
	}
	var again *delivery.RetryError
	if !errors.As(got["b@x.example"], &again) || !again.Contained || !strings.Contains(again.Error(), "rest: away") {
		t.Errorf("b: %v", got["b@x.example"])
	}
}

func TestADestinationThatHasAnsweredIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	archive, app := &place{}, &place{}
	app.answer(errors.New("away"))
	table := must(route.New([]route.Route{{Name: "all", To: append(to("archive", archive), to("app", app)...)}}))
	if err := table.Deliver(t.Context(), message(1, "a@x.example", "b@x.example")); err == nil {
		t.Fatal("delivered")
	}
	app.verdict = func(*queue.Message) error {
		return delivery.PerRecipient(map[string]error{"a@x.example": nil, "b@x.example": delivery.Reject(errors.New("no b"))})
	}
	got := results(t, table.Deliver(t.Context(), message(2, "a@x.example", "b@x.example")))
	archive.were(t, "a@x.example,b@x.example")
	app.were(t, "a@x.example,b@x.example", "a@x.example,b@x.example")
	var no *delivery.RejectError
	if got["a@x.example"] != nil || !errors.As(got["b@x.example"], &no) {
		t.Errorf("verdict %v", got)
	}
}

func TestWhatOneOfSeveralPlacesHasIsBegun(t *testing.T) {
	t.Parallel()
	has, other := new(place), new(place)
	table := must(route.New([]route.Route{{Name: "rest", To: []route.Destination{{Name: "has", Adapter: has}, {Name: "other", Adapter: other}}}}))
	fails := errors.New("it is away")
	for name, c := range map[string]struct {
		first, second error
		begun         bool
	}{
		"taken, failed":    {nil, fails, true},
		"taken, postponed": {nil, delivery.Postpone(time.Minute, fails), true},
		"failed, failed":   {fails, fails, false},
		"rejected, failed": {delivery.Reject(fails), fails, false},
	} {
		has.answer(c.first)
		other.answer(c.second)
		m := message(1, "a@example.org")
		m.ID = queue.ID(name)
		v := results(t, table.Deliver(t.Context(), m))["a@example.org"]
		var retry *delivery.RetryError
		var wait *delivery.PostponeError
		got := errors.As(v, &wait) && wait.Begun && wait.After == time.Minute || errors.As(v, &retry) && retry.Begun
		if got != c.begun {
			t.Errorf("%s: begun is %v: %#v", name, got, v)
		}
	}
}

func TestADestinationThatFailsIsHeldAndTheOthersAreNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad, good := &place{}, &place{}
		bad.answer(errors.New("away"))
		table := must(route.New([]route.Route{
			{Name: "bad", When: []route.Condition{must(route.Domain("bad.example"))}, To: to("bad", bad)},
			{Name: "rest", To: to("good", good)},
		}))
		call := func(rcpt string) error { return table.Deliver(t.Context(), message(1, rcpt)) }
		for i := range 16 {
			if err := call("a@bad.example"); delivery.Postponed(results(t, err)["a@bad.example"]) {
				t.Fatalf("call %d: %v", i+1, err)
			}
		}
		if err := results(t, call("a@bad.example"))["a@bad.example"]; !delivery.Postponed(err) || !strings.Contains(err.Error(), "bad is held after 16") {
			t.Errorf("the 17th: %v", err)
		}
		if err := call("a@good.example"); err != nil {
			t.Errorf("the other: %v", err)
		}
		time.Sleep(10 * time.Second)
		if err := results(t, call("a@bad.example"))["a@bad.example"]; !delivery.Postponed(err) || len(bad.calls) != 17 {
			t.Errorf("the probe: %v after %d calls; it costs no attempt", err, len(bad.calls))
		}
		if call("a@bad.example"); len(bad.calls) != 17 {
			t.Error("a second probe within 10 s")
		}
		bad.verdict = nil
		time.Sleep(10 * time.Second)
		for range 2 {
			if err := call("a@bad.example"); err != nil {
				t.Errorf("after it works: %v", err)
			}
		}
	})
}

func TestNoMoreAreInHandThanADestinationTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		go1 := make(chan struct{})
		slow := delivery.AdapterFunc(func(context.Context, *queue.Message) error { <-go1; return nil })
		table := must(route.New([]route.Route{{Name: "all", To: []route.Destination{{Name: "slow", Adapter: slow, AtOnce: 2}}}}))
		came := make(chan error, 2)
		for range 2 {
			go func() { came <- table.Deliver(t.Context(), message(1, "a@x.example")) }()
		}
		synctest.Wait()
		if err := results(t, table.Deliver(t.Context(), message(1, "a@x.example")))["a@x.example"]; !delivery.Postponed(err) {
			t.Errorf("the third: %v", err)
		}
		close(go1)
		if err := errors.Join(<-came, <-came, table.Deliver(t.Context(), message(1, "a@x.example"))); err != nil {
			t.Error(err)
		}
	})
}

func TestARouteHasItsOwnRetries(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, tc := range map[string]struct {
		r       route.Route
		attempt int
		verdict error
		check   func(err error) bool
	}{
		"its back-off": {route.Route{Backoff: time.Hour, BackoffCap: 3 * time.Hour}, 9, away, func(err error) bool {
			var v *delivery.RetryError
			return errors.As(err, &v) && v.After >= 90*time.Minute && v.After <= 3*time.Hour
		}},
		"as told": {route.Route{Backoff: time.Hour}, 1, delivery.RetryAfter(time.Minute, away), func(err error) bool {
			var v *delivery.RetryError
			return errors.As(err, &v) && v.After == time.Minute && v.Contained
		}},
		"attempts left": {route.Route{MaxAttempts: 3}, 2, away, func(err error) bool { return !delivery.Final(err) }},
		"no more attempts": {route.Route{MaxAttempts: 3}, 3, away, func(err error) bool {
			var v *delivery.SpentError
			return errors.As(err, &v)
		}},
		"postponed at the last": {route.Route{MaxAttempts: 3}, 3, delivery.Postpone(time.Hour, nil), delivery.Postponed},
		"a panic": {route.Route{}, 1, nil, func(err error) bool {
			return !delivery.Final(err) && strings.Contains(fmt.Sprint(err), "panic: bad")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &place{}
			p.verdict = func(*queue.Message) error {
				if tc.verdict == nil {
					panic("bad")
				}
				return tc.verdict
			}
			tc.r.Name, tc.r.To = "all", to("p", p)
			table := must(route.New([]route.Route{tc.r}))
			if err := results(t, table.Deliver(t.Context(), message(tc.attempt, "a@x.example")))["a@x.example"]; !tc.check(err) {
				t.Errorf("verdict %#v", err)
			}
		})
	}
}

func TestADestinationThatHangsTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		hang := delivery.AdapterFunc(func(context.Context, *queue.Message) error { <-free; return nil })
		table := must(route.New([]route.Route{
			{Name: "hang", When: []route.Condition{must(route.Domain("hang.example"))}, To: to("hang", hang)},
			{Name: "rest", To: to("good", &place{})},
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		got := results(t, table.Deliver(ctx, message(1, "a@hang.example", "a@good.example")))
		if took := time.Since(began); took != 65*time.Second {
			t.Errorf("took %v", took)
		}
		if err, ok := got["a@good.example"]; err != nil || !ok {
			t.Errorf("the other: %v, %v", err, ok)
		}
		if err := got["a@hang.example"]; delivery.Final(err) || !strings.Contains(err.Error(), "abandoned") {
			t.Errorf("the one that hangs: %v", err)
		}
		close(free)
	})
}

func TestAConditionThatCannotBeToldIsARetryAndNoOtherRoute(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]route.Condition{
		"an error": route.Func("lookup", func(*route.Question) (bool, error) { return false, errors.New("no answer") }),
		"a panic":  route.Func("lookup", func(*route.Question) (bool, error) { panic("no answer") }),
	} {
		rest := &place{}
		table := must(route.New([]route.Route{
			{Name: "r", When: []route.Condition{c}, To: to("x", &place{})}, {Name: "rest", To: to("rest", rest)}}))
		err := results(t, table.Deliver(t.Context(), message(1, "a@x.example")))["a@x.example"]
		if delivery.Final(err) || !strings.Contains(err.Error(), "route r") || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("%s: %v", name, err)
		}
		rest.were(t)
	}
}

func TestAMistakeInATableIsNamed(t *testing.T) {
	t.Parallel()
	some := []route.Condition{route.Quarantined()}
	p := &place{}
	for want, rs := range map[string][]route.Route{
		"no routes":            nil,
		"number 1 has no name": {{To: to("x", p)}},
		"two by that name":     {{Name: "a", When: some, To: to("x", p)}, {Name: "a", To: to("x", p)}},
		"leads nowhere":        {{Name: "a"}},
		"move it to the end":   {{Name: "a", To: to("x", p)}, {Name: "b", To: to("x", p)}},
		"add one below it":     {{Name: "a", When: some, To: to("x", p)}},
		"given twice":          {{Name: "a", To: append(to("x", p), to("x", p)...)}},
		"has no adapter":       {{Name: "a", To: to("x", nil)}},
		"has no name":          {{Name: "a", To: to("", p)}},
	} {
		if _, err := route.New(rs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := route.Domain("a@b"); err == nil {
		t.Error("a@b is a domain")
	}
	if _, err := route.Address("b"); err == nil {
		t.Error("b is an address")
	}
}

func TestAMessageIsAcceptedAsTheRouteThatBindsItsSenderLeast(t *testing.T) {
	t.Parallel()
	all := to("x", new(place))
	when := func(domain string) []route.Condition {
		return []route.Condition{must(route.Domain(domain))}
	}
	table, err := route.New([]route.Route{
		{Name: "sync", When: when("sync.example"), To: all, Accept: delivery.Acceptance{Mode: delivery.Sync, Within: time.Minute, Keep: true}, DeadAge: time.Hour},
		{Name: "ever", When: when("ever.example"), To: all, DeadAge: -1},
		{Name: "hybrid", When: when("hybrid.example"), To: all, Accept: delivery.Acceptance{Mode: delivery.Hybrid}, DeadAge: 2 * time.Hour},
		{Name: "rest", To: all},
	})
	if err != nil {
		t.Fatal(err)
	}
	for rcpts, want := range map[string]delivery.Acceptance{
		"a@sync.example":                     {Mode: delivery.Sync, Within: time.Minute, Keep: true},
		"a@hybrid.example":                   {Mode: delivery.Hybrid, Within: delivery.DefaultWithin},
		"a@sync.example a@hybrid.example":    {Mode: delivery.Hybrid, Within: delivery.DefaultWithin, Keep: true},
		"a@hybrid.example a@sync.example":    {Mode: delivery.Hybrid, Within: delivery.DefaultWithin, Keep: true},
		"a@sync.example a@elsewhere.example": {},
		"a@elsewhere.example":                {},
	} {
		if got := table.Acceptance(message(1, strings.Fields(rcpts)...)); got != want {
			t.Errorf("%s: %+v, want %+v", rcpts, got, want)
		}
	}
	if !table.Waits() {
		t.Error("nobody waits")
	}
	for rcpts, want := range map[string]time.Duration{"a@sync.example": time.Hour, "a@sync.example a@hybrid.example": 2 * time.Hour,
		"a@hybrid.example a@sync.example": 2 * time.Hour, "a@sync.example a@rest.example": 0, "a@ever.example a@sync.example": -1, "a@sync.example a@ever.example": -1} {
		if got := table.Keep(message(1, strings.Fields(rcpts)...)); got != want {
			t.Errorf("%s: kept for %v, want %v", rcpts, got, want)
		}
	}
	durable, err := route.New([]route.Route{{Name: "rest", To: all}})
	if err != nil || durable.Waits() {
		t.Errorf("somebody waits: %v", err)
	}
}
