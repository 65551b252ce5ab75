package recipients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/recipients"
	"github.com/incoming-mx/incoming/smtp"
)

func list(t testing.TB, entries ...string) *recipients.List {
	t.Helper()
	l, err := recipients.NewList(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reply is what a policy says of a recipient; "" when it has no objection.
func reply(t testing.TB, p policy.Policy, to string) string {
	t.Helper()
	r := refusal(t, p, to)
	if r == nil {
		return ""
	}
	text, _, _ := strings.Cut(r.Reply.String(), " (ref ")
	return text
}

func refusal(t testing.TB, p policy.Policy, to string) *policy.Refusal {
	t.Helper()
	tx := &policy.Transaction{InMail: true, To: []policy.Recipient{{Path: smtp.ParsePath(to)}}}
	err := policy.NewChain([]policy.Policy{p}, nil).Check(t.Context(), policy.StageRcpt, tx)
	var r *policy.Refusal
	if err != nil && !errors.As(err, &r) {
		t.Fatalf("%v is no refusal", err)
	}
	return r
}

const (
	unknown    = "550 5.1.1 No such recipient here"
	cannotTell = "451 4.3.0 Local problem, try again later"
)

func TestRecipientsAreComparedAsMailDoes(t *testing.T) {
	t.Parallel()
	p := recipients.New([]recipients.Source{list(t, "Bob@example.org", "bob@bücher.example", "@Lists.example.org",
		"@[192.0.2.1]", "grüße@xn--fa-hia.example", "a+b@example.org", "+x@example.org")}, nil)
	for to, want := range map[string]string{
		"bob@example.org":             "",
		"BOB@EXAMPLE.ORG":             "",
		"bob@xn--bcher-kva.example":   "",
		"bob@BÜCHER.example":          "",
		"bob@bu\u0308cher.example":    "",
		`"b\ob"@bücher.example`:       "",
		"GRÜße@faß.example":           "",
		"gru\u0308ße@faß.example":     "",
		"grüße@fass.example":          unknown,
		"grusse@faß.example":          unknown,
		"any@lists.example.org":       "",
		`""@lists.example.org`:        "",
		"any@[192.0.2.1]":             "",
		"alice@example.org":           unknown,
		"alice@xn--bcher-kva.example": unknown,
		"bob@sub.example.org":         unknown,
		"bob@elsewhere.example":       unknown,
		`"@lists.example.org"@x`:      unknown,

		"bob+tag@example.org":        "",
		"Bob+a+b@example.org":        "",
		"bob+@example.org":           "",
		`"bob+a b"@example.org`:      "",
		"any+tag@lists.example.org":  "",
		"a+b@example.org":            "", // by its own name
		"a+b+c@example.org":          unknown,
		"a@example.org":              unknown,
		"+x@example.org":             "",
		"+bob@example.org":           unknown,
		"bob-tag@example.org":        unknown,
		"alice+bob@example.org":      unknown,
		"bob+tag@elsewhere.example":  unknown,
		"bob+x@xn--bcher-kva.exampl": unknown,
	} {
		if got := reply(t, p, to); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}

func TestWhatBeginsATagIsChosen(t *testing.T) {
	t.Parallel()
	l := list(t, "bob@example.org")
	for _, c := range []struct {
		o     recipients.Options
		to    string
		known bool
	}{
		{recipients.Options{}, "bob+x@example.org", true},
		{recipients.Options{NoDelimiters: true}, "bob+x@example.org", false},
		{recipients.Options{NoDelimiters: true}, "bob@example.org", true},
		{recipients.Options{Delimiters: "-"}, "bob-x@example.org", true},
		{recipients.Options{Delimiters: "-"}, "bob+x@example.org", false},
		{recipients.Options{Delimiters: "+-"}, "bob-x+y@example.org", true},
		{recipients.Options{Delimiters: "+-"}, "bob+x-y@example.org", true},
	} {
		if got := reply(t, recipients.New([]recipients.Source{l}, &c.o), c.to); (got == "") != c.known {
			t.Errorf("%+v: %s: %q", c.o, c.to, got)
		}
	}
}

func TestNobodyExistsWithoutASource(t *testing.T) {
	t.Parallel()
	for _, sources := range [][]recipients.Source{nil, {list(t)}} {
		if got := reply(t, recipients.New(sources, nil), "bob@example.org"); got != unknown {
			t.Errorf("%d sources: %q", len(sources), got)
		}
	}
}

func TestOneSourceThatKnowsIsEnoughAndTroubleIsNotUnknown(t *testing.T) {
	t.Parallel()
	yes := recipients.Func(func(context.Context, string) (bool, error) { return true, nil })
	no := recipients.Func(func(context.Context, string) (bool, error) { return false, nil })
	trouble := recipients.Func(func(context.Context, string) (bool, error) { return true, errors.New("the directory is down") })
	for _, c := range []struct {
		sources []recipients.Source
		want    string
	}{
		{[]recipients.Source{no, yes}, ""},
		{[]recipients.Source{trouble, yes}, ""},
		{[]recipients.Source{no, trouble}, cannotTell},
		{[]recipients.Source{trouble, no}, cannotTell},
		{[]recipients.Source{no, no}, unknown},
	} {
		if got := reply(t, recipients.New(c.sources, nil), "bob@example.org"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	r := refusal(t, recipients.New([]recipients.Source{trouble}, nil), "bob@example.org")
	if r.Policy != "recipients" || r.Rule != "cannot_tell" || r.Reason != "the directory is down" || !r.Broke {
		t.Errorf("%+v", r)
	}
	r = refusal(t, recipients.New([]recipients.Source{no}, nil), "Bob@example.org")
	if r.Rule != "unknown" || len(r.Inputs) != 1 || r.Inputs[0].String() != "rcpt=Bob@example.org" {
		t.Errorf("%+v", r)
	}
}

// counted counts what it is asked.
type counted struct {
	mu    sync.Mutex
	asked []string
	known func(address string) (bool, error)
}

func (c *counted) Known(_ context.Context, address string) (bool, error) {
	c.mu.Lock()
	c.asked = append(c.asked, address)
	c.mu.Unlock()
	return c.known(address)
}

func TestAnswersAreRememberedAndTroubleIsNot(t *testing.T) {
	t.Parallel()
	ask := func(o *recipients.Options, to string, want string) (asked []string) {
		t.Helper()
		c := &counted{known: func(a string) (bool, error) {
			if strings.HasPrefix(a, "broken") {
				return false, errors.New("no")
			}
			return strings.HasPrefix(a, "bob@"), nil
		}}
		p := recipients.New([]recipients.Source{c}, o)
		for range 3 {
			if got := reply(t, p, to); got != want {
				t.Errorf("%s: %q, want %q", to, got, want)
			}
		}
		return c.asked
	}
	bob, no, broken := "bob@example.org", "no@example.org", "broken@example.org"
	for _, c := range []struct {
		o    *recipients.Options
		to   string
		want string
		n    int
	}{
		{nil, "Bob@example.org", "", 1},
		{nil, "bob+tag@EXAMPLE.org", "", 1},
		{nil, no, unknown, 1},
		{nil, broken, cannotTell, 3},
		{&recipients.Options{KnownFor: -1}, bob, "", 3},
		{&recipients.Options{KnownFor: -1}, no, unknown, 1},
		{&recipients.Options{UnknownFor: -1}, no, unknown, 3},
		{&recipients.Options{UnknownFor: -1}, bob, "", 1},
		{&recipients.Options{UnknownFor: -1, KnownFor: -1}, bob, "", 3},
		{&recipients.Options{Entries: -1}, bob, "", 3},
	} {
		if asked := ask(c.o, c.to, c.want); len(asked) != c.n {
			t.Errorf("%+v: %s: asked %q", c.o, c.to, asked)
		}
	}
	if asked := ask(nil, "no+tag@example.org", unknown); !slices.Equal(asked, []string{"no@example.org", "no+tag@example.org"}) {
		t.Errorf("asked %q", asked)
	}
	if asked := ask(nil, "+no@example.org", unknown); !slices.Equal(asked, []string{"+no@example.org"}) {
		t.Errorf("asked %q", asked)
	}
}

func TestOneAddressIsAskedAboutOnceAtATime(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}, 20), make(chan struct{})
	var asked atomic.Int32
	p := recipients.New([]recipients.Source{recipients.Func(func(ctx context.Context, _ string) (bool, error) {
		asked.Add(1)
		begun <- struct{}{}
		select {
		case <-release:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})}, nil)
	// Who asked first leaves, and the others have their answer.
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		left <- p.Check(ctx, policy.StageRcpt, &policy.Transaction{To: []policy.Recipient{{Path: smtp.ParsePath("bob@example.org")}}})
	}()
	<-begun
	leave()
	if err := <-left; err == nil {
		t.Error("who left was told yes")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := reply(t, p, "bob@example.org"); got != "" {
				t.Error(got)
			}
		})
	}
	close(release)
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A14, D20: who does not answer is waited for no longer than is allowed.
func TestALookupThatHangsIsAnsweredForNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := recipients.Func(func(ctx context.Context, _ string) (bool, error) {
			<-ctx.Done()
			return true, ctx.Err()
		})
		p := recipients.New([]recipients.Source{hang}, &recipients.Options{Timeout: 7 * time.Second, Entries: -1})
		start := time.Now()
		if got := reply(t, p, "bob@example.org"); got != cannotTell {
			t.Errorf("%q", got)
		}
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// However many addresses are guessed, the application is asked about few at once.
func TestHarvestersDoNotFloodTheApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		slow := recipients.Func(func(context.Context, string) (bool, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return false, nil
		})
		p := recipients.New([]recipients.Source{slow}, &recipients.Options{Entries: -1})
		var told [2]atomic.Int32
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				switch reply(t, p, fmt.Sprintf("guess%d@example.org", i)) {
				case unknown:
					told[0].Add(1)
				case cannotTell:
					told[1].Add(1)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Minute) // what nobody waits for any more has its time to end
		if most.Load() != 64 {
			t.Errorf("asked about %d at once", most.Load())
		}
		if told[0].Load() < 4*64 || told[0].Load()+told[1].Load() != 500 {
			t.Errorf("%d were told no, %d to come again", told[0].Load(), told[1].Load())
		}
	})
}

func TestAPanicOfASourceIsThePolicysAndNotTheEnd(t *testing.T) {
	t.Parallel()
	p := recipients.New([]recipients.Source{recipients.Func(func(context.Context, string) (bool, error) { panic("oh") })}, nil)
	var told string
	chain := policy.NewChain([]policy.Policy{p}, &policy.ChainOptions{OnPanic: func(_ *policy.Transaction, name string, value any, _ []byte) {
		told = fmt.Sprint(name, ": ", value)
	}})
	err := chain.Check(t.Context(), policy.StageRcpt, &policy.Transaction{To: []policy.Recipient{{Path: smtp.ParsePath("bob@example.org")}}})
	var r *policy.Refusal
	if !errors.As(err, &r) || !r.Broke {
		t.Fatalf("%v", err)
	}
	if !strings.HasPrefix(told, "recipients: oh\n") || !strings.Contains(told, "recipients_test.go") {
		t.Errorf("told %q", told)
	}
}

func TestAListNamesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "bob", "@", "@*", "bob@", "bob@*.example.org", "<bob@example.org>", "bob @example.org", "bob@a b", "@xn--a.example", `""@example.org`, "bob@a..b"} {
		if _, err := recipients.NewList("a@example.org", bad); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is no address; write", bad)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, path, "# ours\nbob@example.org # a comment\n@lists.example.org\n")
	synctest.Test(t, func(t *testing.T) {
		var told []string
		f, err := recipients.OpenFile(path, &recipients.FileOptions{OnReload: func(n int, err error) {
			told = append(told, strings.ReplaceAll(fmt.Sprint(n, " ", err), path, "F"))
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := recipients.New([]recipients.Source{f}, nil)
		is := func(what, to, want, report string) {
			t.Helper()
			if got := reply(t, p, to); got != want {
				t.Errorf("%s: %s: %q, want %q", what, to, got, want)
			}
			if got := strings.Join(told, "|"); got != report {
				t.Errorf("%s: told %q, want %q", what, got, report)
			}
			told = nil
		}
		is("at first", "Bob+x@example.org", "", "")
		is("at first", "any@lists.example.org", "", "")
		is("at first", "alice@example.org", unknown, "")
		write(t, path, "alice@example.org\n")
		is("within a second", "alice@example.org", unknown, "")
		time.Sleep(time.Second)
		is("changed", "alice@example.org", "", "1 <nil>")
		is("changed", "bob@example.org", unknown, "")
		write(t, path, "\nalice@example.org 250 Ok\n")
		time.Sleep(time.Second)
		is("with a mistake", "alice@example.org", "", `1 recipients: F:2: "alice@example.org 250 Ok" has more than one word; write one address a line`)
		write(t, path, "bob@example.org")
		if err := f.Reload(); err != nil || f.Len() != 1 {
			t.Errorf("reload: %v, %d", err, f.Len())
		}
		is("reloaded", "bob@example.org", "", "")
		write(t, path, "bob")
		if err := f.Reload(); err == nil || !strings.HasPrefix(err.Error(), "recipients: "+path+`:1: "bob" is no address`) {
			t.Errorf("reload of a bad file: %v", err)
		}
		is("a bad file reloaded", "bob@example.org", "", "")
	})
	if _, err := recipients.OpenFile(path+".none", nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
}

func TestAnApplicationIsAskedOverHTTP(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); r.Method != http.MethodGet || r.URL.Path != "/known" || r.URL.Query().Get("key") != "s" || user != "mx" || pass != "pw" {
			t.Errorf("%s %s as %s:%s", r.Method, r.URL, user, pass)
		}
		switch r.URL.Query().Get("address") {
		case "a&b@example.org", "grüße@xn--bcher-kva.example":
		case "no@example.org":
			w.Header().Set("Incoming-Verdict", "reject")
			w.WriteHeader(http.StatusNotFound)
		case "undeployed@example.org":
			w.WriteHeader(http.StatusNotFound)
		case "moved@example.org":
			http.Redirect(w, r, "/login", http.StatusFound)
		default:
			w.Header().Set("Incoming-Verdict", "reject")
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer app.Close()
	url := strings.Replace(app.URL, "://", "://mx:pw@", 1) + "/known?key=s"
	u, err := recipients.OpenURL(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := recipients.New([]recipients.Source{u}, nil)
	for to, want := range map[string]string{
		"A&b@Example.org":        "",
		"a&b+c@Example.org":      "",
		"grüße@bücher.example":   "",
		"no@example.org":         unknown,
		"undeployed@example.org": cannotTell,
		"moved@example.org":      cannotTell,
		"odd@example.org":        cannotTell,
	} {
		if got := reply(t, p, to); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
	app.Close()
	r := refusal(t, p, "who@example.org")
	if r == nil || r.Reply.Code != 451 {
		t.Fatalf("an application that is gone: %v", r)
	}
	if !strings.HasPrefix(r.Reason, "ask "+app.URL+"/known: dial tcp") || strings.Contains(r.Reason, "pw") || strings.Contains(r.Reason, "key") || strings.Contains(r.Reason, "who") {
		t.Errorf("the reason is %q", r.Reason)
	}
}

func TestAURLThatCannotBeAskedIsNamedWithTheMend(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "app.example", "ftp://app.example", "http:///x", "http://u:p%@app.example", "http://app.example/?address=x"} {
		if _, err := recipients.OpenURL(bad, nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzKnown(f *testing.F) {
	f.Add("bob+tag@example.org", "bob@example.org")
	f.Add(`"a\"b"@x`, "@x")
	f.Fuzz(func(t *testing.T, to, entry string) {
		l, err := recipients.NewList(entry)
		if err != nil {
			return
		}
		p := recipients.New([]recipients.Source{l}, nil)
		if got := reply(t, p, entry); got != "" && !strings.HasPrefix(entry, "@") {
			t.Errorf("%q does not know itself: %s", entry, got)
		}
		if got := reply(t, p, to); got != "" && got != unknown {
			t.Errorf("%q: %s", to, got)
		}
	})
}
