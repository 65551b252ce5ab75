package smtp

import (
	"errors"
	"time"
)

// ErrNoTurn is why a handshake failed that Config.Handshakes had no place for in
// time.
var ErrNoTurn = errors.New("smtp: no turn came for the handshake in time: limits.handshakes")

// turn is a place in Config.Handshakes, which a handshake takes to compute, and
// gives back to wait for its peer. Its methods are for the handshake's goroutine;
// a nil turn is always one's own.
type turn struct {
	places chan struct{}
	give   <-chan struct{} // closed when the connection is ended by force
	due    time.Time       // when to give up; zero: never
	mine   bool
}

// begin waits for a place.
func (t *turn) begin() error {
	if t == nil || t.mine {
		return nil
	}
	select {
	case t.places <- struct{}{}:
		t.mine = true
		return nil
	default:
	}
	var late <-chan time.Time
	if !t.due.IsZero() {
		timer := time.NewTimer(time.Until(t.due))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case t.places <- struct{}{}:
		t.mine = true
		return nil
	case <-late:
	case <-t.give:
	}
	return ErrNoTurn
}

// end gives the place back, if there is one.
func (t *turn) end() {
	if t != nil && t.mine {
		<-t.places
		t.mine = false
	}
}
