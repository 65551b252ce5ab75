package ask

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func text(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	p, err := New(s.URL, 5)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, err := p.Post(t.Context(), nil, 5, text("hello")); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// The bound of an answer, at n-1, n, n+1.
	for n, ok := range map[string]bool{"1234": true, "12345": true, "123456": false, "": true} {
		if _, err := p.Post(t.Context(), nil, int64(len(n)), text(n)); (err == nil) != ok {
			t.Errorf("%q: %v", n, err)
		}
	}
}

// A program that closes each kept connection without an answer is asked twice, and
// no more.
func TestAKeptConnectionThatIsClosedIsAskedAgainOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if asked.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer s.Close()
	p, err := New(s.URL, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Post(t.Context(), nil, 1, text("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Post(t.Context(), nil, 1, text("x")); err == nil {
		t.Error("there was no answer")
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}
