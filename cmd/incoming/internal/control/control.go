// Package control is how the tools talk to a running daemon: HTTP and JSON over
// a unix socket beside the spool, which only its owner may open. [Client] is a
// [queue.Inspector], so that a tool need not know whether it looks at a running
// daemon or at the spool of a stopped one. The protocol is between programs of
// one version and no interface for others; --json is.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Session is one connection that is open.
type Session struct {
	ID       string    `json:"session"`
	Listener string    `json:"listener"`
	Peer     string    `json:"peer"`
	Hello    string    `json:"helo,omitempty"`
	TLS      string    `json:"tls,omitempty"`
	State    string    `json:"state"`    // connecting, idle, mail, rcpt, data, ending
	InState  time.Time `json:"in_state"` // since when
	Since    time.Time `json:"since"`
	Messages int       `json:"messages"` // accepted
	BytesIn  int64     `json:"bytes_in"`
	BytesOut int64     `json:"bytes_out"`
}

// Peer is what one address, or one IPv6 /64, has open.
type Peer struct {
	Peer     string    `json:"peer"`
	Sessions int       `json:"sessions"`
	Refused  int64     `json:"refused"` // connections, for the limit of one address
	Messages int       `json:"messages"`
	BytesIn  int64     `json:"bytes_in"`
	BytesOut int64     `json:"bytes_out"`
	Since    time.Time `json:"since"`
}

// Change is one option that a reload found changed.
type Change struct {
	Key     string `json:"key"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Restart bool   `json:"restart"` // and was left as it is
}

// Report is what a reload did.
type Report struct {
	Changes []Change `json:"changes"`
	Reread  []string `json:"reread"` // files read again: lists, certificates, secrets
}

// Stats counts the queue.
type Stats struct {
	queue.Depth
	Paused bool // deliveries are, by an operator
	Held   bool // deliveries are held back: the application has failed too often
	None   bool // there is nothing to deliver to
	Down   bool // no daemon runs
}

// Daemon is what a Server is asked for.
type Daemon struct {
	Queue    queue.Inspector
	Stats    func() Stats
	Sessions func() []Session
	Busiest  func() []Peer // the busiest first
	Reload   func(context.Context) (*Report, error)
}

// line is one line of a list: an entry, or what is wrong with one.
type line struct {
	Entry *queue.Entry `json:",omitempty"`
	Error string       `json:",omitempty"`
}

// failure is the body of a reply that is no success.
type failure struct {
	Error string
	Kind  string `json:",omitempty"` // one of kinds, for errors.Is at the other end
	Place string `json:",omitempty"` // what a placed error has to show
}

// placed is an error that shows the place of a fault in a file: some lines of
// that, or nothing.
type placed interface {
	error
	Place() string
}

func placeOf(err error) string {
	var p placed
	if errors.As(err, &p) {
		return p.Place()
	}
	return ""
}

// brokenOff is the trailer that says why a message could not be read to its end.
const brokenOff = "Incoming-Broken-Off"

// kinds names the errors that a tool tells apart.
func kinds() map[string]error {
	return map[string]error{
		"not_found":  queue.ErrNotFound,
		"leased":     queue.ErrLeased,
		"incomplete": queue.ErrIncomplete,
		"closed":     queue.ErrClosed,
		"sick":       queue.ErrSick,
		"no_space":   queue.ErrNoSpace,
	}
}

func kindOf(err error) string {
	for name, kind := range kinds() {
		if errors.Is(err, kind) {
			return name
		}
	}
	return ""
}

// remoteError is an error of the daemon, as the client returns it.
type remoteError struct {
	text  string
	kind  error
	place string
}

var _ placed = (*remoteError)(nil)

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Place() string { return e.place }
func (e *remoteError) Unwrap() error { return e.kind }
