package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/incoming-mx/incoming/queue"
)

// draft is a message being received. It belongs to one goroutine, but Close
// may end it from another.
type draft struct {
	q  *Queue
	id queue.ID
	r  *record // what Commit will write

	mu    sync.Mutex
	body  body
	err   error // of a Write: final
	ended error // what every method answers from now on
}

var errDraftEnded = errors.New("diskqueue: the draft has ended")

// ID implements queue.Draft.
func (d *draft) ID() queue.ID { return d.id }

// Write implements queue.Draft.
func (d *draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return 0, d.ended
	}
	if d.err != nil {
		return 0, d.err
	}
	if d.body.file != nil || !d.body.buffer(p) {
		if d.err = d.writeFile(p); d.err != nil {
			return 0, d.err
		}
	}
	d.q.space.drafts.Add(int64(len(p)))
	return len(p), nil
}

// writeFile writes p behind what there is in the draft's file, which it makes
// when there is none.
func (d *draft) writeFile(p []byte) error {
	if err := d.q.enter(); err != nil {
		return err
	}
	defer d.q.leave()
	if d.body.file == nil {
		if err := d.q.well(); err != nil {
			return err
		}
		f, err := d.q.tier.stage(d.id)
		if err != nil {
			return d.q.fault("stage", d.id, err)
		}
		if err := d.body.spill(f); err != nil {
			_ = f.Close() // what it holds is of no use any more
			d.q.tier.unstage(d.id)
			return d.q.fault("write", d.id, err)
		}
	}
	if err := d.body.append(p); err != nil {
		d.unstage()
		return d.q.fault("write", d.id, err)
	}
	return nil
}

// unstage removes the draft's file.
func (d *draft) unstage() {
	if d.body.file != nil {
		_ = d.body.file.Close() // likewise
		d.body.file = nil
		d.q.tier.unstage(d.id)
	}
}

// Open implements queue.Draft.
func (d *draft) Open() (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return nil, d.ended
	}
	if d.err != nil {
		return nil, d.err
	}
	return &draftReader{d: d, size: d.body.size}, nil
}

// draftReader reads what a draft held when it was opened, wherever it is now.
type draftReader struct {
	d        *draft
	at, size int64
	closed   bool
}

func (r *draftReader) Read(p []byte) (int, error) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	switch {
	case r.closed:
		return 0, errors.New("diskqueue: read of a closed draft")
	case r.d.ended != nil:
		return 0, r.d.ended
	case r.d.err != nil:
		return 0, r.d.err
	case len(p) == 0:
		return 0, nil
	case r.at >= r.size:
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.at)]
	read := r.d.body.readAt
	if r.d.body.file != nil {
		read = r.d.body.file.ReadAt
	}
	n, err := read(p, r.at)
	r.at += int64(n)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the file is shorter than what was written
	}
	return 0, err
}

func (r *draftReader) Close() error {
	r.closed = true
	return nil
}

// Commit implements queue.Draft.
func (d *draft) Commit(_ context.Context, f queue.Final) (*queue.Message, error) {
	_, r, err := d.commit(f, ready)
	if err != nil {
		return nil, err
	}
	m := queue.NewMessage(r.Entry, func() (queue.Raw, error) { return nil, queue.ErrLeaseEnded })
	m.Expire()
	return m, nil
}

// CommitLeased implements queue.Draft.
func (d *draft) CommitLeased(_ context.Context, f queue.Final) (queue.Lease, error) {
	if err := d.q.enter(); err != nil { // until it is leased: else what is committed might be answered with an error
		return nil, err
	}
	defer d.q.leave()
	e, r, err := d.commit(f, leased)
	if err != nil {
		return nil, err
	}
	if err := d.q.tier.claim(e); err != nil {
		// Told to the hook. The message is the caller's all the same; a crash
		// now would not count as an attempt.
		_ = d.q.fault("lease", d.id, err)
	}
	return d.q.newLease(e, r), nil
}

// commit ends the draft, and makes an entry of it if it can.
func (d *draft) commit(f queue.Final, as state) (*entry, *record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return nil, nil, d.ended
	}
	if err := d.q.enter(); err != nil {
		return nil, nil, err
	}
	defer d.q.leave()
	e, r, err := d.store(f, as)
	d.finish(e, errDraftEnded)
	return e, r, err
}

func (d *draft) store(f queue.Final, as state) (*entry, *record, error) {
	err := d.err
	if err == nil {
		err = d.q.well()
	}
	if err == nil {
		if bad := checkSkip(f.Skip, d.body.size); bad != nil {
			err = fmt.Errorf("diskqueue: commit %s: %w", d.id, bad)
		}
	}
	if err != nil {
		d.unstage()
		return nil, nil, err
	}
	r := d.r
	r.finish(f)
	e := newEntry(d.id, r.ReceivedAt)
	if err := d.q.tier.commit(e, r, &d.body); err != nil {
		return nil, nil, d.q.fault("commit", d.id, err)
	}
	r.State = as.public()
	e.state = as
	return e, r, nil
}

// finish gives the draft's place to e, or frees it.
func (d *draft) finish(e *entry, why error) {
	d.ended = why
	d.body.release(0)
	d.q.space.drafts.Add(-d.body.size)
	d.q.gate.Lock()
	defer d.q.gate.Unlock()
	delete(d.q.drafts, d.id)
	if e != nil {
		d.q.schedule.admit(e)
	}
}

// Discard implements queue.Draft.
func (d *draft) Discard() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil || d.q.enter() != nil {
		return nil // after Close, which ends it
	}
	defer d.q.leave()
	d.unstage()
	d.finish(nil, errDraftEnded)
	return nil
}

// lose is Discard for Close, when nothing may enter any more.
func (d *draft) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil {
		return
	}
	d.unstage()
	d.finish(nil, fmt.Errorf("diskqueue: draft %s: %w", d.id, queue.ErrClosed))
}
