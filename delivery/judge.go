package delivery

import (
	"runtime/debug"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// judgement is what a verdict means for a message.
type judgement struct {
	done     []queue.Outcome // recipients settled by this attempt
	owed     int             // recipients still owed after it
	rejected bool            // the message whole, or any recipient ever
	refused  bool            // by Reject, in this attempt
	spent    bool            // by Spent, in this attempt
	whole    bool            // Reject or Spent of the message whole: owed does not count
	told     time.Duration   // to the next attempt, by RetryAfter or Postpone; 0: not told
	backoff  bool            // somebody owed waits for the back-off, not only as told
	tried    bool            // somebody owed was tried, not only postponed
	begun    bool            // one of several places has taken it for somebody owed
	open     bool            // one of those failed without being contained
	panics   []*panicError   // of the message, or of single recipients
	unknown  []string        // recipients in the verdict that are not owed
	missing  int             // recipients owed that the verdict leaves out
}

// tally is what the verdict tells of the adapter: it works when somebody was
// delivered or refused, and fails when that was tried and came to nothing.
func (j *judgement) tally() tally {
	switch {
	case j.owed == 0 || j.whole || len(j.done) > 0:
		return works
	case j.open:
		return fails
	}
	return untold
}

// kind is that of the dead letter which the verdict makes.
func (j *judgement) kind() queue.Kind {
	if j.spent && !j.refused {
		return queue.KindSpent
	}
	return queue.KindRejected
}

// judge takes a verdict apart. An error that panics when it is looked at is a
// retry.
func judge(m *queue.Message, err error) (j judgement) {
	owed := m.Envelope.RcptTo
	j.rejected = slices.ContainsFunc(m.Settled, func(o queue.Outcome) bool { return o.Rejected != "" })
	if err == nil {
		if j.rejected { // else Ack says it all
			for _, r := range owed {
				j.done = append(j.done, queue.Outcome{Recipient: r.Address})
			}
		}
		return j
	}
	defer func() {
		if v := recover(); v != nil {
			j = judgement{owed: len(owed), rejected: j.rejected, backoff: true, tried: true, open: true, panics: []*panicError{{v, debug.Stack()}}}
		}
	}()
	j.owed = len(owed)
	switch v := find(err).(type) {
	case *RejectError, *SpentError:
		j.whole = true
		j.refuse(v)
	case *RecipientsError:
		j.each(owed, v.Results)
	default:
		j.again(v, err)
	}
	return j
}

// refuse notes a verdict that is final.
func (j *judgement) refuse(verdict error) {
	j.rejected = true
	if _, ok := verdict.(*SpentError); ok {
		j.spent = true
	} else {
		j.refused = true
	}
}

// again notes that somebody is still owed: for which verdict, nil for none, found
// in err.
func (j *judgement) again(verdict, err error) {
	switch v := verdict.(type) {
	case *PostponeError:
		after := v.After
		if after <= 0 {
			after = time.Second
		}
		j.wait(max(after, postponement))
		j.begun = j.begun || v.Begun
		return
	case *RetryError:
		j.wait(v.After)
		j.open = j.open || !v.Contained
		j.begun = j.begun || v.Begun
	default:
		j.backoff, j.open = true, true
	}
	j.tried = true
	if p := panicIn(err); p != nil {
		j.panics = append(j.panics, p)
	}
}

// postponement is the least time that Postpone waits: without one a message that
// is never tried would keep a worker busy.
const postponement = 100 * time.Millisecond

// each judges every recipient by its own result.
func (j *judgement) each(owed []queue.Recipient, results map[string]error) {
	known := 0
	for _, r := range owed {
		err, ok := results[r.Address]
		if ok {
			known++
			if err == nil {
				j.settle(queue.Outcome{Recipient: r.Address})
				continue
			}
		}
		switch v := find(err); {
		case v != nil && final(v):
			j.refuse(v)
			j.settle(queue.Outcome{Recipient: r.Address, Rejected: text(err)})
		default:
			j.again(v, err)
		}
	}
	j.missing = len(owed) - known
	if known < len(results) {
		j.unknown = strangers(owed, results)
	}
}

func (j *judgement) settle(o queue.Outcome) {
	j.done, j.owed = append(j.done, o), j.owed-1
}

// wait notes a RetryAfter or a Postpone; of several the earliest counts.
func (j *judgement) wait(d time.Duration) {
	switch {
	case d <= 0:
		j.backoff = true
	case j.told == 0 || d < j.told:
		j.told = d
	}
}

func strangers(owed []queue.Recipient, results map[string]error) []string {
	var names []string
	for name := range results {
		if !slices.ContainsFunc(owed, func(r queue.Recipient) bool { return r.Address == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
