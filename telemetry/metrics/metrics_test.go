package metrics

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/incoming-mx/incoming/telemetry"
)

var update = flag.Bool("update", false, "write the list in docs/metrics.md")

func newExporter(t *testing.T) *Exporter {
	t.Helper()
	e, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const manual = "../../docs/metrics.md"

func TestTheManualListsEachMetricAndNoOther(t *testing.T) {
	t.Parallel()
	const begin, end = "-update writes it -->\n", "<!-- end of metrics -->"
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	list, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: no marks around the list", manual)
	}
	var want strings.Builder
	want.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	e := newExporter(t)
	for _, m := range e.all {
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		fmt.Fprintf(&want, "| `%s_%s` | %s | %s | %s |\n", e.prefix, m.name, m.kind, labels, m.help)
	}
	if *update {
		if err := os.WriteFile(manual, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if list != want.String() {
		t.Errorf("%s differs from the code; go test ./telemetry/metrics -update writes it.\nis:\n%s\nshould be:\n%s", manual, list, want.String())
	}
	// What the rest of the manual speaks of must exist.
	known := map[string]bool{}
	for _, m := range e.all {
		known[m.name] = true
	}
	for _, word := range strings.FieldsFunc(before+after, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z')
	}) {
		name, ok := strings.CutPrefix(word, "incoming_")
		if ok && name != "" && !known[strings.TrimSuffix(name, "_bucket")] {
			t.Errorf("%s speaks of %s, which is no metric", manual, word)
		}
	}
	for _, m := range e.all {
		for _, l := range m.labels {
			if l != "listener" && l != "version" && l != "result" && !strings.Contains(after, "| `"+l+"` |") {
				t.Errorf("%s does not say what the label %s holds", manual, l)
			}
		}
	}
}

func TestNamesFollowTheRule(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(fed(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, m := range newExporter(t).all {
		if total := strings.HasSuffix(m.name, "_total"); total != (m.kind == "counter") {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
		if m.kind == "histogram" && !strings.HasSuffix(m.name, "_seconds") && !strings.HasSuffix(m.name, "_bytes") {
			t.Errorf("%s has no unit", m.name)
		}
		if !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: %q is no sentence", m.name, m.help)
		}
	}
}

// each yields the name and the func of each hook that counts.
func each(t *testing.T, h telemetry.Hooks, yield func(name string, call func(event reflect.Value), event reflect.Type)) {
	t.Helper()
	v := reflect.ValueOf(h)
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		if f.IsNil() {
			if name != "SessionDialogue" {
				t.Errorf("%s is not counted", name)
			}
			continue
		}
		yield(name, func(event reflect.Value) { f.Call([]reflect.Value{event}) }, f.Type().In(0))
	}
}

func TestEveryFactHasAMetric(t *testing.T) {
	t.Parallel()
	e := newExporter(t)
	before := gathered(t, e)
	each(t, e.Hooks(), func(name string, call func(reflect.Value), event reflect.Type) {
		call(some(event))
		after := gathered(t, e)
		if after == before {
			t.Errorf("%s changes no metric", name)
		}
		before = after
	})
}

// some is an event of a type: its zero, but held, or of one, where that makes the difference.
func some(event reflect.Type) reflect.Value {
	e := reflect.New(event).Elem()
	if held := e.FieldByName("Held"); held.IsValid() {
		held.SetBool(true)
	}
	for _, name := range []string{"Peers", "Busiest"} {
		if count := e.FieldByName(name); count.IsValid() {
			count.SetInt(1)
		}
	}
	if expiry := e.FieldByName("NotAfter"); expiry.IsValid() {
		expiry.Set(reflect.ValueOf(time.Unix(1, 0)))
	}
	return e
}

// fed is an exporter that was told something of everything.
func fed(t *testing.T) *Exporter {
	t.Helper()
	e := newExporter(t)
	each(t, e.Hooks(), func(_ string, call func(reflect.Value), event reflect.Type) { call(some(event)) })
	e.Hooks().DeliveryResult(telemetry.DeliveryResult{Outcome: "acked"})
	e.Hooks().SpoolError(telemetry.SpoolError{Sick: true})
	e.Hooks().TLSHandshake(telemetry.TLSHandshake{Err: io.EOF, Reason: "eof"})
	e.Hooks().QueueDepth(telemetry.QueueDepth{OldestAge: time.Second})
	e.Hooks().PolicyDecision(telemetry.PolicyDecision{Policy: "p", Decision: "reject"})
	e.Hooks().PolicyDecision(telemetry.PolicyDecision{Policy: "p", Decision: "reject", Observed: true})
	return e
}

func TestEveryMetricHasAFact(t *testing.T) {
	t.Parallel()
	before, after := newExporter(t), fed(t)
	for i, m := range after.all {
		if gathered(t, m.collector) == gathered(t, before.all[i].collector) {
			t.Errorf("%s is never set", m.name)
		}
	}
}

func gathered(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestWhatIsCounted(t *testing.T) {
	t.Parallel()
	e := newExporter(t)
	h := e.Hooks()
	mx := telemetry.Session{Listener: "mx"}
	h.SessionConnect(telemetry.SessionConnect{Session: mx})
	h.SessionConnect(telemetry.SessionConnect{Session: mx})
	h.SessionAccepted(telemetry.SessionAccepted{Session: mx})
	h.SessionRejected(telemetry.SessionRejected{Session: mx, Stage: "rcpt", Code: 550, Policy: "accept_domains", Rcpt: "b@y.example", Reply: "550 5.7.1 No b@y.example"})
	h.SessionRejected(telemetry.SessionRejected{Session: mx, Stage: "rcpt", Code: 99})
	h.SessionClosed(telemetry.SessionClosed{Session: mx, Reason: "quit", Duration: 3 * time.Second, BytesIn: 700, BytesOut: 300})
	h.MessageQueued(telemetry.MessageQueued{Session: mx, Rcpts: []string{"a", "b"}, Size: 4096, Commit: 5 * time.Millisecond, Duration: time.Second})
	h.MessageDiscarded(telemetry.MessageDiscarded{Policy: "bin"})
	h.MessageEnqueueError(telemetry.MessageEnqueueError{Reason: "full"})
	h.DeliveryResult(telemetry.DeliveryResult{Outcome: "acked", Duration: time.Second, Age: time.Minute})
	h.DeliveryResult(telemetry.DeliveryResult{Outcome: "retry", Age: time.Minute})
	h.DeliveryHeld(telemetry.DeliveryHeld{Held: true})
	h.DeliveryDead(telemetry.DeliveryDead{Kind: "spent"})
	h.SessionCrowd(telemetry.SessionCrowd{Open: 12, Max: 1000, Peers: 3, Busiest: 9, BusiestMax: 50})
	h.QueueDepth(telemetry.QueueDepth{Ready: 1, Waiting: 2, Leased: 3, Dead: 4, Drafts: 5, OldestAge: time.Minute})
	h.QueueSwept(telemetry.QueueSwept{Kind: "rejected"})
	h.PolicyDecision(telemetry.PolicyDecision{Policy: "rate_limit", Stage: "mail", Decision: "tempfail"})
	h.LimitHit(telemetry.LimitHit{Limit: "limits.connections", Use: 1001, Max: 1000})
	h.SmugglingBlocked(telemetry.SmugglingBlocked{What: "bare_lf"})
	h.TLSHandshake(telemetry.TLSHandshake{Session: mx, Version: "TLS 1.3"})
	h.TLSHandshake(telemetry.TLSHandshake{Session: mx, Err: errors.New("bad certificate of b@y.example"), Reason: "alert"})
	h.TLSCertificate(telemetry.TLSCertificate{Listener: "mx", Number: 1, NotAfter: time.Unix(1800000000, 0)})
	h.TLSCertificate(telemetry.TLSCertificate{Listener: "mx", Number: 2, NotAfter: time.Unix(1800000001, 0)})
	h.SpoolError(telemetry.SpoolError{Op: "commit", Sick: true})
	h.Trouble(telemetry.Trouble{Kind: "certificate", Listener: "mx"})
	h.Panic(telemetry.Panic{Where: "adapter", Value: "b@y.example"})

	text := gathered(t, e)
	for _, want := range []string{
		`incoming_session_connect_total{listener="mx"} 2`,
		`incoming_session_accepted_total{listener="mx"} 1`,
		`incoming_session_rejected_total{code="550",listener="mx",policy="accept_domains",stage="rcpt"} 1`,
		`incoming_session_rejected_total{code="other",listener="mx",policy="",stage="rcpt"} 1`,
		`incoming_session_closed_total{listener="mx",reason="quit"} 1`,
		`incoming_session_open{listener="mx"} 1`,
		`incoming_session_peers 3`,
		`incoming_session_busiest 9`,
		`incoming_session_duration_seconds_sum{listener="mx"} 3`,
		`incoming_session_received_bytes_total{listener="mx"} 700`,
		`incoming_session_sent_bytes_total{listener="mx"} 300`,
		`incoming_message_queued_total{listener="mx"} 1`,
		`incoming_message_recipients_total{listener="mx"} 2`,
		`incoming_message_size_bytes_sum 4096`,
		`incoming_message_commit_seconds_sum 0.005`,
		`incoming_message_duration_seconds_sum 1`,
		`incoming_message_discarded_total{policy="bin"} 1`,
		`incoming_message_enqueue_error_total{reason="full"} 1`,
		`incoming_delivery_result_total{outcome="acked"} 1`,
		`incoming_delivery_result_total{outcome="retry"} 1`,
		`incoming_delivery_duration_seconds_sum{outcome="acked"} 1`,
		`incoming_delivery_age_seconds_sum 60`,
		`incoming_delivery_age_seconds_count 1`,
		`incoming_delivery_held 1`,
		`incoming_delivery_held_total 1`,
		`incoming_delivery_dead_total{kind="spent"} 1`,
		`incoming_queue_depth{state="ready"} 1`,
		`incoming_queue_depth{state="waiting"} 2`,
		`incoming_queue_depth{state="leased"} 3`,
		`incoming_queue_depth{state="dead"} 4`,
		`incoming_queue_depth{state="drafts"} 5`,
		`incoming_queue_oldest_age_seconds 60`,
		`incoming_queue_swept_total{kind="rejected"} 1`,
		`incoming_policy_decision_total{decision="tempfail",policy="rate_limit",stage="mail"} 1`,
		`incoming_limit_hit_total{limit="limits.connections"} 1`,
		`incoming_limit_hit_use{limit="limits.connections"} 1001`,
		`incoming_limit_hit_max{limit="limits.connections"} 1000`,
		`incoming_smuggling_blocked_total{what="bare_lf"} 1`,
		`incoming_tls_handshake_total{listener="mx",result="ok",version="TLS 1.3"} 1`,
		`incoming_tls_handshake_total{listener="mx",result="failed",version=""} 1`,
		`incoming_tls_handshake_failed_total{listener="mx",reason="alert"} 1`,
		`incoming_tls_certificate_not_after_seconds{certificate="1",listener="mx"} 1.8e+09`,
		`incoming_tls_certificate_not_after_seconds{certificate="2",listener="mx"} 1.800000001e+09`,
		`incoming_spool_error_total{op="commit"} 1`,
		`incoming_spool_sick 1`,
		`incoming_trouble_total{kind="certificate"} 1`,
		`incoming_trouble{kind="certificate",listener="mx"} 1`,
		`incoming_panic_total{where="adapter"} 1`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, "@") {
		t.Error("an address got into the metrics")
	}

	h.DeliveryHeld(telemetry.DeliveryHeld{})
	h.SpoolError(telemetry.SpoolError{Op: "probe", Well: true})
	h.Trouble(telemetry.Trouble{Kind: "certificate", Listener: "mx", Over: true})
	h.TLSCertificate(telemetry.TLSCertificate{Listener: "mx", Number: 2})
	text = gathered(t, e)
	if strings.Contains(text, `certificate="2"`) {
		t.Error("the expiry of a certificate that is gone is still there")
	}
	for _, want := range []string{`incoming_delivery_held 0`, `incoming_delivery_held_total 1`, `incoming_spool_sick 0`,
		`incoming_trouble{kind="certificate",listener="mx"} 0`, `incoming_trouble_total{kind="certificate"} 1`} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("once it is over, missing: %s", want)
		}
	}
	if strings.Contains(text, `op="probe"`) {
		t.Error("being well again is counted as an error")
	}
}

// No client can make more series than a bound, nor a label of its own words.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{maxValues - 1: maxValues - 1, maxValues: maxValues, maxValues + 1: maxValues + 1, 1000: maxValues + 1} {
		e := newExporter(t)
		for i := range n {
			e.Hooks().Panic(telemetry.Panic{Where: fmt.Sprint("w", i)})
		}
		if got := testutil.CollectAndCount(e.facts.panics.vec); got != want {
			t.Errorf("%d values make %d series, want %d", n, got, want)
		}
	}
	e := newExporter(t)
	for _, v := range []string{"b@y.example", "a\nb", "ü", "\xff", strings.Repeat("x", maxValue+1)} {
		e.Hooks().Panic(telemetry.Panic{Where: v})
	}
	e.Hooks().Panic(telemetry.Panic{Where: strings.Repeat("x", maxValue)})
	if got := testutil.ToFloat64(e.facts.panics.vec.WithLabelValues(other)); got != 5 {
		t.Errorf("%v counted as other", got)
	}
}

func TestHooksMayBeCalledAtOnce(t *testing.T) {
	t.Parallel()
	e := newExporter(t)
	h := e.Hooks()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				h.Panic(telemetry.Panic{Where: fmt.Sprint("w", i)})
			}
		})
	}
	wg.Wait()
	if got := testutil.CollectAndCount(e.facts.panics.vec); got > maxValues+1 {
		t.Errorf("%d series", got)
	}
}

func TestHandlerServesOurMetricsAndTheProcess(t *testing.T) {
	t.Parallel()
	e, err := New(&Options{Prefix: "mx"})
	if err != nil {
		t.Fatal(err)
	}
	e.Hooks().SessionConnect(telemetry.SessionConnect{Session: telemetry.Session{Listener: "a"}})
	srv := httptest.NewServer(e.Handler())
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`mx_session_connect_total{listener="a"} 1`, "\ngo_goroutines ", "\nmx_spool_sick 0\n"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(string(body), "incoming_") {
		t.Error("the default prefix is there too")
	}
}

func TestPrefixMustBeginAName(t *testing.T) {
	t.Parallel()
	for prefix, ok := range map[string]bool{"": true, "mx": true, "_a9": true, "9a": false, "my-app": false, "a b": false, "ü": false, "a\n": false} {
		if _, err := New(&Options{Prefix: prefix}); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestExporterGoesIntoAnotherRegistry(t *testing.T) {
	t.Parallel()
	if err := prometheus.NewPedanticRegistry().Register(fed(t)); err != nil {
		t.Error(err)
	}
}
