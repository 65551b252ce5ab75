package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

const (
	// headerVerdict is how a receiver rejects.
	headerVerdict = "Incoming-Verdict"
	// maxSnippet is the octets of a response that an error shows.
	maxSnippet = 200
	// maxResponse is the octets of a response that are read, so that its
	// connection can be used again; past it the connection is closed.
	maxResponse = 64 << 10
	// maxRetryAfter bounds what a receiver may ask for: a slip of the pen must
	// not put mail off until it is given up.
	maxRetryAfter = 24 * time.Hour
)

// readSome reads a response up to maxResponse octets and for a time, closes it,
// and returns its beginning. The verdict does not hang on it: an error only
// makes the beginning shorter.
func readSome(resp *http.Response, most time.Duration, cancel func()) string {
	stop := time.AfterFunc(most, cancel)
	defer stop.Stop()
	defer resp.Body.Close() // it was only read
	var b bytes.Buffer
	if _, err := io.CopyN(&b, resp.Body, maxSnippet); err == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, maxResponse-maxSnippet) // only so that the connection is free
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

// answer is what a receiver said.
type answer struct {
	resp    *http.Response
	format  Format
	now     time.Time
	snippet string
	request int   // octets of the envelope's header field; 0 in multipart
	size    int64 // octets of the request's body
}

func (a answer) done() bool { return a.resp.StatusCode/100 == 2 }

// rejected: any of the fields says so, or the status where it may.
func (a answer) rejected() bool {
	if a.format == Mailgun && a.resp.StatusCode == http.StatusNotAcceptable {
		return true
	}
	for _, v := range a.resp.Header.Values(headerVerdict) {
		if strings.EqualFold(strings.TrimSpace(v), "reject") {
			return true
		}
	}
	return false
}

func (a answer) verdict() error {
	switch {
	case a.rejected():
		return delivery.Reject(fmt.Errorf("rejected with %s%s", a.status(), a.quoted()))
	case a.done():
		return nil
	}
	err := fmt.Errorf("answered %s%s%s", a.status(), a.mend(), a.quoted())
	if after, found := a.retryAfter(); found {
		return delivery.RetryAfter(after, err)
	}
	return err
}

// status is our own words for the number: the reason phrase is the peer's.
func (a answer) status() string {
	if text := http.StatusText(a.resp.StatusCode); text != "" {
		return fmt.Sprintf("%d %s", a.resp.StatusCode, text)
	}
	return strconv.Itoa(a.resp.StatusCode)
}

func (a answer) quoted() string {
	if a.snippet == "" {
		return ""
	}
	return fmt.Sprintf(": %q", a.snippet)
}

// mend is what an operator may do about a status; "" when only to wait.
func (a answer) mend() string {
	switch code := a.resp.StatusCode; {
	case code/100 == 3:
		return a.mendRedirect()
	case code == 401, code == 403, code == 407:
		return " (check the secret, the user and password of the URL, and the receiver's rules)"
	case code == 404, code == 405, code == 410:
		return " (check the URL)"
	case code == 413:
		return fmt.Sprintf(" (the request has %d octets: raise the receiver's limit for bodies)", a.size)
	case (code == 400 || code == 431) && a.request > 4<<10:
		return fmt.Sprintf(" (the header field %s has %d octets: raise the receiver's limit for header fields, "+
			"or use the multipart format)", headerEnvelope, a.request)
	}
	return ""
}

func (a answer) mendRedirect() string {
	to, err := a.resp.Location()
	if err != nil {
		return " (redirects are not followed: check the URL)"
	}
	return fmt.Sprintf(" (redirects are not followed: this one points to %s, set the URL to what is meant)", show(to))
}

// retryAfter is RFC 9110 §10.2.3: seconds or a date. What is neither, or past,
// is not found.
func (a answer) retryAfter() (time.Duration, bool) {
	v := strings.TrimSpace(a.resp.Header.Get("Retry-After"))
	var after time.Duration
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		after = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(v, "-") {
		after = maxRetryAfter
	} else if date, err := http.ParseTime(v); err == nil {
		after = date.Sub(a.now)
	}
	return min(after, maxRetryAfter), after > 0
}

// warn tells of each answer that was no verdict.
func (a *Adapter) warn(ctx context.Context, m *queue.Message, ans answer) {
	attrs := []slog.Attr{
		slog.String("id", string(m.ID)),
		slog.Int("attempt", m.Attempt),
		slog.Int("status", ans.resp.StatusCode),
		slog.String("url", show(&a.url)),
	}
	if v := ans.resp.Header.Get(headerVerdict); v != "" && !ans.rejected() {
		a.log.LogAttrs(ctx, slog.LevelWarn, "webhook: verdict unknown, only reject is one: going by the status",
			append(attrs, slog.String("verdict", v[:min(len(v), maxSnippet)]))...)
	}
	if ans.rejected() || ans.done() {
		return
	}
	if mend := strings.Trim(ans.mend(), " ()"); mend != "" {
		attrs = append(attrs, slog.String("mend", mend))
	}
	a.log.LogAttrs(ctx, slog.LevelWarn, "webhook: answered "+ans.status()+", which is a retry", attrs...)
}
