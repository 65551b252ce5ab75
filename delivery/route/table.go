// Package route sends each recipient of a message where it belongs: a Table of
// routes, asked from the top, each with its conditions and the adapters it leads
// to. A Table is itself an adapter. The recipients of one message may go by
// different routes and are settled one by one.
//
// Each adapter of a Table is watched over by itself: how many deliveries it is
// given at once, and how it is held after failures, so that one that is down or
// slow holds up no mail of the others.
package route

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Route is one row of a Table.
type Route struct {
	// Name is what logs and `incoming route test` call it. Required, once a
	// Table.
	Name string
	// When is what a recipient must meet, all of it; none is met by everyone.
	When []Condition
	// To is where it leads: a recipient is done when each has taken it, and
	// rejected when none is left to be asked and one has rejected it. One that
	// has taken or rejected it is not asked again, as long as the Table lasts:
	// after a restart those are asked again too, with the same ID. At least one.
	To []Destination

	// Backoff and BackoffCap are the waits after failed attempts, as in
	// delivery.Config. Backoff 0 is the pool's waits, whatever BackoffCap says, and
	// negative none; BackoffCap 0 is 10 min, and negative none.
	Backoff, BackoffCap time.Duration
	// GiveUp and MaxAttempts make who is still owed a dead letter, of the kind
	// spent: at that age, or after that many failed attempts of the message, those
	// of its other recipients included; 0 or less is the pool's alone.
	GiveUp      time.Duration
	MaxAttempts int
	// DeadAge is how long dead letters are kept; 0 is as the queue does with their
	// kind, negative for ever. A message whose recipients take different routes is
	// kept as long as any of them wants it.
	DeadAge time.Duration

	// Accept is when senders are answered. A message whose recipients take
	// different routes goes by the one that binds its sender least: durable before
	// hybrid before sync, with the shortest Within, kept where any keeps.
	Accept delivery.Acceptance
}

// Destination is one adapter that a route leads to.
type Destination struct {
	// Name is what errors call it, such as its URL without secrets. Required.
	Name string
	// Adapter takes the messages, each with its recipients by this route alone.
	// The same one may stand in several routes; it is then watched over in each.
	Adapter delivery.Adapter
	// AtOnce is the most deliveries in hand at once; 0 or less is as many as
	// the pool has workers. Past it a message waits a second, at no attempt's
	// cost.
	AtOnce int
}

// Table is an adapter that goes by routes. Make one with New; it is never
// changed, and is safe for use by many goroutines.
type Table struct {
	rows []*row
}

var (
	_ delivery.Accepter = (*Table)(nil)
	_ delivery.Keeper   = (*Table)(nil)
)

// New makes a Table of routes. The last one must be without conditions, so that
// nothing is left over: where what is for nobody goes is a choice of its own. An
// error names the route.
func New(routes []Route) (*Table, error) {
	if len(routes) == 0 {
		return nil, errors.New("route: no routes")
	}
	t := &Table{}
	names := map[string]bool{}
	for i, r := range routes {
		switch last := i == len(routes)-1; {
		case r.Name == "":
			return nil, fmt.Errorf("route: number %d has no name", i+1)
		case names[r.Name]:
			return nil, fmt.Errorf("route %s: there are two by that name", r.Name)
		case len(r.To) == 0:
			return nil, fmt.Errorf("route %s: it leads nowhere; give it an adapter", r.Name)
		case len(r.When) == 0 && !last:
			return nil, fmt.Errorf("route %s: it has no conditions, so that none below it is ever asked; move it to the end", r.Name)
		case len(r.When) > 0 && last:
			return nil, fmt.Errorf("route %s: it is the last and has conditions; add one below it without, for who meets none", r.Name)
		}
		names[r.Name] = true
		made, err := newRow(r)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		t.rows = append(t.rows, made)
	}
	return t, nil
}

// Waits implements delivery.Accepter.
func (t *Table) Waits() bool {
	return slices.ContainsFunc(t.rows, func(r *row) bool { return r.Accept.Mode != delivery.Durable })
}

// Acceptance implements delivery.Accepter. A message whose way cannot be told is
// durable.
func (t *Table) Acceptance(m *queue.Message) (all delivery.Acceptance) {
	values := headerOf(m)
	for i, to := range m.Envelope.RcptTo {
		r, err := t.find(ask(m, to, values), nil)
		if err != nil || r.Accept.Mode == delivery.Durable {
			return delivery.Acceptance{}
		}
		one := r.Accept
		if one.Within <= 0 {
			one.Within = delivery.DefaultWithin
		}
		if i == 0 {
			all = one
			continue
		}
		if one.Mode == delivery.Hybrid {
			all.Mode = delivery.Hybrid
		}
		all.Within, all.Keep = min(all.Within, one.Within), all.Keep || one.Keep
	}
	return all
}

// Keep implements delivery.Keeper. Of several routes the one that keeps longest has the
// say; how long the queue keeps is not known here, and is taken for longer than any
// but for ever.
func (t *Table) Keep(m *queue.Message) (longest time.Duration) {
	values := headerOf(m)
	for i, to := range m.Envelope.RcptTo {
		r, err := t.find(ask(m, to, values), nil)
		switch {
		case err != nil:
			return 0
		case r.DeadAge < 0:
			return r.DeadAge
		case i == 0:
			longest = r.DeadAge
		case longest == 0 || r.DeadAge == 0:
			longest = 0
		default:
			longest = max(longest, r.DeadAge)
		}
	}
	return longest
}

// Choice is by which route a recipient goes, and why by none before it.
type Choice struct {
	Recipient string
	Route     string // "" with an Err
	Passed    []Passed
	Err       error // it cannot be told now
}

// Passed is a route that a recipient does not go by: the first of its conditions
// that is not met.
type Passed struct {
	Route     string
	Condition string
}

// Choose tells how the recipients of m would go, in their order.
func (t *Table) Choose(m *queue.Message) []Choice {
	values := headerOf(m)
	choices := make([]Choice, len(m.Envelope.RcptTo))
	for i, to := range m.Envelope.RcptTo {
		c := Choice{Recipient: to.Address}
		r, err := t.find(ask(m, to, values), func(p Passed) { c.Passed = append(c.Passed, p) })
		if err != nil {
			c.Err = err
		} else {
			c.Route = r.Name
		}
		choices[i] = c
	}
	return choices
}

// find is the first row whose conditions are all met. passed may be nil.
func (t *Table) find(q *Question, passed func(Passed)) (*row, error) {
	for _, r := range t.rows {
		miss, err := r.misses(q)
		switch {
		case err != nil:
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		case miss == nil:
			return r, nil
		case passed != nil:
			passed(Passed{Route: r.Name, Condition: miss.String()})
		}
	}
	return nil, errors.New("route: none is met") // New has seen to a last one without conditions
}
