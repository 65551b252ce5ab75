package diskqueue

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// TestALeaseSeesWhatBecameOfAMessageCommittedLeased: what is remembered of a
// commit is forgotten when somebody has the message.
func TestALeaseSeesWhatBecameOfAMessageCommittedLeased(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q := openTest(t, t.TempDir(), Options{segment: 64 << 10})
	d, err := q.Begin(ctx, envelope("a@y.example", "b@y.example"), queue.Origin{})
	must(t, err)
	_, err = io.WriteString(d, letter)
	must(t, err)
	l, err := d.CommitLeased(ctx, queue.Final{})
	must(t, err)
	must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	must(t, l.Retry(ctx, time.Time{}, errors.New("later")))
	m := q.next().Message()
	if to := m.Envelope.Addresses(); len(to) != 1 || to[0] != "b@y.example" || m.Attempt != 2 {
		t.Errorf("attempt %d to %v", m.Attempt, to)
	}
}

// TestAMessageThatNobodyIsOwedIsNotOfferedAgain: all were settled, and the end
// was not written when the process died.
func TestAMessageThatNobodyIsOwedIsNotOfferedAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	for _, end := range []func(queue.Lease) error{
		func(queue.Lease) error { return nil },
		func(l queue.Lease) error { return l.Release(ctx) },
	} {
		q := mustOpen(t, dir, &Options{MessageSize: -1, segment: 64 << 10})
		tq := &testQueue{Queue: q, t: t}
		tq.put(letter)
		tq.put(letter + "rejected")
		leases := []queue.Lease{tq.next(), tq.next()}
		for i, why := range []string{"", "no such user"} {
			l := leases[i]
			must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "b@y.example", Rejected: why}}))
		}
		for _, l := range leases {
			must(t, end(l))
		}
		must(t, q.Close())
		q = mustOpen(t, dir, &Options{MessageSize: -1, segment: 64 << 10})
		if d := q.Depth(); d.Live() != 0 || d.Dead != 1 {
			t.Errorf("%+v", d)
		}
		for e, err := range q.List(ctx, queue.Filter{}) {
			must(t, err)
			if e.Dead.Kind != queue.KindRejected {
				t.Errorf("%+v", e.Dead)
			}
			must(t, q.Delete(ctx, e.ID))
		}
		must(t, q.Close())
	}
}
