package memqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

var errDraftEnded = errors.New("memqueue: the draft was committed or discarded")

// draft is a message being received.
type draft struct {
	q      *Queue
	id     queue.ID
	env    queue.Envelope
	origin queue.Origin
	text   text
	err    error // of a Write that failed: final
	ended  bool
}

func (d *draft) ID() queue.ID { return d.id }

func (d *draft) Write(p []byte) (int, error) {
	if d.ended {
		return 0, errDraftEnded
	}
	if d.err != nil {
		return 0, d.err
	}
	if d.err = d.reserve(int64(len(p))); d.err != nil {
		return 0, d.err
	}
	d.text.append(p)
	return len(p), nil
}

func (d *draft) reserve(n int64) error {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	if d.q.isClosed() {
		return fmt.Errorf("memqueue: write: %w", queue.ErrClosed)
	}
	if err := d.q.room(n, d.text.size); err != nil {
		return err
	}
	d.q.bytes += n
	return nil
}

func (d *draft) Open() (io.ReadCloser, error) {
	if d.ended {
		return nil, errDraftEnded
	}
	return io.NopCloser(io.NewSectionReader(d.text, 0, d.text.size)), nil
}

func (d *draft) Commit(_ context.Context, f queue.Final) (*queue.Message, error) {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	e, err := d.commit(f)
	if err != nil {
		return nil, err
	}
	m := queue.NewMessage(e.Entry, e.text.open)
	m.Expire()
	d.q.offer(e, time.Time{})
	return m, nil
}

func (d *draft) CommitLeased(_ context.Context, f queue.Final) (queue.Lease, error) {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	e, err := d.commit(f)
	if err != nil {
		return nil, err
	}
	return d.q.lease(e), nil
}

// commit makes the draft an entry, which is not yet in any state.
func (d *draft) commit(f queue.Final) (*entry, error) {
	if d.ended {
		return nil, errDraftEnded
	}
	d.end()
	err := d.err
	if err == nil && d.q.isClosed() {
		err = fmt.Errorf("memqueue: commit: %w", queue.ErrClosed)
	}
	if err != nil {
		d.q.bytes -= d.text.size
		return nil, err
	}
	e := &entry{
		Entry: queue.Entry{
			ID: d.id, Envelope: d.env, Origin: d.origin, Size: d.text.size,
			Facts: f.Facts, Prepend: f.Prepend, Skip: f.Skip, Quarantine: f.Quarantine,
		},
		text: d.text,
		all:  d.env.RcptTo,
	}
	d.q.entries[e.ID] = e
	d.q.live.push(e)
	return e, nil
}

func (d *draft) Discard() error {
	if d.ended {
		return nil
	}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.end()
	d.q.bytes -= d.text.size
	return nil
}

// end frees the place that Begin reserved.
func (d *draft) end() {
	d.ended = true
	d.q.drafts--
}
