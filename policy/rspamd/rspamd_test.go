package rspamd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/internal/policytest"
	"github.com/incoming-mx/incoming/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const message = "Subject: hi\r\nX-Spam-Level: forged\r\nX-Spam: no\r\n\r\nhello\r\n"

func transaction(text string) *policy.Transaction {
	t := &policy.Transaction{Listener: "mx", Hostname: "mx.test", Hello: "c.example", Peer: netip.MustParseAddrPort("192.0.2.7:4711")}
	t.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{})
	for _, to := range []string{"b@y.example", "c@y.example"} {
		t.To = append(t.To, policy.Recipient{Path: smtp.ParsePath(to)})
	}
	t.ID, t.Header, t.Size = "01ID", header.Parse([]byte(text)), int64(len(text))
	t.OpenText = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	return t
}

func made(t *testing.T, o Options) *Rspamd {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.program.CloseIdle)
	return r
}

func recorded(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRspamdIsToldAllThatItIsToKnow(t *testing.T) {
	t.Parallel()
	var got []string
	var text []byte
	url := policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.Path)
		for _, name := range []string{"IP", "Helo", "From", "Rcpt", "Queue-Id", "MTA-Name", "MTA-Tag", "TLS-Version", "TLS-Cipher", "Password"} {
			got = append(got, name+"="+strings.Join(r.Header.Values(name), "|"))
		}
		text, _ = io.ReadAll(r.Body)
		if r.ContentLength != int64(len(text)) {
			t.Errorf("length %d of %d", r.ContentLength, len(text))
		}
		io.WriteString(w, `{"action":"no action"}`)
	})
	tx := transaction(message)
	tx.TLS = &tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: url, Password: "hush"})); err != nil || told != nil {
		t.Fatal(err, told)
	}
	want := "POST /checkv2,IP=192.0.2.7,Helo=c.example,From=a@x.example,Rcpt=b@y.example|c@y.example,Queue-Id=01ID,MTA-Name=mx.test,MTA-Tag=mx," +
		"TLS-Version=TLSv1.2,TLS-Cipher=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,Password=hush"
	if s := strings.Join(got, ","); s != want {
		t.Errorf("told %s\nwant %s", s, want)
	}
	if string(text) != message {
		t.Errorf("it was sent %q", text)
	}
}

func TestAHostileEnvelopeStaysInItsField(t *testing.T) {
	t.Parallel()
	url := policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("From") != "<>" || r.Header.Get("Helo") != "c.exampleIP: 10.0.0.1" || len(r.Header.Values("IP")) != 0 {
			t.Errorf("told %v", r.Header)
		}
		io.WriteString(w, `{"action":"no action"}`)
	})
	tx := transaction("")
	tx.From, tx.Hello, tx.Peer = smtp.Path{}, "c.example\r\nIP: 10.0.0.1", netip.AddrPort{}
	if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: url})); err != nil || told != nil {
		t.Error(err, told)
	}
}

// D21: what each action becomes, in answers of a real rspamd and in others.
func TestTheActionsOfRspamd(t *testing.T) {
	t.Parallel()
	clean := strings.Replace(message, "X-Spam: no\r\n", "", 1)
	for name, c := range map[string]struct {
		answer string
		reply  string
		kind   policy.Kind
		stored string // "" is the message as it came
	}{
		"no action":               {`{"action":"no action","score":-1}`, "", "", clean},
		"an operator's own":       {`{"action":"look twice","score":3}`, "", "", clean},
		"reject":                  {recorded(t, "reject.json"), "550 5.7.1 Gtube pattern", policy.Rejected, ""},
		"reject without words":    {`{"action":"reject"}`, "550 5.7.1 Refused as spam", policy.Rejected, ""},
		"soft reject":             {`{"action":"soft reject"}`, "451 4.7.1 Try again later", policy.Deferred, ""},
		"soft reject with words":  {`{"action":"soft reject","messages":{"smtp_message":"Ratelimit\r\n550 x"}}`, "451 4.7.1 Ratelimit  550 x", policy.Deferred, ""},
		"greylist":                {`{"action":"greylist"}`, "451 4.7.1 Try again later", policy.Deferred, ""},
		"discard":                 {`{"action":"discard"}`, "", policy.Discarded, ""},
		"quarantine":              {`{"action":"quarantine","score":7.5}`, "", policy.Quarantined, clean},
		"add header":              {recorded(t, "add_header.json"), "", "", "X-Spam: Yes\r\nSubject: hi\r\nX-Spam-Level: forged\r\n\r\nhello\r\n"},
		"rewrite subject":         {recorded(t, "rewrite_subject.json"), "", "", "Subject: *** SPAM *** hi\r\nX-Spam-Level: forged\r\n\r\nhello\r\n"},
		"a subject beyond ASCII":  {`{"action":"rewrite subject","subject":"Spam: grüße"}`, "", "", "Subject: =?utf-8?q?Spam:_gr=C3=BC=C3=9Fe?=\r\nX-Spam-Level: forged\r\n\r\nhello\r\n"},
		"fields and those it had": {recorded(t, "headers.json"), "", "", "Authentication-Results: vm;\r\n\tspf=temperror (vm: error in processing during lookup of a@x.example: DNS error) smtp.mailfrom=a@x.example\r\nX-Rspamd-Queue-Id: 01ID\r\nX-Spam-Level: ******\r\nX-Spamd-Bar: ++++++\r\nX-Spamd-Result: default: False [6.00 / 15.00];\r\n\tHFILTER_HOSTNAME_UNKNOWN(2.50)[];\r\n\tRDNS_NONE(1.00)[]\r\nX-Spam: Yes\r\nSubject: hi\r\n\r\nhello\r\n"},
		"fields in other shapes": {`{"action":"no action","milter":{"add_headers":{"A":"1","B":["2","3"],"C":[{"value":"4","order":0}]},"remove_headers":{"subject":1,"X-Spam":-1,"X-Spam-Level":2}}}`,
			"", "", "C: 4\r\nA: 1\r\nB: 2\r\nB: 3\r\nX-Spam-Level: forged\r\n\r\nhello\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(message)
			told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: policytest.Program(t, policytest.Says(c.answer))}))
			if got := policytest.Replied(err); got != c.reply {
				t.Errorf("replied %q, want %q: %+v", got, c.reply, told)
			}
			if c.kind == "" && told != nil || c.kind != "" && (len(told) != 1 || told[0].Kind != c.kind || told[0].Rule == "" || len(told[0].Inputs) != 3) {
				t.Errorf("told %+v", told)
			}
			want := c.stored
			if want == "" {
				want = message
			}
			if got := policytest.Stored(t, tx); got != want {
				t.Errorf("stored %q\nwant   %q", got, want)
			}
			if tx.Fact("rspamd.action") == nil || tx.Fact("rspamd.score") == nil || tx.Fact("rspamd.symbols") == nil {
				t.Errorf("facts %s", tx.Facts())
			}
		})
	}
}

func TestFactsOfRspamdAreBounded(t *testing.T) {
	t.Parallel()
	tx := transaction(message)
	if _, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: policytest.Program(t, policytest.Says(recorded(t, "headers.json")))})); err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"HFILTER_HOSTNAME_UNKNOWN","score":2.5},{"name":"MIME_GOOD","score":-1.5},{"name":"RDNS_NONE","score":1},{"name":"ONCE_RECEIVED","score":0.1}]`
	if got := string(tx.Fact("rspamd.symbols")); got != want || string(tx.Fact("rspamd.score")) != "6" || string(tx.Fact("rspamd.action")) != `"add header"` {
		t.Errorf("facts %s", tx.Facts())
	}
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf(`"S%d%s":{"score":1}`, i, strings.Repeat("X", 50)))
	}
	tx = transaction(message)
	if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: policytest.Program(t, policytest.Says(`{"action":"no action","symbols":{`+strings.Join(many, ",")+`}}`))})); err != nil {
		t.Error(err, told)
	}
	if n := strings.Count(string(tx.Fact("rspamd.symbols")), "name"); n != mostSymbols {
		t.Errorf("%d symbols", n)
	}
}

func TestAMessagePastTheSizeIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	asked := 0
	url := policytest.Program(t, func(w http.ResponseWriter, r *http.Request) { asked++; policytest.Says(`{"action":"no action"}`)(w, r) })
	size := int64(len(message))
	for limit, want := range map[int64]string{size - 1: `"skipped"`, size: `"no action"`, size + 1: `"no action"`, -1: `"no action"`} {
		tx := transaction(message)
		if _, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{URL: url, MaxSize: limit})); err != nil || string(tx.Fact("rspamd.action")) != want {
			t.Errorf("%d: %v, facts %s", limit, err, tx.Facts())
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

// D19, D20: whatever is wrong with rspamd is a failure, told and done as configured.
func TestAnRspamdThatIsNotWellHasFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, rule, reason string }{
		"nobody listens": {policytest.Gone(), "failed", "refused"},
		"hangs":          {policytest.Program(t, policytest.Hang), "timeout", "no answer in 100ms"},
		"wrong password": {policytest.Program(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }), "failed", "answered 403"},
		"elsewhere": {policytest.Program(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}), "failed", "answered 307"},
		"nothing":             {policytest.Program(t, policytest.Says("")), "failed", "an answer that is none"},
		"HTML":                {policytest.Program(t, policytest.Says("<html>")), "failed", "an answer that is none"},
		"another JSON":        {policytest.Program(t, policytest.Says(`{}`)), "failed", "an answer without an action"},
		"an error":            {policytest.Program(t, policytest.Says(`{"error":"invalid command","action":"reject"}`)), "failed", "answered: invalid command"},
		"too long":            {policytest.Program(t, policytest.Says(`{"action":"no action","x":"`+strings.Repeat("x", mostAnswer)+`"}`)), "failed", "an answer of more than"},
		"a change of sender":  {policytest.Program(t, policytest.Says(`{"action":"no action","milter":{"change_from":"x@evil.example"}}`)), "failed", "the envelope"},
		"a field with a line": {policytest.Program(t, policytest.Says(`{"action":"no action","milter":{"add_headers":{"X":"a\nBcc: x"}}}`)), "failed", "is not a fold"},
		"a field in a name":   {policytest.Program(t, policytest.Says(`{"action":"no action","milter":{"add_headers":{"X: y\r\nZ":"a"}}}`)), "failed", "no field name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policytest.Failure{Stage: policy.StageMessage, Rule: c.rule, Reason: c.reason,
				Tx: func() *policy.Transaction { return transaction(message) },
				Policy: func(timeout time.Duration, then policy.FailureAction) policy.Policy {
					return made(t, Options{URL: c.url, Timeout: timeout, OnFailure: then})
				},
			}.Check(t, func(t *testing.T, tx *policy.Transaction) {
				if policytest.Stored(t, tx) != message || tx.Discarded() != "" || tx.Facts() != nil {
					t.Errorf("a failure changed something: %q %s", policytest.Stored(t, tx), tx.Facts())
				}
			})
		})
	}
}

func TestNothingOfTheURLIsInAnError(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "rspamd", "ftp://h", "http:///x", "http://u:hush@[", "http://u:hu%sh@h"} {
		if _, err := New(Options{URL: bad}); err == nil || strings.Contains(err.Error(), "hu") && strings.Contains(bad, "hu") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	m := made(t, Options{URL: strings.Replace(policytest.Gone(), "://", "://u:hush@", 1) + "/?key=hush"})
	if err := m.Check(context.Background(), policy.StageMessage, transaction(message)); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("told %v", err)
	}
}

// A connection that was kept and is closed meanwhile is no failure.
func TestAConnectionThatWasClosedIsOpenedAgain(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(policytest.Says(`{"action":"no action"}`))
	defer s.Close()
	m := made(t, Options{URL: s.URL})
	for range 20 {
		if told, err := policytest.Judged(t, policy.StageMessage, transaction(strings.Repeat(message, 100)), m); err != nil {
			t.Fatal(err, told)
		}
		s.CloseClientConnections()
	}
}
