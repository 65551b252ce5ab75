package s3

import (
	"encoding/hex"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
)

// sums is as much of an object store as an adapter needs, which keeps no text: the
// test measures memory.
type sums struct {
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	deliverytest.Copy
	meta http.Header
}

func (s *sums) arrived() (copies []deliverytest.Copy, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range maps.Values(s.objects) {
		copies = append(copies, o.Copy)
	}
	return copies, nil
}

func (s *sums) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		s.mu.Lock()
		o, there := s.objects[r.URL.Path]
		s.mu.Unlock()
		if !there {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		maps.Copy(w.Header(), o.meta)
		w.Header().Set("Content-Length", strconv.FormatInt(o.Size, 10))
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		return
	}
	o := object{meta: http.Header{}}
	for name, value := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			o.meta[name] = value
		}
	}
	if to := r.Header.Get("X-Amz-Meta-Incoming-Recipients"); r.Header.Get("X-Amz-Meta-Incoming-Recipient-Count") != "300" {
		o.To = strings.Split(to, ", ")
	}
	var err error
	if o.Copy, err = deliverytest.Read(o.To, r.Body); err != nil || o.Size != r.ContentLength {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("ETag", `"`+hex.EncodeToString(o.Sum[:16])+`"`)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[r.URL.Path] = o
}

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
		s := &sums{objects: map[string]object{}}
		srv := httptest.NewTLSServer(s)
		t.Cleanup(srv.Close)
		a, err := New(Config{Endpoint: srv.URL, Bucket: "mail", Region: "us-east-1", AccessKey: "key", SecretKey: "secret", Transport: srv.Client().Transport})
		if err != nil {
			t.Fatal(err)
		}
		return deliverytest.Place{Adapter: a, Arrived: s.arrived, Once: true}
	})
}

func TestAnIDIsASafePartOfAKey(t *testing.T) {
	t.Parallel()
	ids := []string{"01J", "../x", "a/b", "a b", "a%2Fb", ".", "é", "a\x00"}
	var got []string
	for _, id := range ids {
		got = append(got, safe(id))
	}
	if want := []string{"01J", "%2E.%2Fx", "a%2Fb", "a%20b", "a%252Fb", "%2E", "%C3%A9", "a%00"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
