package diskqueue

import (
	"context"
	"errors"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// journalActs are lives of a journal in which segments are made, filled, sealed,
// emptied and used again.
func journalActs() []act {
	return []act{
		{name: "segments are filled", stocks: true, do: func(w *world) error { return w.fill(40) }, after: func(w *world) {
			if w.q.journal.did.ended > 0 {
				w.errorf("a life has ended")
			}
		}},
		{name: "segments are used again", stocks: true, do: func(w *world) error { return w.live(60, 1000) }, after: func(w *world) {
			if w.q.journal.did.ended < 2 {
				w.errorf("%+v", w.q.journal.did)
			}
		}},
		{name: "segments are emptied", stocks: true, do: func(w *world) error { return w.live(70, 10) }, after: func(w *world) {
			if w.q.journal.did.emptied < 1 || w.q.journal.did.ended < 1 {
				w.errorf("%+v", w.q.journal.did)
			}
		}},
	}
}

// fill commits so many messages.
func (w *world) fill(n int) (err error) {
	for i := range n {
		if w.target, _, err = w.text(letter, 100+i, false); err != nil {
			return err
		}
		w.kept[w.target] = letter
	}
	return nil
}

// live commits so many messages and ends all but one of each stay of them.
func (w *world) live(n, stay int) (err error) {
	for i := range n {
		if w.target, w.l, err = w.text(letter, 100+i, true); err != nil {
			return err
		}
		w.kept[w.target] = letter
		if i%stay == stay-1 {
			at := time.Now().Add(time.Hour)
			err = errors.Join(w.l.Settle(context.Background(), []queue.Outcome{{Recipient: "a@y.example"}}), w.l.Retry(context.Background(), at, errors.New("later")))
		} else if err = w.l.Ack(context.Background()); err == nil {
			delete(w.kept, w.target)
		}
		if err != nil {
			return err
		}
	}
	w.target = ""
	return nil
}
