package load

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Webhook receives messages in the raw format for a ledger, and tells one request
// in eight to come again: by a status, by a status with a time, or by
// no answer at all.
type Webhook struct {
	*httptest.Server

	mu     sync.Mutex
	random *rand.Rand
	putOff int
}

// NewWebhook runs until the test ends. What it is given that nobody sent fails
// the test.
func NewWebhook(t *testing.T, ledger *Ledger, seed uint64) *Webhook {
	t.Helper()
	h := &Webhook{random: rand.New(rand.NewPCG(seed, 1<<63))}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch h.draw() {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		err := ledger.Delivered(r.Body)
		switch {
		case errors.Is(err, ErrBrokenOff):
			w.WriteHeader(http.StatusBadRequest)
		case err != nil:
			t.Errorf("webhook: %v", err)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *Webhook) draw() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.random.IntN(24)
	if n < 3 {
		h.putOff++
	}
	return n
}

// PutOff is how many requests were told to come again.
func (h *Webhook) PutOff() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.putOff
}
