package httppolicy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"io"
	"net/http"
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
	"github.com/incoming-mx/incoming/policy/internal/policytest"
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

// The request is a contract: what an application reads today it reads tomorrow.
func TestTheRequestAtEachStage(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	url := policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
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
		if told, err := policytest.Judged(t, stage, at(t, stage), p); err != nil || told != nil {
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
	p := made(t, Options{URL: policytest.Program(t, func(w http.ResponseWriter, r *http.Request) { asked++; w.WriteHeader(204) }), Stages: []policy.Stage{policy.StageRcpt}})
	for _, stage := range stages {
		if _, err := policytest.Judged(t, stage, at(t, stage), p); err != nil {
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
	p := made(t, Options{Secrets: secrets, URL: policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
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
		if _, err := policytest.Judged(t, policy.StageRcpt, at(t, policy.StageRcpt), p); err != nil {
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
		told, err := policytest.Judged(t, policy.StageMessage, at(t, policy.StageMessage), made(t, Options{URL: policytest.Program(t, policytest.Says(answer))}))
		got := policytest.Replied(err)
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
	_, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: policytest.Program(t, policytest.Says(`{"action":"quarantine","reason":"odd","facts":{"customer":{"id":7}},
		"headers":[{"name":"X-A","value":"1"},{"name":"X-B","value":"2\n\tfolded"}]}`))}))
	if err != nil || string(tx.Fact("http_policy.customer")) != `{"id":7}` || tx.Quarantined() != "odd" || string(tx.Prepended()) != "X-A: 1\r\nX-B: 2\r\n\tfolded\r\n" {
		t.Errorf("%v, facts %s, %q, %q", err, tx.Facts(), tx.Quarantined(), tx.Prepended())
	}
}

// D19, D20: what is wrong with the application is its failure, told and done as
// configured.
func TestAnApplicationThatIsNotWellHasFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url, rule, reason string
		stage             policy.Stage
	}{
		"nobody listens": {policytest.Gone(), "failed", "refused", policy.StageRcpt},
		"hangs":          {policytest.Program(t, policytest.Hang), "timeout", "no answer in 100ms", policy.StageRcpt},
		"an error":       {policytest.Program(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }), "failed", "answered 500", policy.StageRcpt},
		"elsewhere": {policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}), "failed", "answered 307", policy.StageRcpt},
		"HTML":                {policytest.Program(t, policytest.Says("<html>")), "failed", "an answer that is none", policy.StageRcpt},
		"no action":           {policytest.Program(t, policytest.Says(`{}`)), "failed", `the action ""`, policy.StageRcpt},
		"an unknown action":   {policytest.Program(t, policytest.Says(`{"action":"deny"}`)), "failed", `the action "deny"`, policy.StageRcpt},
		"too long":            {policytest.Program(t, policytest.Says(`{"action":"pass","x":"`+strings.Repeat("x", MaxAnswer)+`"}`)), "failed", "an answer of more than", policy.StageRcpt},
		"a reply of 250":      {policytest.Program(t, policytest.Says(`{"action":"reject","reply":"250 Ok"}`)), "failed", "no reply of 4xx or 5xx", policy.StageRcpt},
		"a reply of 4xx":      {policytest.Program(t, policytest.Says(`{"action":"reject","reply":"450 Later"}`)), "failed", "to reject", policy.StageRcpt},
		"discard too early":   {policytest.Program(t, policytest.Says(`{"action":"discard"}`)), "failed", "before there is a message", policy.StageHello},
		"a field too early":   {policytest.Program(t, policytest.Says(`{"action":"pass","headers":[{"name":"X","value":"y"}]}`)), "failed", "before there is a message", policy.StageConnect},
		"a field with a line": {policytest.Program(t, policytest.Says(`{"action":"pass","headers":[{"name":"X","value":"a\nBcc: b"}]}`)), "failed", "is not a fold", policy.StageMessage},
		"facts past the room": {policytest.Program(t, policytest.Says(`{"action":"pass","facts":{"x":"`+strings.Repeat("x", policy.MaxFacts)+`"}}`)), "failed", "all facts together", policy.StageMessage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policytest.Failure{Stage: c.stage, Rule: c.rule, Reason: c.reason,
				Tx: func() *policy.Transaction { return at(t, c.stage) },
				Policy: func(timeout time.Duration, then policy.FailureAction) policy.Policy {
					return made(t, Options{URL: c.url, Timeout: timeout, OnFailure: then})
				},
			}.Check(t, func(t *testing.T, tx *policy.Transaction) {
				if tx.Prepended() != nil || tx.Discarded() != "" || len(tx.Facts()) != 1 {
					t.Errorf("a failure changed something: %q %s", tx.Prepended(), tx.Facts())
				}
			})
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
	p := made(t, Options{URL: strings.Replace(policytest.Gone(), "://", "://u:hush@", 1) + "/?key=hush"})
	if err := p.Check(context.Background(), policy.StageRcpt, at(t, policy.StageRcpt)); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("told %v", err)
	}
}
