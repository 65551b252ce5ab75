package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

// text has what must not change: CRLF, bare LF, bare CR, NUL, octets that are
// no UTF-8, a dot line, something like a boundary, no last line end.
const text = "Received: from a by b\r\nSubject: caf\xe9\r\n\r\n" +
	"--incoming-\r\n.dot\r\nbare\nlf bare\rcr \x00 end--"

const (
	secretOne = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretTwo = "raw secret of some length"
)

func fullEntry() queue.Entry {
	return queue.Entry{
		ID: "01JH3M5T0G8N2R4V6X8Z0B1C3D",
		Envelope: queue.Envelope{
			MailFrom: "alice+<x>&y@example.net",
			RcptTo: []queue.Recipient{
				{Address: "bob@example.org", Notify: "SUCCESS,FAILURE", ORcpt: "rfc822;b@example.org"},
				{Address: "grüße@example.org"},
			},
			SMTPUTF8: true, Body: "8BITMIME", Ret: "HDRS", EnvID: "env\"1",
		},
		Origin: queue.Origin{
			ReceivedAt: time.Date(2026, 1, 2, 4, 4, 5, 678e6, time.FixedZone("", 3600)),
			Listener:   "mx", Peer: "192.0.2.1:4711", Hello: "mail.example.net 😀",
			TLS: &queue.TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.example.org"},
		},
		Attempts: 2,
		Facts: queue.Facts{
			"spf.result": json.RawMessage(`{"result": "pass"}`),
			"broken":     json.RawMessage(`{"not": json`),
		},
		Quarantine: "looks odd",
		Prepend:    []byte("X-First: 1\r\n"),
	}
}

func plainEntry(id queue.ID) queue.Entry {
	return queue.Entry{ID: id, Envelope: queue.Envelope{
		MailFrom: "alice@example.net", RcptTo: []queue.Recipient{{Address: "bob@example.org"}},
	}}
}

// request is what a receiver got.
type request struct {
	method, path, query string
	header              http.Header
	body                []byte
	length              int64
	transferEncoding    []string
	user, password      string
}

func (r request) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.method, r.path)
	names := make([]string, 0, len(r.header))
	for name := range r.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.header[name], "|"))
	}
	fmt.Fprintf(&b, "\n%q\n", r.body)
	return strings.ReplaceAll(b.String(), `\r\n`, "\\r\\n\n")
}

// receiver is a server that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []request
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	rc := &receiver{}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		user, password, _ := r.BasicAuth()
		rc.mu.Lock()
		rc.got = append(rc.got, request{
			method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, header: r.Header, body: body, length: r.ContentLength,
			transferEncoding: r.TransferEncoding, user: user, password: password,
		})
		rc.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) requests() []request {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return slices.Clone(rc.got)
}

func newAdapter(t *testing.T, cfg Config) *Adapter {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.now = func() time.Time { return time.Unix(1700000000, 0) }
	a.token = func() string { return strings.Repeat("0123456789", 5) }
	t.Cleanup(a.client.CloseIdleConnections)
	return a
}

func message(e queue.Entry, text string) *queue.Message {
	e.Size = int64(len(text))
	return queue.NewMessage(e, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ io.ReaderAt }

func (raw) Close() error { return nil }

// isRejected: some error in the chain is what delivery.Reject makes.
func isRejected(err error) bool {
	want := reflect.TypeOf(delivery.Reject(errors.New("no")))
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == want {
			return true
		}
	}
	return false
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (look at it, then go test -update): got\n%s\nwant\n%s", name, got, want)
	}
}

// D08 among them: the text is not UTF-8. D26.
func TestTheRequestIsAsDocumented(t *testing.T) {
	t.Parallel()
	for _, format := range []Format{Multipart, Raw} {
		rc := newReceiver(t, nil)
		a := newAdapter(t, Config{
			URL: rc.URL + "/mail?key=v", Format: format, Secrets: []string{secretOne, secretTwo},
			Header: http.Header{"x-tenant": {"one"}},
		})
		if err := a.Deliver(context.Background(), message(fullEntry(), text)); err != nil {
			t.Fatal(err)
		}
		got := rc.requests()
		if len(got) != 1 {
			t.Fatalf("%d requests came", len(got))
		}
		r := got[0]
		golden(t, string(format)+".golden", r.dump())
		if r.length != int64(len(r.body)) || len(r.transferEncoding) != 0 || r.query != "key=v" {
			t.Errorf("length %d of %d, transfer encoding %q, query %q", r.length, len(r.body), r.transferEncoding, r.query)
		}
		whole := "X-First: 1\r\n" + text
		if !bytes.Contains(r.body, []byte(whole)) || format == Raw && string(r.body) != whole {
			t.Errorf("%s: the message is not in the body byte for byte", format)
		}
		for _, secret := range []string{secretOne, secretTwo} {
			if err := verify(secret, r.header, bytes.NewReader(r.body), 0, a.now()); err != nil {
				t.Errorf("%s: %v", format, err)
			}
		}
	}
}

func TestGoReadsTheForm(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var env Envelope
		err := json.Unmarshal([]byte(r.FormValue("envelope")), &env)
		file, header, ferr := r.FormFile("message")
		if err = errors.Join(err, ferr); err != nil {
			result <- err
			return
		}
		body, err := io.ReadAll(file)
		received, terr := env.Received()
		switch {
		case errors.Join(err, terr) != nil:
		case string(body) != "X-First: 1\r\n"+text || env.Size != int64(len(body)):
			err = fmt.Errorf("the message is %q of %d", body, env.Size)
		case header.Header.Get("Content-Type") != "message/rfc822":
			err = fmt.Errorf("its header is %v", header.Header)
		case env.Recipients[1] != "grüße@example.org" || env.Attempt != 3 || env.TLS.Version != "TLS 1.3" ||
			!received.Equal(fullEntry().ReceivedAt) || env.DSN.Recipients["bob@example.org"].Notify != "SUCCESS,FAILURE":
			err = fmt.Errorf("the envelope is %+v", env)
		}
		result <- err
	}))
	t.Cleanup(srv.Close)
	if err := newAdapter(t, Config{URL: srv.URL}).Deliver(context.Background(), message(fullEntry(), text)); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestTheEnvelopeOfTheBarestMessageHasEveryKey(t *testing.T) {
	t.Parallel()
	b, err := toJSONText(newEnvelope(message(queue.Entry{ID: "A"}, ""), "f1"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"id":"A","attempt":1,"received_at":"0001-01-01T00:00:00.000Z","size":0,"fingerprint":"f1","sender":"","recipients":[],` +
		`"smtputf8":false,"body":"","dsn":null,"listener":"","peer":"","hello":"","tls":null,"facts":{},"quarantine":""}`
	if b != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestTheEnvelopeInAHeaderFieldIsTheSameInASCII(t *testing.T) {
	t.Parallel()
	b, err := toJSONText(newEnvelope(message(fullEntry(), text), "f1"))
	if err != nil {
		t.Fatal(err)
	}
	ascii := asciiJSON(b)
	for i := range len(ascii) {
		if ascii[i] < ' ' || ascii[i] > '~' {
			t.Fatalf("octet %d is %#x", i, ascii[i])
		}
	}
	var one, two any
	if err := errors.Join(json.Unmarshal([]byte(b), &one), json.Unmarshal([]byte(ascii), &two)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(one) != fmt.Sprint(two) {
		t.Errorf("%v is not %v", one, two)
	}
}

// D09.
func TestTheIDIsTheIdempotencyKeyAtEachAttempt(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	a := newAdapter(t, Config{URL: rc.URL})
	for attempts := range 2 {
		e := plainEntry("odd id/é\n%.2")
		e.Attempts = attempts
		if err := a.Deliver(context.Background(), message(e, text)); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range rc.requests() {
		const want = "odd%20id/%C3%A9%0A%25.2"
		if r.header.Get("Idempotency-Key") != want || r.header.Get("webhook-id") != want ||
			r.header.Get("webhook-signature") != "" || !bytes.Contains(r.body, []byte(fmt.Sprintf(`"attempt":%d`, i+1))) {
			t.Errorf("attempt %d came with %v", i+1, r.header)
		}
	}
}

func TestUserAndPasswordOfTheURLAreBasicAuthorization(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	a := newAdapter(t, Config{URL: strings.Replace(rc.URL, "http://", "http://us%40er:p%3Aw@", 1)})
	if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
		t.Fatal(err)
	}
	if r := rc.requests()[0]; r.user != "us@er" || r.password != "p:w" {
		t.Errorf("user %q, password %q", r.user, r.password)
	}
}

func TestSecretsOfTheURLAreNeverShown(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	for _, base := range []string{rc.URL, "http://127.0.0.1:1"} {
		url := strings.Replace(base, "http://", "http://user:hunter2@", 1) + "/path?token=hunter2"
		err := newAdapter(t, Config{URL: url, Logger: log}).Deliver(context.Background(), message(plainEntry("A"), text))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "user") ||
			!strings.Contains(err.Error(), "/path") {
			t.Errorf("Deliver returned %v", err)
		}
	}
	if strings.Contains(logs.String(), "hunter2") {
		t.Errorf("the log says %s", &logs)
	}
	for _, url := range []string{"http://user:hunter2@host:port/", "ftp://user:hunter2@host/", "http://user:hunter2@/",
		"http://user:hunter2@host/#x", "http://us er:hunter2@host/", "http://user:hunter2%zz@host"} {
		if _, err := New(Config{URL: url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%s) says %v", url, err)
		}
	}
}

func TestNewNamesTheFault(t *testing.T) {
	t.Parallel()
	const url = "https://app.example/mail"
	for want, cfg := range map[string]Config{
		"no URL":                              {},
		"cannot be parsed":                    {URL: "http://a b/"},
		`scheme "ftp"`:                        {URL: "ftp://x/"},
		`scheme ""`:                           {URL: "app.example/mail"},
		"without a host":                      {URL: "https:///mail"},
		"fragment":                            {URL: url + "#x"},
		"PublicOnly, and a Client":            {URL: url, PublicOnly: true, Client: &http.Client{Transport: http.DefaultTransport}},
		`format "json"`:                       {URL: url, Format: "json"},
		"secret 2 of 2: it is empty":          {URL: url, Secrets: []string{"x", ""}},
		"secret 1 of 1: what follows":         {URL: url, Secrets: []string{"whsec_!!"}},
		"secret 1 of 1: what follows \"whsec": {URL: url, Secrets: []string{"whsec_"}},
		"Content-Length is set":               {URL: url, Header: http.Header{"content-length": {"1"}}},
		"Webhook-Signature is set":            {URL: url, Header: http.Header{"webhook-signature": {"1"}}},
		"no name for a header":                {URL: url, Header: http.Header{"a b": {"1"}}},
		"control character":                   {URL: url, Header: http.Header{"A": {"1\r\nB: 2"}}},
		"give one of them":                    {URL: "https://u:p@x/", Header: http.Header{"authorization": {"Bearer x"}}},
	} {
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "webhook: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, want something of %q", err, want)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	peers := map[string]bool{}
	rc := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		peers[r.RemoteAddr] = true
		fmt.Fprint(w, strings.Repeat("x", 10<<10)) // more than is shown, less than is read
	})
	a := newAdapter(t, Config{URL: rc.URL})
	for range 5 {
		if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(peers) != 1 {
		t.Errorf("%d connections were made, want 1", len(peers))
	}
}

// The other side closes a kept connection whenever it likes, also on a request.
func TestAKeptConnectionFoundClosedIsNoFailure(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	rc := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
	})
	a := newAdapter(t, Config{URL: rc.URL, Secrets: []string{secretOne}})
	for range 2 {
		if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
			t.Fatal(err)
		}
	}
	got := rc.requests()
	if len(got) != 3 || !bytes.Equal(got[1].body, got[2].body) || got[2].header.Get("Idempotency-Key") != "A" {
		t.Errorf("%d requests came, want the second to come again", len(got))
	}
}

func TestAFaultOfTheStorageIsTheError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	for _, secrets := range [][]string{nil, {secretOne}} {
		var opened int
		e := plainEntry("A")
		e.Size = 1 << 20
		m := queue.NewMessage(e, func() (queue.Raw, error) {
			if opened++; secrets != nil && opened == 1 { // let signing pass or fail in turn
				return failing{1 << 10, broken}, nil
			}
			return failing{512 << 10, broken}, nil
		})
		rc := newReceiver(t, nil)
		err := newAdapter(t, Config{URL: rc.URL, Secrets: secrets}).Deliver(context.Background(), m)
		if !errors.Is(err, broken) || isRejected(err) {
			t.Errorf("Deliver returned %v, want the storage's error", err)
		}
		if got := rc.requests(); len(got) != 0 {
			t.Errorf("a whole request came: %v", got[0].header)
		}
	}
	e := plainEntry("A")
	e.Size = 5
	m := queue.NewMessage(e, func() (queue.Raw, error) { return nil, broken })
	if err := newAdapter(t, Config{URL: "http://127.0.0.1:1/"}).Deliver(context.Background(), m); !errors.Is(err, broken) {
		t.Errorf("Deliver returned %v, want the storage's error", err)
	}
}

func TestAYesToHalfAMessageIsARetry(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	e := plainEntry("A")
	e.Size = 1 << 20
	m := queue.NewMessage(e, func() (queue.Raw, error) { return failing{512 << 10, broken}, nil })
	a := newAdapter(t, Config{URL: "http://x/", Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body) // it fails, which this server overlooks
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})}})
	if err := a.Deliver(context.Background(), m); !errors.Is(err, broken) {
		t.Errorf("Deliver returned %v, want the storage's error", err)
	}
}

// net/http closes the request when the answer is there, and may be reading then.
func TestAYesWithoutReadingAllIsAYes(t *testing.T) {
	t.Parallel()
	a := newAdapter(t, Config{URL: "http://x/", Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		err := r.Body.Close()
		if _, rerr := r.Body.Read(make([]byte, 1)); err != nil || rerr == nil {
			t.Errorf("closed: %v, read after it: %v", err, rerr)
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})}})
	if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
		t.Errorf("Deliver returned %v", err)
	}
}

// No reader of a message may be in use when Deliver has returned: its lease ends.
func TestReadersAreClosedWhenDeliverReturns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var open int
	e := plainEntry("A")
	e.Size = 8 << 20
	m := queue.NewMessage(e, func() (queue.Raw, error) {
		mu.Lock()
		defer mu.Unlock()
		open++
		return closing{pattern{}, func() {
			mu.Lock()
			defer mu.Unlock()
			open--
		}}, nil
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable) // without reading
	}))
	t.Cleanup(srv.Close)
	err := newAdapter(t, Config{URL: srv.URL, Secrets: []string{secretOne}}).Deliver(context.Background(), m)
	mu.Lock()
	defer mu.Unlock()
	if err == nil || open != 0 {
		t.Errorf("Deliver returned %v with %d readers open", err, open)
	}
}

func TestTheDeadlineIsTheEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	late := errors.New("too late")
	rc := newReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(late)
		<-r.Context().Done()
	})
	err := newAdapter(t, Config{URL: rc.URL}).Deliver(ctx, message(plainEntry("A"), text))
	if !errors.Is(err, late) || isRejected(err) {
		t.Errorf("Deliver returned %v, want the cause", err)
	}
}

// D10, a body without end that comes fast.
func TestAResponseIsReadUpToABound(t *testing.T) {
	t.Parallel()
	wrote := make(chan int, 1)
	rc := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		for range 10 << 10 {
			k, err := w.Write(bytes.Repeat([]byte("x"), 1<<20))
			if n += k; err != nil {
				break
			}
		}
		wrote <- n
	})
	if err := newAdapter(t, Config{URL: rc.URL}).Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
		t.Fatal(err)
	}
	if n := <-wrote; n >= 64<<20 { // the system's own buffers hold some
		t.Errorf("%d octets of it were taken", n)
	}
}

// D10, a body without end that comes slowly: the verdict does not wait for it.
func TestASlowResponseIsLeftAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Config{URL: "http://x/", Client: &http.Client{Transport: roundTrip(
			func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(untilDone{r.Context()})}, nil
			})}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := a.Deliver(context.Background(), message(plainEntry("A"), text)); err != nil {
			t.Errorf("Deliver returned %v, want the 200 to count", err)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Not parallel: it measures what the process allocates, the receiver included.
func TestA50MBMessageIsNeverHeld(t *testing.T) {
	const size = 50 << 20
	e := plainEntry("A")
	e.Size = size
	for _, format := range []Format{Multipart, Raw} {
		got := make(chan int64, 1)
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Error(err)
			}
			got <- n
		}))
		a := newAdapter(t, Config{URL: srv.URL, Format: format, Secrets: []string{secretOne, secretTwo}})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := a.Deliver(context.Background(), queue.NewMessage(e, func() (queue.Raw, error) { return pattern{}, nil }))
		runtime.ReadMemStats(&after)
		srv.Close()
		if err != nil {
			t.Fatal(err)
		}
		if n := <-got; n < size {
			t.Errorf("%s: %d octets came", format, n)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d octets were allocated", format, n)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// untilDone blocks a reader until ctx ends.
type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

// failing yields n octets, then its error.
type failing struct {
	n   int64
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.n {
		return 0, f.err
	}
	if off+int64(len(p)) > f.n {
		return int(f.n - off), f.err
	}
	return len(p), nil
}

func (failing) Close() error { return nil }

type closing struct {
	queue.Raw
	f func()
}

func (c closing) Close() error {
	c.f()
	return c.Raw.Close()
}

// pattern is a text of any length that takes no memory.
type pattern struct{}

func (pattern) ReadAt(p []byte, off int64) (int, error) {
	const line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"
	for i := 0; i < len(p); {
		i += copy(p[i:], line[(off+int64(i))%int64(len(line)):])
	}
	return len(p), nil
}

func (pattern) Close() error { return nil }
