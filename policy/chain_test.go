package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/smtp"
)

func answers(err error) Policy {
	return Func(func(context.Context, Stage, *Transaction) error { return err })
}

// watched is a chain that keeps what it reports.
type watched struct {
	*Chain
	mu        sync.Mutex
	decisions []Decision
	panics    []string
}

func watch(o ChainOptions, policies ...Policy) *watched {
	w := &watched{}
	o.OnDecision = func(_ *Transaction, d Decision) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.decisions = append(w.decisions, d)
	}
	o.OnPanic = func(_ *Transaction, policy string, value any, stack []byte) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.panics = append(w.panics, fmt.Sprint(policy, ": ", value, " ", len(stack) > 0))
	}
	w.Chain = NewChain(policies, &o)
	return w
}

func (w *watched) said() []Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Decision(nil), w.decisions...)
}

func inMail(t testing.TB, to ...string) *Transaction {
	t.Helper()
	tx := &Transaction{Session: "s1", Hostname: "mx.test", Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Hello: "c.example"}
	tx.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{})
	for _, r := range to {
		tx.To = append(tx.To, Recipient{Path: smtp.ParsePath(r)})
	}
	return tx
}

func refusal(t *testing.T, err error) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v is no *Refusal", err)
	}
	plain := *r
	reply := *r.Reply
	reply.Text = unreferred(t, r)
	plain.Reply = &reply
	return &plain
}

// unreferred is the reply's text without the reference, which must be there.
func unreferred(t *testing.T, r *Refusal) string {
	t.Helper()
	text, ok := strings.CutSuffix(r.Reply.Text, " (ref "+r.Ref+")")
	if !ok || !regexp.MustCompile(`^[2-9A-HJ-NP-Z]{8}$`).MatchString(r.Ref) {
		t.Errorf("the reply %q has not the reference %q", r.Reply.Text, r.Ref)
	}
	return text
}

func TestAnswersOfAPolicy(t *testing.T) {
	t.Parallel()
	no := Reject("No")
	var nilReply *smtp.Reply
	for name, c := range map[string]struct {
		err    error
		reply  string
		reason string
		kind   Kind
	}{
		"nil":                      {nil, "", "", ""},
		"5xx":                      {no, "550 5.7.1 No", "550 5.7.1 No", Rejected},
		"4xx":                      {Tempfail("Later"), "451 4.7.1 Later", "451 4.7.1 Later", Deferred},
		"wrapped reply":            {fmt.Errorf("list 7: %w", no), "550 5.7.1 No", "list 7: 550 5.7.1 No", Rejected},
		"400":                      {&smtp.Reply{Code: 400, Text: "x"}, "400 x", "400 x", Deferred},
		"599":                      {&smtp.Reply{Code: 599, Text: "x"}, "599 x", "599 x", Rejected},
		"399 is no refusal":        {&smtp.Reply{Code: 399, Text: "x"}, broken451, "answered 399 x, which is no refusal", Broke},
		"600 is no refusal":        {&smtp.Reply{Code: 600, Text: "x"}, broken451, "answered 600 x, which is no refusal", Broke},
		"250 is never a pass":      {&smtp.Reply{Code: 250, Text: "Ok"}, broken451, "answered 250 Ok, which is no refusal", Broke},
		"nil reply as an error":    {nilReply, broken451, "answered a nil *smtp.Reply", Broke},
		"plain error":              {errors.New("dns is down"), broken451, "dns is down", Broke},
		"context error":            {context.DeadlineExceeded, broken451, "context deadline exceeded", Broke},
		"error that is no text":    {errors.New(""), broken451, "", Broke},
		"joined with plain error":  {errors.Join(no, errors.New("x")), broken451, "550 5.7.1 No\nx", Broke},
		"discard with plain error": {errors.Join(Discard, errors.New("x")), broken451, "policy: discard\nx", Broke},
		"quarantine and refusal":   {errors.Join(Quarantine("q"), no), "550 5.7.1 No", "policy: quarantine: q\n550 5.7.1 No", Rejected},
		"discard":                  {Discard, "", "policy: discard", Discarded},
		"wrapped discard":          {fmt.Errorf("spam: %w", Discard), "", "spam: policy: discard", Discarded},
		"quarantine":               {Quarantine("virus"), "", "virus", Quarantined},
		"quarantine, no reason":    {Quarantine(""), "", "unspecified", Quarantined},
		"a type's own nil":         {(*brokenError)(nil), broken451, "panic: runtime error: invalid memory address or nil pointer dereference", Broke},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watch(ChainOptions{}, Named("p", answers(c.err)))
			err := w.Check(t.Context(), StageMail, inMail(t))
			got := ""
			if err != nil {
				got = refusal(t, err).Reply.String()
			}
			if got != c.reply || (err == nil) != (c.reply == "") {
				t.Errorf("reply %q (%v), want %q", got, err, c.reply)
			}
			ds := w.said()
			if c.kind == "" {
				if len(ds) != 0 {
					t.Errorf("told %v", ds)
				}
				return
			}
			if len(ds) != 1 || ds[0].Kind != c.kind || ds[0].Reason != c.reason || ds[0].Policy != "p" || ds[0].Stage != StageMail {
				t.Errorf("told %+v, want %s %q", ds, c.kind, c.reason)
			}
			if err != nil {
				if r := refusal(t, err); r.Policy != "p" || r.Reason != c.reason || r.Broke != (c.kind == Broke) {
					t.Errorf("refusal %+v", r)
				}
			}
		})
	}
}

const broken451 = "451 4.3.0 Local problem, try again later"

type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }

func TestFirstObjectionWins(t *testing.T) {
	t.Parallel()
	var asked []string
	p := func(name string, err error) Policy {
		return Named(name, Func(func(context.Context, Stage, *Transaction) error { asked = append(asked, name); return err }))
	}
	c := NewChain([]Policy{p("a", nil), p("b", Quarantine("odd")), p("c", Reject("c")), p("d", Reject("d"))}, nil)
	tx := inMail(t)
	if r := refusal(t, c.Check(t.Context(), StageMail, tx)); r.Policy != "c" || r.Stage != StageMail {
		t.Errorf("refused by %s at %v", r.Policy, r.Stage)
	}
	if got := strings.Join(asked, ""); got != "abc" {
		t.Errorf("asked %s", got)
	}
	if tx.Quarantined() != "" {
		t.Error("what was refused left a mark")
	}
}

func TestQuarantineGoesOnAndReasonsAddUp(t *testing.T) {
	t.Parallel()
	c := NewChain([]Policy{answers(Quarantine("odd")), answers(Quarantine("bad")), answers(Quarantine("odd"))}, nil)
	tx := inMail(t)
	for _, stage := range []Stage{StageMail, StageMessage} {
		if err := c.Check(t.Context(), stage, tx); err != nil {
			t.Fatal(err)
		}
	}
	if got := tx.Quarantined(); got != "odd; bad" {
		t.Errorf("reasons %q", got)
	}
	tx.Begin(smtp.Path{}, smtp.MailParams{})
	if tx.Quarantined() != "" {
		t.Error("the mark outlived its transaction")
	}
}

func TestQuarantineReasonIsBounded(t *testing.T) {
	t.Parallel()
	tx := inMail(t)
	for i := range 1000 {
		if err := NewChain([]Policy{answers(Quarantine(fmt.Sprint("reason ", i, " ü")))}, nil).Check(t.Context(), StageMail, tx); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(tx.Quarantined()); n > maxReason+len("…") {
		t.Errorf("%d octets of reasons", n)
	}
}

func TestOnceDiscardedNoPolicyIsAsked(t *testing.T) {
	t.Parallel()
	asked := 0
	count := Func(func(context.Context, Stage, *Transaction) error { asked++; return Reject("no") })
	c := NewChain([]Policy{Named("bin", OnRcpt(func(context.Context, smtp.Path, *Transaction) error { return Discard })), count}, nil)
	tx := inMail(t, "b@y.example")
	for _, stage := range []Stage{StageRcpt, StageData, StageMessage} {
		if err := c.Check(t.Context(), stage, tx); err != nil {
			t.Errorf("%v: %v", stage, err)
		}
	}
	if c.Tap(t.Context(), tx) != nil {
		t.Error("a discarded message is tapped")
	}
	if asked != 0 || tx.Discarded() != "bin" {
		t.Errorf("asked %d times, discarded by %q", asked, tx.Discarded())
	}
	tx.Begin(smtp.Path{}, smtp.MailParams{})
	if c.Check(t.Context(), StageMail, tx) == nil {
		t.Error("the next transaction was discarded too")
	}
}

func TestThereIsNothingToDiscardBeforeMail(t *testing.T) {
	t.Parallel()
	for _, err := range []error{Discard, Quarantine("q")} {
		for _, stage := range []Stage{StageConnect, StageHello} {
			tx := &Transaction{}
			if r := refusal(t, NewChain([]Policy{answers(err)}, nil).Check(t.Context(), stage, tx)); !r.Broke {
				t.Errorf("%v at %v: %v", err, stage, r)
			}
		}
	}
}

// R15.
func TestPolicyPanicIsNeverAPass(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Policy{
		"panic":    Func(func(context.Context, Stage, *Transaction) error { panic("boom") }),
		"nil":      nil,
		"nil func": Func(nil),
		"inline":   builtin("x", StageMail, func(context.Context, *Transaction) error { panic("boom") }),
		"goexit":   Func(func(context.Context, Stage, *Transaction) error { runtime.Goexit(); return nil }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watch(ChainOptions{}, p)
			r := refusal(t, w.Check(t.Context(), StageMail, inMail(t)))
			if !r.Broke || r.Reply.String() != broken451 {
				t.Errorf("%+v", r)
			}
			if ds := w.said(); len(ds) != 1 || ds[0].Kind != Broke {
				t.Errorf("told %v", ds)
			}
			if want := name != "goexit"; (len(w.panics) == 1) != want {
				t.Errorf("panics told: %v", w.panics)
			}
		})
	}
}

// D20.
func TestPolicyDeadlineIsNeverAPass(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]func(ctx context.Context) error{
		"fails when told to":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"passes when told to":  func(ctx context.Context) error { <-ctx.Done(); return nil },
		"refuses when told to": func(ctx context.Context) error { <-ctx.Done(); return Reject("no") },
		"ignores its ctx":      func(context.Context) error { time.Sleep(time.Hour); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := watch(ChainOptions{}, Named("slow", Func(func(ctx context.Context, _ Stage, _ *Transaction) error { return p(ctx) })))
				start := time.Now()
				r := refusal(t, w.Check(t.Context(), StageRcpt, inMail(t, "b@y.example")))
				if took := time.Since(start); took != DefaultTimeout {
					t.Errorf("answered after %v", took)
				}
				if !r.Broke || r.Reply.String() != broken451 || !strings.HasPrefix(r.Reason, "no answer in 30s") {
					t.Errorf("%+v", r)
				}
				if err := w.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestLateAnswerIsReportedAndDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(ChainOptions{Timeout: time.Second}, Named("slow", Func(func(_ context.Context, _ Stage, tx *Transaction) error {
			time.Sleep(time.Minute)
			// Its own copy: the race detector would see it otherwise.
			_ = tx.SetFact("slow.late", true)
			_ = tx.Prepend("X-Late", "yes")
			tx.Remove(header.Field{Offset: 7})
			return Discard
		})))
		tx := inMail(t, "b@y.example")
		if err := tx.SetFact("x.early", 1); err != nil {
			t.Fatal(err)
		}
		w.Check(t.Context(), StageRcpt, tx)
		// The session goes on with the same Transaction at once.
		tx.To = append(tx.To[:0], Recipient{Path: smtp.ParsePath("c@y.example")})
		if err := tx.SetFact("x.next", 2); err != nil {
			t.Fatal(err)
		}
		if err := w.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tx.Discarded() != "" || tx.Fact("slow.late") != nil || tx.Prepended() != nil || len(tx.Facts()) != 2 {
			t.Errorf("the late answer got through: %q %v %s", tx.Discarded(), tx.Facts(), tx.Prepended())
		}
		ds := w.said()
		if len(ds) != 2 || ds[1].Kind != Broke || ds[1].Reason != "late, dropped: discard policy: discard" || ds[1].Took != time.Minute {
			t.Errorf("told %+v", ds)
		}
	})
}

func TestHangingPolicyHoldsUpABoundedNumberOfGoroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		release := make(chan struct{})
		c := NewChain([]Policy{Func(func(context.Context, Stage, *Transaction) error { asked.Add(1); <-release; return nil })}, &ChainOptions{Timeout: time.Second})
		for range maxGivenUp + 1 {
			if !refusal(t, c.Check(t.Context(), StageMail, inMail(t))).Broke {
				t.Fatal("not broken")
			}
		}
		if n := asked.Load(); n != maxGivenUp {
			t.Errorf("asked %d times", n)
		}
		close(release)
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context(), StageMail, inMail(t)); err != nil {
			t.Errorf("once they had returned: %v", err)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewChain([]Policy{Func(func(context.Context, Stage, *Transaction) error { time.Sleep(time.Hour); return nil })}, &ChainOptions{Timeout: time.Second})
		c.Check(t.Context(), StageMail, inMail(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestFromTheFinalDotAllPoliciesShareOneDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := Func(func(ctx context.Context, _ Stage, _ *Transaction) error { time.Sleep(20 * time.Second); return nil })
		c := NewChain([]Policy{slow, slow, answers(nil)}, nil)
		ctx, cancel := c.WithDeadline(t.Context())
		defer cancel()
		start := time.Now()
		r := refusal(t, c.Check(ctx, StageMessage, inMail(t)))
		if took := time.Since(start); took != 30*time.Second || !r.Broke {
			t.Errorf("%v after %v", r, took)
		}
		start = time.Now()
		if err := c.Check(t.Context(), StageHeader, inMail(t)); err != nil || time.Since(start) != 40*time.Second {
			t.Errorf("before it each has its own: %v after %v", err, time.Since(start))
		}
		if !refusal(t, c.Check(ctx, StageMessage, inMail(t))).Broke {
			t.Error("a policy was asked without time")
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNegativeTimeoutIsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewChain([]Policy{Func(func(context.Context, Stage, *Transaction) error { time.Sleep(24 * time.Hour); return nil })}, &ChainOptions{Timeout: -1})
		ctx, cancel := c.WithDeadline(t.Context())
		defer cancel()
		if err := c.Check(ctx, StageMail, inMail(t)); err != nil {
			t.Error(err)
		}
	})
}

// R14.
func TestClientThatLeavesBreaksNoPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := watch(ChainOptions{}, Func(func(ctx context.Context, _ Stage, _ *Transaction) error { <-ctx.Done(); return ctx.Err() }))
		time.AfterFunc(time.Second, cancel)
		if w.Check(ctx, StageMail, inMail(t)) == nil {
			t.Error("it passed")
		}
		if err := w.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if ds := w.said(); len(ds) != 0 {
			t.Errorf("told %v", ds)
		}
	})
}

func TestWhatPoliciesLearnReachesTheNextAndStays(t *testing.T) {
	t.Parallel()
	learn := Func(func(_ context.Context, stage Stage, tx *Transaction) error {
		if err := tx.SetFact("learn."+stage.String(), stage); err != nil {
			return err
		}
		return tx.Prepend("X-"+stage.String(), "y")
	})
	see := OnMail(func(_ context.Context, _ smtp.Path, tx *Transaction) error {
		if tx.Fact("learn.hello") == nil || tx.Fact("learn.mail") == nil {
			return errors.New("facts are missing")
		}
		return nil
	})
	c := NewChain([]Policy{learn, see}, nil)
	tx := &Transaction{}
	if err := c.Check(t.Context(), StageHello, tx); err != nil {
		t.Fatal(err)
	}
	tx.Begin(smtp.Path{}, smtp.MailParams{})
	if err := c.Check(t.Context(), StageMail, tx); err != nil {
		t.Fatal(err)
	}
	if got := string(tx.Prepended()); got != "X-mail: y\r\n" {
		t.Errorf("prepended %q", got)
	}
	tx.Reset()
	if fs := tx.Facts(); len(fs) != 1 || fs["learn.hello"] == nil {
		t.Errorf("after the transaction: %v", fs)
	}
}

func TestTextIsClosedBehindAPolicy(t *testing.T) {
	t.Parallel()
	opened, closed := 0, 0
	tx := inMail(t)
	tx.OpenText = func() (io.ReadCloser, error) {
		opened++
		return &closer{Reader: strings.NewReader("text"), closed: &closed}, nil
	}
	var kept io.Reader
	var late *Transaction
	c := NewChain([]Policy{OnMessage(func(_ context.Context, tx *Transaction) error {
		a, err := tx.Open()
		if err != nil {
			return err
		}
		if text, err := io.ReadAll(a); string(text) != "text" || err != nil {
			return fmt.Errorf("read %q, %w", text, err)
		}
		if err := errors.Join(a.Close(), a.Close()); err != nil {
			return err
		}
		kept, err = tx.Open()
		late = tx
		return err
	})}, nil)
	if err := c.Check(t.Context(), StageMessage, tx); err != nil {
		t.Fatal(err)
	}
	if opened != 2 || closed != 2 {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
	if n, err := kept.Read(make([]byte, 9)); n != 0 || err != errTextEnded {
		t.Errorf("a reader kept: %d, %v", n, err)
	}
	if _, err := late.Open(); err != errTextEnded {
		t.Errorf("opened late: %v", err)
	}
}

type closer struct {
	io.Reader
	closed *int
}

func (c *closer) Close() error { *c.closed++; return nil }

func TestNames(t *testing.T) {
	t.Parallel()
	accept, err := AcceptDomains("*")
	if err != nil {
		t.Fatal(err)
	}
	for want, p := range map[string]Policy{
		"require_hello":  RequireHello(),
		"max_size":       MaxSize(1),
		"max_recipients": MaxRecipients(1),
		"require_tls":    RequireTLS(),
		"rate_limit":     RateLimit(nil),
		"accept_domains": accept,
		"on_data":        OnData(nil),
		"policy.Func":    Func(nil),
		"mine":           Named("mine", Named("other", MaxSize(1))),
		"nil":            nil,
		"chain":          NewChain(nil, nil),
		"policy.loud":    &loud{},
	} {
		if got := NameOf(p); got != want {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	c := NewChain([]Policy{OnMail(nil), OnMail(nil), MaxSize(1)}, nil)
	if c.links[0].name != "on_mail" || c.links[1].name != "on_mail_2" || !c.links[2].inline {
		t.Errorf("links %+v %+v %+v", c.links[0], c.links[1], c.links[2])
	}
}

type loud struct{}

func (*loud) Check(context.Context, Stage, *Transaction) error { return nil }

func TestChainInAChainSaysWhoRefused(t *testing.T) {
	t.Parallel()
	inner := NewChain([]Policy{Named("deep", OnMail(func(context.Context, smtp.Path, *Transaction) error { return Reject("no") }))}, nil)
	w := watch(ChainOptions{}, Named("outer", inner))
	if r := refusal(t, w.Check(t.Context(), StageMail, inMail(t))); r.Policy != "deep" || r.Reply.Code != 550 || r.Broke {
		t.Errorf("%+v", r)
	}
	if ds := w.said(); len(ds) != 1 || ds[0].Policy != "deep" || ds[0].Kind != Rejected {
		t.Errorf("told %+v", ds)
	}
	bin := NewChain([]Policy{Named("bin", answers(Discard))}, nil)
	tx := inMail(t)
	if err := NewChain([]Policy{bin, answers(Reject("no"))}, nil).Check(t.Context(), StageMail, tx); err != nil || tx.Discarded() != "bin" {
		t.Errorf("%v, discarded by %q", err, tx.Discarded())
	}
}

func BenchmarkChainOfSixInline(b *testing.B) {
	c := NewChain([]Policy{RequireHello(), MaxSize(9), RequireTLS(), MaxRecipients(3), MaxSize(7), MaxSize(8)}, nil)
	tx := &Transaction{}
	for b.Loop() {
		c.Check(b.Context(), StageHello, tx)
	}
}

func BenchmarkPolicyThatMayWait(b *testing.B) {
	c := NewChain([]Policy{OnMail(func(context.Context, smtp.Path, *Transaction) error { return nil })}, nil)
	tx := inMail(b)
	for b.Loop() {
		c.Check(b.Context(), StageMail, tx)
	}
}

func TestChainKnowsWhereItAsks(t *testing.T) {
	t.Parallel()
	c := NewChain([]Policy{OnMail(func(context.Context, smtp.Path, *Transaction) error { return nil })}, nil)
	if !c.AsksAt(StageMail) || c.AsksAt(StageMessage) || NewChain(nil, nil).AsksAt(StageMail) {
		t.Error("a chain of one that is asked at MAIL is asked elsewhere, or not there")
	}
	if !NewChain([]Policy{Func(func(context.Context, Stage, *Transaction) error { return nil })}, nil).AsksAt(StageMessage) {
		t.Error("a Func is asked everywhere")
	}
}
