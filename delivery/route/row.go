package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// row is a route at work.
type row struct {
	Route
	to     []*watched
	answer answers
}

func newRow(r Route) (*row, error) {
	made := &row{Route: r}
	names := map[string]bool{}
	for _, d := range r.To {
		switch {
		case d.Name == "":
			return nil, errors.New("a destination has no name")
		case names[d.Name]:
			return nil, fmt.Errorf("destination %s is given twice", d.Name)
		case d.Adapter == nil:
			return nil, fmt.Errorf("destination %s has no adapter", d.Name)
		}
		names[d.Name] = true
		made.to = append(made.to, &watched{Destination: d})
	}
	return made, nil
}

// misses is the first condition that is not met, nil when all are. A condition that
// panics cannot be told.
func (r *row) misses(q *Question) (miss Condition, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("a condition panicked: %v", v)
		}
	}()
	for _, c := range r.When {
		is, err := c.Holds(q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		if !is {
			return c, nil
		}
	}
	return nil, nil
}

// deliver takes m, whose recipients all go by this route, to each destination, and
// is the verdict for each recipient.
func (r *row) deliver(ctx context.Context, m *queue.Message) map[string]error {
	rcpts := m.Envelope.Addresses()
	if len(r.to) == 1 {
		each := r.to[0].deliver(ctx, m)
		for _, rcpt := range rcpts {
			each[rcpt] = r.judge(m, each[rcpt])
		}
		return each
	}
	all := make(map[string]map[string]error, len(rcpts)) // by recipient and destination
	for _, rcpt := range rcpts {
		all[rcpt] = make(map[string]error, len(r.to))
	}
	for _, d := range r.to {
		var todo []queue.Recipient
		for _, to := range m.Envelope.RcptTo {
			if v, ok := r.answer.of(m.ID, to.Address, d.Name); ok {
				all[to.Address][d.Name] = v
			} else {
				todo = append(todo, to)
			}
		}
		if len(todo) == 0 {
			continue
		}
		for rcpt, v := range d.deliver(ctx, m.Narrow(todo)) {
			all[rcpt][d.Name] = v
		}
	}
	each := make(map[string]error, len(rcpts))
	for _, rcpt := range rcpts {
		each[rcpt] = r.judge(m, together(all[rcpt]))
		for _, v := range all[rcpt] {
			if v == nil {
				each[rcpt] = begun(each[rcpt])
				break
			}
		}
		if delivery.Final(each[rcpt]) {
			r.answer.forget(m.ID, rcpt)
		} else {
			r.answer.keep(m.ID, rcpt, all[rcpt])
		}
	}
	return each
}

// begun is a verdict of judge for a recipient whom one of the destinations has taken.
func begun(verdict error) error {
	var wait *delivery.PostponeError
	switch v, retry := verdict.(*delivery.RetryError); {
	case retry:
		v.Begun = true
	case delivery.Postponed(verdict) && errors.As(verdict, &wait):
		return &delivery.PostponeError{After: wait.After, Err: verdict, Begun: true}
	}
	return verdict
}

// together is the verdict of several destinations: who is still to be asked comes
// before who has rejected, and what failed before what was postponed.
func together(verdicts map[string]error) (v error) {
	rank := func(err error) int {
		switch {
		case err == nil:
			return 0
		case delivery.Final(err):
			return 1
		case delivery.Postponed(err):
			return 2
		}
		return 3
	}
	for _, err := range verdicts {
		if rank(err) > rank(v) {
			v = err
		}
	}
	return v
}

// judge makes a failure wait by the route's back-off, or spends who has failed too
// often. The pool does not count it: the destination is watched over here.
func (r *row) judge(m *queue.Message, err error) error {
	if delivery.Final(err) {
		return err
	}
	since := m.ReceivedAt
	if m.RequeuedAt.After(since) {
		since = m.RequeuedAt
	}
	if r.GiveUp > 0 && time.Since(since) >= r.GiveUp {
		return delivery.Spent(err)
	}
	if delivery.Postponed(err) {
		return err
	}
	if r.MaxAttempts > 0 && m.Attempt >= r.MaxAttempts {
		return delivery.Spent(err)
	}
	v := &delivery.RetryError{Err: err, Contained: true}
	var told *delivery.RetryError
	switch {
	case errors.As(err, &told) && told != nil && told.After > 0:
		v.After = told.After
	case r.Backoff < 0:
		v.After = 1 // the pool's least
	case r.Backoff > 0:
		limit := r.BackoffCap
		if limit == 0 {
			limit = 10 * time.Minute
		}
		v.After = max(1, delivery.Backoff(m.Attempt, r.Backoff, limit))
	}
	return v
}
