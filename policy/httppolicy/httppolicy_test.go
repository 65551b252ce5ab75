package httppolicy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming/delivery/webhook"
	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var stages = []policy.Stage{policy.StageConnect, policy.StageHello, policy.StageMail, policy.StageRcpt, policy.StageData, policy.StageHeader, policy.StageMessage}

// at is a transaction at a stage.
func at(t *testing.T, stage policy.Stage) *policy.Transaction {
	t.Helper()
	tx := &policy.Transaction{Session: "S1", Listener: "mx", Hostname: "mx.test", Peer: netip.MustParseAddrPort("192.0.2.7:4711")}
	if err := tx.SetFact("other.fact", []int{1}); err != nil {
		t.Fatal(err)
	}
	if stage >= policy.StageHello {
		tx.Hello, tx.TLS = "c.example", &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "mx.test"}
	}
	if stage >= policy.StageMail {
		tx.Begin(smtp.Path{}, smtp.MailParams{Size: 100, SMTPUTF8: true})
	}
	if stage >= policy.StageRcpt {
		tx.To = []policy.Recipient{{Path: smtp.ParsePath("b@y.example")}, {Path: smtp.ParsePath("jörg@y.example")}}
	}
	if stage >= policy.StageHeader {
		const text = "Subject: a\r\n\tb\r\nX: \xff\r\n\r\nbody"
		tx.ID, tx.Header, tx.Size = "01ID", header.Parse([]byte(text)), int64(len(text))
	}
	return tx
}

func app(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // what is left unread closes the connection
		io.WriteString(w, body)
	}
}

func made(t *testing.T, o Options) *Policy {
	t.Helper()
	if o.Stages == nil {
		o.Stages = stages
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.program.CloseIdle)
	return p
}

func judged(t *testing.T, stage policy.Stage, tx *policy.Transaction, p policy.Policy) ([]policy.Decision, error) {
	t.Helper()
	var told []policy.Decision
	chain := policy.NewChain([]policy.Policy{p}, &policy.ChainOptions{OnDecision: func(_ *policy.Transaction, d policy.Decision) { told = append(told, d) }})
	err := chain.Check(t.Context(), stage, tx)
	return told, err
}

func replied(err error) string {
	var r *policy.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return strings.TrimSuffix(r.Reply.String(), " (ref "+r.Ref+")")
}

// The request is a contract: what an application reads today it reads tomorrow.
func TestTheRequestAtEachStage(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	url := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.URL.RequestURI() != "/ask?key=k" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if user, password, _ := r.BasicAuth(); user != "mx" || password != "pw" {
			t.Errorf("authorized as %s:%s", user, password)
		}
		var v any
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			t.Error(err)
		}
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Error(err)
		}
		all.Write(append(text, '\n'))
		w.WriteHeader(http.StatusNoContent)
	})
	p := made(t, Options{URL: strings.Replace(url, "://", "://mx:pw@", 1) + "/ask?key=k"})
	for _, stage := range stages {
		if told, err := judged(t, stage, at(t, stage), p); err != nil || told != nil {
			t.Fatal(stage, err, told)
		}
	}
	file := filepath.Join("testdata", "requests.golden")
	if *update {
		if err := os.WriteFile(file, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), all.String()); d != "" {
		t.Errorf("the requests differ from %s (-want +got); run the test with -update:\n%s", file, d)
	}
}

func TestItIsAskedAtItsStagesOnly(t *testing.T) {
	t.Parallel()
	asked := 0
	p := made(t, Options{URL: app(t, func(w http.ResponseWriter, r *http.Request) { asked++; w.WriteHeader(204) }), Stages: []policy.Stage{policy.StageRcpt}})
	for _, stage := range stages {
		if _, err := judged(t, stage, at(t, stage), p); err != nil {
			t.Error(err)
		}
		if err := p.Check(t.Context(), stage, at(t, stage)); err != nil {
			t.Error(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// A receiver verifies as one of the webhook does.
func TestTheRequestIsSigned(t *testing.T) {
	t.Parallel()
	secrets := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "another secret of some length"}
	ids := make(map[string]bool)
	p := made(t, Options{Secrets: secrets, URL: app(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for _, secret := range secrets {
			if err := webhook.Verify(secret, r.Header, body, 0); err != nil {
				t.Error(err)
			}
		}
		if webhook.Verify("a third", r.Header, body, 0) == nil || webhook.Verify(secrets[0], r.Header, append(body, ' '), 0) == nil {
			t.Error("what is not so was verified")
		}
		ids[r.Header.Get("Webhook-Id")] = true
		w.WriteHeader(204)
	})})
	for range 2 {
		if _, err := judged(t, policy.StageRcpt, at(t, policy.StageRcpt), p); err != nil {
			t.Error(err)
		}
	}
	if len(ids) != 2 {
		t.Errorf("ids %v", ids)
	}
}

func TestTheActionsOfAnApplication(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		``:                                      "",
		`{"action":"pass"}`:                     "",
		`{"action":"pass","more":{"x":[]}}`:     "",
		`{"action":"reject"}`:                   "550 5.7.1 Refused by policy, reject",
		`{"action":"reject","reason":"unpaid"}`: "550 5.7.1 Refused by policy, reject unpaid",
		`{"action":"reject","reply":"554 5.7.0 Not today"}`:      "554 5.7.0 Not today, reject",
		`{"action":"tempfail"}`:                                  "451 4.7.1 Deferred by policy, try again later, tempfail",
		`{"action":"tempfail","reply":"450 Wait a bit\u00fc"}`:   "450 4.7.1 Wait a bit??, tempfail",
		`{"action":"quarantine","reason":"odd"}`:                 ", quarantine odd",
		`{"action":"discard","reason":"nobody wants such mail"}`: ", discard nobody wants such mail",
	} {
		told, err := judged(t, policy.StageMessage, at(t, policy.StageMessage), made(t, Options{URL: app(t, says(answer))}))
		got := replied(err)
		for _, d := range told {
			got += ", " + d.Rule
			for _, in := range d.Inputs {
				got += " " + in.Value.String()
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", answer, got, want)
		}
	}
}

func TestFactsAndHeadersOfAnApplicationAreKept(t *testing.T) {
	t.Parallel()
	tx := at(t, policy.StageMessage)
	_, err := judged(t, policy.StageMessage, tx, made(t, Options{URL: app(t, says(`{"action":"quarantine","reason":"odd","facts":{"customer":{"id":7}},
		"headers":[{"name":"X-A","value":"1"},{"name":"X-B","value":"2\n\tfolded"}]}`))}))
	if err != nil || string(tx.Fact("http_policy.customer")) != `{"id":7}` || tx.Quarantined() != "odd" || string(tx.Prepended()) != "X-A: 1\r\nX-B: 2\r\n\tfolded\r\n" {
		t.Errorf("%v, facts %s, %q, %q", err, tx.Facts(), tx.Quarantined(), tx.Prepended())
	}
}

// D19, D20: what is wrong with the application is its failure, told and done as
// configured.
func TestAnApplicationThatIsNotWellHasFailed(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(says(""))
	gone.Close()
	hang := func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }
	for name, c := range map[string]struct {
		url, rule, reason string
		stage             policy.Stage
	}{
		"nobody listens": {gone.URL, "failed", "refused", policy.StageRcpt},
		"hangs":          {app(t, hang), "timeout", "no answer in 100ms", policy.StageRcpt},
		"an error":       {app(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }), "failed", "answered 500", policy.StageRcpt},
		"elsewhere": {app(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}), "failed", "answered 307", policy.StageRcpt},
		"HTML":                {app(t, says("<html>")), "failed", "an answer that is none", policy.StageRcpt},
		"no action":           {app(t, says(`{}`)), "failed", `the action ""`, policy.StageRcpt},
		"an unknown action":   {app(t, says(`{"action":"deny"}`)), "failed", `the action "deny"`, policy.StageRcpt},
		"too long":            {app(t, says(`{"action":"pass","x":"`+strings.Repeat("x", MaxAnswer)+`"}`)), "failed", "an answer of more than", policy.StageRcpt},
		"a reply of 250":      {app(t, says(`{"action":"reject","reply":"250 Ok"}`)), "failed", "no reply of 4xx or 5xx", policy.StageRcpt},
		"a reply of 4xx":      {app(t, says(`{"action":"reject","reply":"450 Later"}`)), "failed", "to reject", policy.StageRcpt},
		"discard too early":   {app(t, says(`{"action":"discard"}`)), "failed", "before there is a message", policy.StageHello},
		"a field too early":   {app(t, says(`{"action":"pass","headers":[{"name":"X","value":"y"}]}`)), "failed", "before there is a message", policy.StageConnect},
		"a field with a line": {app(t, says(`{"action":"pass","headers":[{"name":"X","value":"a\nBcc: b"}]}`)), "failed", "is not a fold", policy.StageMessage},
		"facts past the room": {app(t, says(`{"action":"pass","facts":{"x":"`+strings.Repeat("x", policy.MaxFacts)+`"}}`)), "failed", "all facts together", policy.StageMessage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for then, reply := range map[policy.FailureAction]string{policy.FailTempfail: "451 4.3.0 Local problem, try again later",
				policy.FailAccept: "", policy.FailReject: "554 5.3.0 Not accepted: it could not be checked"} {
				timeout := time.Minute
				if c.rule == "timeout" {
					timeout = 100 * time.Millisecond
				}
				tx := at(t, c.stage)
				told, err := judged(t, c.stage, tx, made(t, Options{URL: c.url, Timeout: timeout, OnFailure: then}))
				if got := replied(err); got != reply {
					t.Errorf("%v: replied %q", then, got)
				}
				if len(told) != 1 || told[0].Rule != c.rule || !strings.Contains(told[0].Reason, c.reason) || (told[0].Kind == policy.FailedOpen) != (then == policy.FailAccept) {
					t.Errorf("%v: told %+v", then, told)
				}
				if tx.Prepended() != nil || tx.Discarded() != "" || len(tx.Facts()) != 1 {
					t.Errorf("%v: a failure changed something: %q %s", then, tx.Prepended(), tx.Facts())
				}
			}
		})
	}
}

func TestWhatCannotBeMade(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"scheme":     {URL: "ftp://h", Stages: stages},
		"no stages":  {URL: "http://h"},
		"secret 2":   {URL: "http://h", Stages: stages, Secrets: []string{"x", "whsec_?hush"}},
		"be parsed":  {URL: "http://u:hu%sh@h", Stages: stages},
		"names no h": {URL: "https:///x", Stages: stages},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hu") {
			t.Errorf("%s: %v", want, err)
		}
	}
	gone := httptest.NewServer(says(""))
	gone.Close()
	p := made(t, Options{URL: strings.Replace(gone.URL, "://", "://u:hush@", 1) + "/?key=hush"})
	if err := p.Check(context.Background(), policy.StageRcpt, at(t, policy.StageRcpt)); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("told %v", err)
	}
}
