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
	whole    bool            // Reject of the message whole: owed does not count
	told     time.Duration   // to the next attempt, by RetryAfter; 0: not told
	backoff  bool            // somebody owed waits for the back-off, not only as told
	panics   []*panicError   // of the message, or of single recipients
	unknown  []string        // recipients in the verdict that are not owed
	missing  int             // recipients owed that the verdict leaves out
}

// works reports whether the adapter did its work: somebody was delivered or
// refused.
func (j *judgement) works() bool { return j.owed == 0 || j.whole || len(j.done) > 0 }

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
			j = judgement{owed: len(owed), rejected: j.rejected, backoff: true, panics: []*panicError{{v, debug.Stack()}}}
		}
	}()
	j.owed = len(owed)
	switch v := find(err).(type) {
	case *RejectError:
		j.rejected, j.whole = true, true
	case *RetryError:
		j.wait(v.After)
	case *RecipientsError:
		j.each(owed, v.Results)
	default:
		j.backoff = true
		if p, ok := err.(*panicError); ok {
			j.panics = append(j.panics, p)
		}
	}
	return j
}

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
		switch v := find(err).(type) {
		case *RejectError:
			j.rejected = true
			j.settle(queue.Outcome{Recipient: r.Address, Rejected: text(err)})
		case *RetryError:
			j.wait(v.After)
		default:
			j.backoff = true
			if p, ok := err.(*panicError); ok {
				j.panics = append(j.panics, p)
			}
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

// wait notes a RetryAfter; of several the earliest counts.
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
