package diskqueue

import (
	"math"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// startSweeping removes dead letters by age, if any is ever too old. The first
// turn comes when one interval has passed: whoever opens a spool of another may
// still say that he wants them.
func (q *Queue) startSweeping() {
	if q.o.DeadSweep == math.MaxInt64 {
		return
	}
	q.background.Go(func() {
		tick := time.NewTicker(q.o.DeadSweep)
		defer tick.Stop()
		for {
			select {
			case <-q.stop.Done():
				return
			case <-tick.C:
			}
			q.sweep()
		}
	})
}

// sweep removes what is due, up to the most for one go. A letter that cannot be
// removed ends it: the storage has other worries.
func (q *Queue) sweep() {
	for range q.o.DeadSweepMost {
		if q.stop.Err() != nil || q.well() != nil {
			return
		}
		e := q.schedule.tooOld(q.o.DeadAge, q.o.DeadSpentAge)
		if e == nil || !q.sweepOne(e) {
			return
		}
	}
}

func (q *Queue) sweepOne(e *entry) bool {
	got, err := describe(q.tier, e)
	if err == nil {
		err = q.tier.remove(e)
	} else if _, its := q.verdict(err); its {
		// It stays where it is: what cannot be told of is not removed.
		q.schedule.forget(e)
		q.complain("sweep", e.id, err)
		return true
	}
	if err != nil {
		_ = q.fault("sweep", e.id, err) // told to the hook; tried again at the next turn
		q.schedule.put(e, func() { e.busy = false })
		return false
	}
	q.schedule.forget(e)
	rcpts := got.Envelope.Addresses()
	for _, o := range got.Settled {
		rcpts = append(rcpts, o.Recipient)
	}
	telemetry.Emit(q.o.Hooks.QueueSwept, telemetry.QueueSwept{
		ID:       string(e.id),
		MailFrom: got.Envelope.MailFrom,
		Rcpts:    rcpts,
		Reason:   got.Dead.Reason,
		Kind:     string(got.Dead.Kind),
		DeadAt:   got.Dead.RejectedAt,
	})
	return true
}

// tooOld holds a dead letter that is over its age; nil when there is none.
func (s *schedule) tooOld(rejected, others time.Duration) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range []struct {
		order *sorted
		age   time.Duration
	}{{&s.rejected, rejected}, {&s.spent, others}, {&s.kept, 0}} {
		e := of.order.first()
		if e != nil && time.Since(unixMilli(e.at)) >= of.age {
			s.change(e, func() { e.busy = true })
			return e
		}
	}
	return nil
}
