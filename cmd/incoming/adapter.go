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
	now atomic.Pointer[destination]
}

// destination is where messages go, and when their senders are answered.
type destination struct {
	adapter incoming.Adapter
	accept  delivery.Acceptance // unless adapter says so itself
}

var _ delivery.Accepter = (*switchable)(nil)

// set makes a the adapter from now on; nil stays without.
func (s *switchable) set(a incoming.Adapter, accept delivery.Acceptance) {
	if a != nil {
		s.now.Store(&destination{a, accept})
	}
}

// Deliver gives m to the adapter of the moment.
func (s *switchable) Deliver(ctx context.Context, m *incoming.Message) error {
	p := s.now.Load()
	if p == nil {
		return errors.New("no adapter is set")
	}
	return p.adapter.Deliver(ctx, m)
}

// Unwrap is what delivery.Find looks behind.
func (s *switchable) Unwrap() incoming.Adapter {
	if p := s.now.Load(); p != nil {
		return p.adapter
	}
	return nil
}

// Waits implements delivery.Accepter.
func (s *switchable) Waits() bool {
	p := s.now.Load()
	if p == nil {
		return false
	}
	if a, ok := delivery.Find[delivery.Accepter](p.adapter); ok {
		return a.Waits()
	}
	return p.accept.Mode != delivery.Durable
}

// Acceptance implements delivery.Accepter.
func (s *switchable) Acceptance(m *incoming.Message) delivery.Acceptance {
	p := s.now.Load()
	if p == nil {
		return delivery.Acceptance{}
	}
	if a, ok := delivery.Find[delivery.Accepter](p.adapter); ok {
		return a.Acceptance(m)
	}
	return p.accept
}
