package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
)

// deliverTo delivers to a receiver that answers so, and returns what was logged
// and the verdict.
func deliverTo(t *testing.T, answer http.HandlerFunc) (logged string, verdict error) {
	t.Helper()
	rc := newReceiver(t, answer)
	var logs bytes.Buffer
	a := newAdapter(t, Config{URL: rc.URL + "/mail", Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	err := a.Deliver(context.Background(), message(plainEntry("01J"), text))
	return logs.String(), err
}

// D04, D05.
func TestOnlyA2xxIsDoneAndNoOtherStatusLosesMail(t *testing.T) {
	t.Parallel()
	for _, code := range []int{200, 201, 202, 204, 205, 206, 299,
		300, 301, 302, 303, 304, 307, 308,
		400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 418, 422, 425, 426, 429, 431, 451, 499,
		500, 501, 502, 503, 504, 505, 507, 511, 520, 599, 999} {
		logs, err := deliverTo(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		if code/100 == 2 {
			if err != nil || logs != "" {
				t.Errorf("%d: Deliver returned %v and logged %q", code, err, logs)
			}
			continue
		}
		if err == nil || isRejected(err) || isRetryAfter(err, 0) || !strings.Contains(err.Error(), fmt.Sprint("answered ", code)) {
			t.Errorf("%d: Deliver returned %v, want a retry by the back-off that names the status", code, err)
		}
		if !strings.Contains(logs, "level=WARN") || !strings.Contains(logs, fmt.Sprint("status=", code)) ||
			!strings.Contains(logs, "id=01J") || !strings.Contains(logs, "/mail") {
			t.Errorf("%d: logged %q", code, logs)
		}
	}
}

func TestTheVerdictRejectsWhateverTheStatus(t *testing.T) {
	t.Parallel()
	for _, code := range []int{200, 204, 308, 400, 404, 429, 500, 503} {
		for _, value := range []string{"reject", "Reject", " REJECT "} {
			logs, err := deliverTo(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Add("incoming-verdict", "odd")
				w.Header().Add("incoming-verdict", value)
				w.Header().Set("Retry-After", "5")
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(code)
				if code != 204 {
					fmt.Fprint(w, "no such user\n")
				}
			})
			if !isRejected(err) || !strings.Contains(err.Error(), fmt.Sprint(code)) ||
				code != 204 && !strings.Contains(err.Error(), `"no such user"`) {
				t.Errorf("%d, %q: Deliver returned %v, want a reject with its reason", code, value, err)
			}
			if logs != "" {
				t.Errorf("%d, %q: logged %q", code, value, logs)
			}
		}
	}
}

func TestAnUnknownVerdictIsWarnedOfAndTheStatusCounts(t *testing.T) {
	t.Parallel()
	for _, code := range []int{200, 500} {
		logs, err := deliverTo(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Incoming-Verdict", "rejct")
			w.WriteHeader(code)
		})
		if (err == nil) != (code == 200) || isRejected(err) || !strings.Contains(logs, "verdict=rejct") {
			t.Errorf("%d: Deliver returned %v and logged %q", code, err, logs)
		}
	}
}

// D06.
func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	t.Cleanup(other.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, client := range []*http.Client{nil, {}} {
			rc := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, other.URL+"/new?token=hunter2", code)
			})
			err := newAdapter(t, Config{URL: rc.URL, Client: client}).Deliver(context.Background(), message(plainEntry("A"), text))
			if err == nil || !strings.Contains(err.Error(), "points to "+other.URL+"/new,") {
				t.Errorf("%d: Deliver returned %v, want to be told where it points", code, err)
			}
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

// D09.
func TestAConnectionLostBeforeTheAnswerIsARetryWithTheSameKey(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	rc := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if lost.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler)
		}
	})
	a := newAdapter(t, Config{URL: rc.URL, Secrets: []string{secretOne}})
	if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err == nil || isRejected(err) {
		t.Fatalf("Deliver returned %v, want a retry", err)
	}
	e := plainEntry("A")
	e.Attempts = 1
	if err := a.Deliver(context.Background(), message(e, text)); err != nil {
		t.Fatal(err)
	}
	got := rc.requests()
	if len(got) != 2 || got[0].header.Get("Idempotency-Key") != "A" || got[1].header.Get("Idempotency-Key") != "A" {
		t.Errorf("%d requests came: %v", len(got), got)
	}
}

// D05.
func TestRetryAfterIsHonouredWithinReason(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                     0,
		"0":                                    0,
		"-5":                                   0,
		"1":                                    time.Second,
		" 120 ":                                2 * time.Minute,
		"86399":                                24*time.Hour - time.Second,
		"86400":                                24 * time.Hour,
		"86401":                                24 * time.Hour,
		"9223372036854775807":                  24 * time.Hour,
		"99999999999999999999":                 24 * time.Hour,
		"-99999999999999999999":                0,
		"1.5":                                  0,
		"soon":                                 0,
		"Fri, 02 Jan 2026 03:05:05 GMT":        time.Minute,
		"Friday, 02-Jan-26 03:05:05 GMT":       time.Minute,
		"Fri, 02 Jan 2026 03:04:04 GMT":        0,
		"Fri, 02 Jan 2099 03:04:04 GMT":        24 * time.Hour,
		"Fri, 02 Jan 2026 03:05:05 GMT, extra": 0,
	} {
		resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {value}}}
		after, found := answer{resp: resp, now: now}.retryAfter()
		if found != (want > 0) || found && after != want {
			t.Errorf("%q: %v, %v, want %v", value, after, found, want)
		}
	}
	_, err := deliverTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if !isRetryAfter(err, 90*time.Second) {
		t.Errorf("Deliver returned %v, want a retry after 90 s", err)
	}
}

func TestTheErrorSaysHowToMend(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{401: "password", 404: "check the URL", 413: "raise the receiver's limit"} {
		logs, err := deliverTo(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, strings.Repeat("x", 500)+"\n\x1b[2J")
		})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(logs, want) ||
			strings.Count(err.Error(), "x") > maxSnippet+5 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%d: Deliver returned %v and logged %s", code, err, logs)
		}
	}
}

// isRetryAfter: some error in the chain is what delivery.RetryAfter makes, of
// that time; 0 is any.
func isRetryAfter(err error, d time.Duration) bool {
	want := reflect.TypeOf(delivery.RetryAfter(0, errors.New("later")))
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == want {
			return d == 0 || reflect.DeepEqual(err, delivery.RetryAfter(d, errors.Unwrap(err)))
		}
	}
	return false
}
