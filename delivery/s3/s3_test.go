package s3

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/queue"
)

const text = "Subject: x\r\n\r\nbody\r\n"

// store is an object store with a bucket mail.
type store struct {
	*s3mem.Backend
	url   string
	puts  atomic.Int64
	after func(w http.ResponseWriter) // called after a put was done, in place of its answer
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{Backend: s3mem.New()}
	if err := s.CreateBucket("mail"); err != nil {
		t.Fatal(err)
	}
	inner := gofakes3.New(s.Backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			s.puts.Add(1)
			if s.after != nil {
				inner.ServeHTTP(httptest.NewRecorder(), r)
				s.after(w)
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// arrived is the objects there; it reads them into nothing.
func (s *store) arrived() (copies []deliverytest.Copy, err error) {
	list, err := s.ListBucket("mail", nil, gofakes3.ListBucketPage{})
	if err != nil {
		return nil, err
	}
	for _, c := range list.Contents {
		o, err := s.GetObject("mail", c.Key, nil)
		if err != nil {
			return nil, err
		}
		got, err := deliverytest.Read(strings.Split(o.Metadata["X-Amz-Meta-Incoming-Recipients"], ", "), o.Contents)
		if err = errors.Join(err, o.Contents.Close()); err != nil {
			return nil, err
		}
		if o.Metadata["X-Amz-Meta-Incoming-Recipient-Count"] == "300" {
			got.To = nil // as many as fit
		}
		copies = append(copies, got)
	}
	return copies, nil
}

func newAdapter(t *testing.T, s *store, change func(*Config)) *Adapter {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := Config{Endpoint: s.url, Bucket: "mail", Region: "us-east-1", AccessKey: "key", SecretKey: "secret", Transport: transport}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func message(attempts int) *queue.Message {
	e := queue.Entry{ID: "01JID", Attempts: attempts, Envelope: queue.Envelope{MailFrom: "a@x.example", RcptTo: []queue.Recipient{{Address: "grüße@y.example"}, {Address: "b@y.example"}}}}
	e.ReceivedAt = time.Date(2026, 3, 1, 23, 30, 0, 0, time.FixedZone("", -3600))
	e.Facts = queue.Facts{"spf.result": json.RawMessage(`"pass"`)}
	return deliverytest.NewMessage(e, text)
}

func TestAMessageIsAnObjectWithItsEnvelope(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := newAdapter(t, s, nil).Deliver(t.Context(), message(0)); err != nil {
		t.Fatal(err)
	}
	o, err := s.GetObject("mail", "2026/03/02/01JID.eml", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(o.Contents)
	if err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	for name, want := range map[string]string{"Content-Type": "message/rfc822", "X-Amz-Meta-Incoming-Id": "01JID", "X-Amz-Meta-Incoming-Sender": "a@x.example",
		"X-Amz-Meta-Incoming-Recipients": `gr\u00fc\u00dfe@y.example, b@y.example`, "X-Amz-Meta-Incoming-Facts": `{"spf.result":"pass"}`} {
		if o.Metadata[name] != want {
			t.Errorf("%s: %q, want %q", name, o.Metadata[name], want)
		}
	}
}

func TestMetadataHasABound(t *testing.T) {
	t.Parallel()
	e := queue.Entry{ID: "01J", Facts: queue.Facts{"a.b": json.RawMessage(`"` + strings.Repeat("x", 2000) + `"`)}}
	for range 1000 {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: "somebody@y.example"})
	}
	meta, err := metadata(deliverytest.NewMessage(e, text))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, value := range meta {
		n += len("x-amz-meta-") + len(name) + len(value)
	}
	if n > 2<<10 || n < 1<<10 || meta["Incoming-Recipient-Count"] != "1000" || meta["Incoming-Facts"] != "" {
		t.Errorf("%d octets: %v", n, meta)
	}
}

// D16: the notice fails, and is tried again without the object.
func TestANoticeThatFailsIsTriedAgainAlone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var told []Object
	fails := errors.New("not now")
	a := newAdapter(t, s, func(c *Config) {
		c.Notify = func(_ context.Context, _ *queue.Message, o Object) error {
			told = append(told, o)
			return fails
		}
	})
	if err := a.Deliver(t.Context(), message(0)); delivery.Final(err) || !errors.Is(err, fails) {
		t.Errorf("verdict %v", err)
	}
	fails = delivery.Reject(errors.New("never"))
	if err := a.Deliver(t.Context(), message(1)); err == nil || !delivery.Final(err) {
		t.Errorf("verdict %v", err)
	}
	fails = nil
	if err := a.Deliver(t.Context(), message(2)); err != nil {
		t.Error(err)
	}
	if copies, err := s.arrived(); s.puts.Load() != 1 || len(copies) != 1 || err != nil {
		t.Errorf("%d puts, %d objects, %v", s.puts.Load(), len(copies), err)
	}
	if len(told) != 3 || told[2] != told[0] || told[0].Key != "2026/03/02/01JID.eml" || told[0].ETag == "" || told[0].Size != int64(len(text)) {
		t.Errorf("told %+v", told)
	}
}

// D16: the put has succeeded, and nobody learned of it.
func TestAPutWhoseAnswerIsLostMakesNoSecondObject(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.after = func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	a := newAdapter(t, s, nil)
	if err := a.Deliver(t.Context(), message(0)); delivery.Final(err) {
		t.Errorf("verdict %v", err)
	}
	if err := a.Deliver(t.Context(), message(1)); err != nil {
		t.Error(err)
	}
	if copies, err := s.arrived(); s.puts.Load() != 1 || len(copies) != 1 || err != nil {
		t.Errorf("%d puts, %d objects, %v", s.puts.Load(), len(copies), err)
	}
}

func TestWhatTheStoreRefusesIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, change := range map[string]func(*Config){
		"no such bucket": func(c *Config) { c.Bucket = "other" },
		"nobody there":   func(c *Config) { c.Endpoint = "http://127.0.0.1:1" },
	} {
		for attempts := range 2 {
			if err := newAdapter(t, s, change).Deliver(t.Context(), message(attempts)); delivery.Final(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAMistakeInAConfigIsNamed(t *testing.T) {
	t.Parallel()
	good := Config{Endpoint: "https://s3.example", Bucket: "b"}
	for want, change := range map[string]func(c *Config){
		"no URL":           func(c *Config) { c.Endpoint = "s3.example" },
		"more than scheme": func(c *Config) { c.Endpoint += "/bucket" },
		"no bucket":        func(c *Config) { c.Bucket = "" },
		"no {id}":          func(c *Config) { c.Key = "{date}.eml" },
		"only {id}":        func(c *Config) { c.Key = "{rcpt}/{id}" },
		"give both":        func(c *Config) { c.AccessKey = "x" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
