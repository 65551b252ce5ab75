package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery"
)

// switchable is an adapter that a reload can change: a message in hand ends
// with the old one, the next is given to the new.
type switchable struct {
	now atomic.Pointer[delivery.Accepter] // nil: none is set
}

var _ delivery.Accepter = (*switchable)(nil)

// set makes a the adapter from now on, with the senders of its messages answered as
// accept says unless it says so itself; nil stays without.
func (s *switchable) set(a incoming.Adapter, accept delivery.Acceptance) {
	if a != nil {
		accepting := delivery.Accepting(a, accept)
		s.now.Store(&accepting)
	}
}

// Deliver gives m to the adapter of the moment.
func (s *switchable) Deliver(ctx context.Context, m *incoming.Message) error {
	if a := s.now.Load(); a != nil {
		return (*a).Deliver(ctx, m)
	}
	return errors.New("no adapter is set")
}

// Unwrap is what delivery.Find looks behind.
func (s *switchable) Unwrap() incoming.Adapter {
	if a := s.now.Load(); a != nil {
		return *a
	}
	return nil
}

// Waits implements delivery.Accepter.
func (s *switchable) Waits() bool {
	a := s.now.Load()
	return a != nil && (*a).Waits()
}

// Acceptance implements delivery.Accepter.
func (s *switchable) Acceptance(m *incoming.Message) delivery.Acceptance {
	if a := s.now.Load(); a != nil {
		return (*a).Acceptance(m)
	}
	return delivery.Acceptance{}
}
