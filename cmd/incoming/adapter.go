package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/incoming-mx/incoming"
)

// switchable is an adapter that a reload can change: a message in hand ends
// with the old one, the next is given to the new.
type switchable struct {
	now atomic.Pointer[incoming.Adapter]
}

// set makes a the adapter from now on; nil stays without.
func (s *switchable) set(a incoming.Adapter) {
	if a != nil {
		s.now.Store(&a)
	}
}

// Deliver gives m to the adapter of the moment.
func (s *switchable) Deliver(ctx context.Context, m *incoming.Message) error {
	a := s.now.Load()
	if a == nil {
		return errors.New("no adapter is set")
	}
	return (*a).Deliver(ctx, m)
}

var _ incoming.Adapter = (*switchable)(nil)
