package metrics

import (
	"strings"
	"sync"
)

const (
	// maxValues is how many values one label of one metric may have.
	maxValues = 64
	maxValue  = 64 // octets
	other     = "other"
)

// bounds keeps each label of one metric to few values.
type bounds []*bound

type bound struct {
	mu   sync.RWMutex
	seen map[string]bool
}

func newBounds(labels []string) bounds {
	b := make(bounds, len(labels))
	for i := range b {
		b[i] = &bound{seen: make(map[string]bool)}
	}
	return b
}

// keep is the values in place; what is past the bound, too long, or not printable
// ASCII is "other".
func (b bounds) keep(values []string) []string {
	for i, v := range values {
		if !b[i].known(v) {
			values[i] = other
		}
	}
	return values
}

func (b *bound) known(v string) bool {
	b.mu.RLock()
	ok, full := b.seen[v], len(b.seen) >= maxValues
	b.mu.RUnlock()
	if ok || full || !fit(v) {
		return ok
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) >= maxValues {
		return b.seen[v]
	}
	b.seen[strings.Clone(v)] = true
	return true
}

func fit(v string) bool {
	if len(v) > maxValue || strings.Contains(v, "@") {
		return false
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] >= 0x7f {
			return false
		}
	}
	return true
}
