package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestANoticeIsTheEnvelopeAndWhereTheTextIs(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	a := newAdapter(t, Config{URL: rc.URL, Secrets: []string{secretOne}})
	if err := a.Notify(t.Context(), message(fullEntry(), text), "object", map[string]string{"key": "a/b"}); err != nil {
		t.Fatal(err)
	}
	r := rc.requests()[0]
	var got struct {
		Envelope
		Object struct{ Key string } `json:"object"`
	}
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != r.header.Get("Idempotency-Key") || got.Fingerprint != r.header.Get("Incoming-Fingerprint") || got.Object.Key != "a/b" ||
		len(got.Recipients) != 2 || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s", r.dump())
	}
	if err := verify(secretOne, r.header, bytes.NewReader(r.body), 0, a.now()); err != nil {
		t.Error(err)
	}
	if err := a.Notify(t.Context(), message(fullEntry(), text), "id", 1); err == nil || !strings.Contains(err.Error(), "of its own") {
		t.Errorf("a key of the envelope: %v", err)
	}
}

func TestTheAnswerToANoticeIsAVerdict(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Incoming-Verdict", "reject") })
	if err := newAdapter(t, Config{URL: rc.URL}).Notify(t.Context(), message(fullEntry(), text), "object", nil); !isRejected(err) {
		t.Errorf("verdict %v", err)
	}
}
