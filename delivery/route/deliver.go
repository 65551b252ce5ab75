package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// grace is how long past its time a destination may take to return. It is less
// than the pool gives the Table, so that one that hangs does not take the verdicts
// of the others with it.
const grace = 5 * time.Second

// Deliver takes m to where each recipient's route leads, all routes side by side.
// See delivery.Adapter.
func (t *Table) Deliver(ctx context.Context, m *queue.Message) error {
	results := make(map[string]error, len(m.Envelope.RcptTo))
	groups := make(map[*row][]queue.Recipient)
	values := headerOf(m)
	for _, to := range m.Envelope.RcptTo {
		r, err := t.find(ask(m, to, values), nil)
		if err != nil {
			results[to.Address] = &delivery.RetryError{Err: err, Contained: true}
			continue
		}
		groups[r] = append(groups[r], to)
	}
	type done struct {
		row  *row
		each map[string]error
	}
	came := make(chan done, len(groups))
	for r, to := range groups {
		part := m.Narrow(to)
		go func() { came <- done{r, r.deliver(ctx, part)} }()
	}
	late := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(late) }) })()
	for len(groups) > 0 {
		select {
		case d := <-came:
			for rcpt, err := range d.each {
				results[rcpt] = err
			}
			delete(groups, d.row)
		case <-late:
			for r, to := range groups {
				err := fmt.Errorf("route %s: abandoned: it has not returned %v past its deadline", r.Name, grace)
				for _, rcpt := range to {
					results[rcpt.Address] = &delivery.RetryError{Err: err, Contained: true}
				}
			}
			return delivery.PerRecipient(results)
		}
	}
	for _, err := range results {
		if err != nil {
			return delivery.PerRecipient(results)
		}
	}
	return nil
}

// deliver is one call of the adapter, when it may be called now, and its verdict
// for each recipient.
func (w *watched) deliver(ctx context.Context, m *queue.Message) map[string]error {
	rcpts := m.Envelope.Addresses()
	probe, err := w.enter(time.Now())
	if err != nil {
		return delivery.Results(err, rcpts)
	}
	verdict := errors.New("the adapter ended its goroutine")
	left := false
	defer func() {
		if !left { // runtime.Goexit in the adapter
			w.leave(time.Now(), probe, false, true, verdict)
		}
	}()
	verdict = delivery.Call(ctx, w.Adapter, m)
	each := delivery.Results(verdict, rcpts)
	worked, failed := false, false
	for rcpt, v := range each {
		switch {
		case delivery.Final(v):
			worked = true
		case !delivery.Postponed(v):
			failed = true
			each[rcpt] = fmt.Errorf("%s: %w", w.Name, v)
		}
	}
	left = true
	w.leave(time.Now(), probe, worked, failed, verdict)
	if probe && !worked {
		for rcpt, v := range each { // a probe costs no attempt
			each[rcpt] = delivery.Postpone(w.pause(time.Now()), v)
		}
	}
	return each
}
