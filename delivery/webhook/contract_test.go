package webhook

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
)

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	for _, format := range []Format{Multipart, Raw} {
		t.Run(string(format), func(t *testing.T) {
			deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
				store := &store{copies: map[string]deliverytest.Copy{}}
				srv := httptest.NewServer(store)
				t.Cleanup(srv.Close)
				return deliverytest.Place{Adapter: newAdapter(t, Config{URL: srv.URL, Format: format}), Arrived: store.arrived, Once: true}
			})
		})
	}
}

// store is a receiver that keeps messages by their ID.
type store struct {
	mu     sync.Mutex
	copies map[string]deliverytest.Copy
}

func (s *store) arrived() ([]deliverytest.Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.copies)), nil
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := readMessage(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies[r.Header.Get("Idempotency-Key")] = c
}

// readMessage reads either format to the end of the request, as a stream.
func readMessage(r *http.Request) (c deliverytest.Copy, err error) {
	envelope, text := []byte(r.Header.Get("Incoming-Envelope")), io.Reader(r.Body)
	parts, err := r.MultipartReader()
	if err == nil {
		first, ferr := parts.NextPart()
		if ferr != nil {
			return c, ferr
		}
		if envelope, err = io.ReadAll(first); err != nil {
			return c, err
		}
		if text, err = parts.NextPart(); err != nil {
			return c, err
		}
	}
	var env Envelope
	if err := json.Unmarshal(envelope, &env); err != nil {
		return c, err
	}
	if c, err = deliverytest.Read(env.Recipients, text); err != nil || parts == nil {
		return c, err
	}
	if _, err := parts.NextPart(); err != io.EOF {
		return c, errors.Join(errors.New("no end behind the message"), err)
	}
	return c, nil
}
