package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// List implements queue.Inspector. What is listed is what there was when it
// began.
func (q *Queue) List(ctx context.Context, f queue.Filter) iter.Seq2[queue.Entry, error] {
	return func(yield func(queue.Entry, error) bool) {
		for _, e := range q.schedule.snapshot(f) {
			if err := ctx.Err(); err != nil {
				yield(queue.Entry{}, err)
				return
			}
			got, err := q.Get(ctx, e.id)
			switch {
			case errors.Is(err, queue.ErrNotFound):
				continue
			case errors.Is(err, queue.ErrClosed):
				yield(queue.Entry{}, err)
				return
			case err != nil:
				got = queue.Entry{ID: e.id, State: e.state.public()}
			case !f.Match(got):
				continue
			}
			if !yield(got, err) {
				return
			}
		}
	}
}

// snapshot is the entries that f may select as far as memory can tell, oldest
// first.
func (s *schedule) snapshot(f queue.Filter) []entry {
	s.mu.Lock()
	s.settle()
	var es []entry
	add := func(e *entry) {
		if len(f.States) == 0 || slices.Contains(f.States, e.state.public()) {
			es = append(es, e.copy())
		}
	}
	if len(f.IDs) == 0 {
		for e := range s.byID.all() {
			add(e)
		}
	}
	for i, id := range f.IDs {
		if e := s.get(id); e != nil && !slices.Contains(f.IDs[:i], id) {
			add(e)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(es, func(a, b entry) int { return byAge(&a, &b) })
	return es
}

// Get implements queue.Inspector.
func (q *Queue) Get(_ context.Context, id queue.ID) (queue.Entry, error) {
	var got queue.Entry
	err := q.follow(id, func(e *entry) (err error) {
		got, err = describe(q.tier, e)
		return err
	})
	return got, err
}

// Open implements queue.Inspector.
func (q *Queue) Open(ctx context.Context, id queue.ID) (io.ReadCloser, error) {
	got, err := q.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return queue.NewMessage(got, func() (queue.Raw, error) {
		var raw queue.Raw
		err := q.follow(id, func(e *entry) (err error) {
			raw, err = q.tier.text(e)
			return err
		})
		return raw, err
	}).Open()
}

// follow calls look with a copy of the entry, which does not move meanwhile.
func (q *Queue) follow(id queue.ID, look func(*entry) error) error {
	if err := q.enter(); err != nil {
		return err
	}
	defer q.leave()
	defer q.tier.still(id)()
	e, ok := q.schedule.find(id)
	if !ok || !validID(id) || e.place() == inTrash {
		return fmt.Errorf("diskqueue: %q: %w", id, queue.ErrNotFound)
	}
	if err := look(&e); err != nil {
		return fmt.Errorf("diskqueue: %s: %w", id, err)
	}
	return nil
}

// describe is all that is known of an entry. A dead letter may lack anything.
func describe(t store, e *entry) (queue.Entry, error) {
	r, err := t.read(e)
	if _, broken := isBroken(err); broken && e.state == dead {
		r = &record{Entry: queue.Entry{ID: e.id, State: queue.StateDead}}
		r.ReceivedAt = unixMilli(e.received)
		r.Size = t.size(e)
	} else if err != nil {
		return queue.Entry{}, err
	}
	switch e.state {
	case waiting:
		r.NextAttempt = unixMilli(e.at)
	case dead:
		n, err := t.readNote(e)
		if err != nil {
			return queue.Entry{}, err
		}
		r.Dead = &n.Dead
	}
	return r.Entry, nil
}

// change holds an entry while f changes it on the disk. f returns what becomes
// of it in memory; nil forgets it.
func (q *Queue) change(ctx context.Context, op string, id queue.ID, f func(*entry) (func(), error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := q.enter(); err != nil {
		return err
	}
	defer q.leave()
	e, err := q.schedule.hold(id)
	if err != nil {
		return fmt.Errorf("diskqueue: %s %q: %w", op, id, err)
	}
	after, err := f(e)
	switch {
	case err != nil:
		q.schedule.put(e, func() { e.busy = false })
	case after == nil:
		q.schedule.forget(e)
	default:
		q.schedule.put(e, func() {
			e.busy = false
			after()
		})
	}
	return err
}

// refuse is an error that is no fault of the storage.
func refuse(op string, id queue.ID, why error) error {
	return fmt.Errorf("diskqueue: %s %s: %w", op, id, why)
}

// blame finds out whether an error that concerns one entry is the entry's.
func (q *Queue) blame(op string, id queue.ID, err error) error {
	if reason, its := q.verdict(err); its {
		return refuse(op, id, fmt.Errorf("%s: %w", reason, queue.ErrIncomplete))
	}
	return q.fault(op, id, err)
}

// Retry implements queue.Inspector. A dead letter is answered queue.ErrNotFound.
func (q *Queue) Retry(ctx context.Context, id queue.ID) error {
	return q.change(ctx, "retry", id, func(e *entry) (func(), error) {
		switch e.state {
		case ready:
			return func() {}, nil
		case dead:
			return nil, refuse("retry", id, fmt.Errorf("a dead letter is requeued: %w", queue.ErrNotFound))
		}
		r, err := q.tier.read(e)
		if err != nil {
			return nil, q.blame("retry", id, err)
		}
		r.NextAttempt = time.Time{}
		if err := q.tier.update(e, r); err != nil {
			return nil, q.fault("retry", id, err)
		}
		return func() { e.state = ready }, nil
	})
}

// Requeue implements queue.Inspector. A message that is not a dead letter is
// answered queue.ErrNotFound, one that is not whole queue.ErrIncomplete.
func (q *Queue) Requeue(ctx context.Context, id queue.ID) error {
	return q.change(ctx, "requeue", id, func(e *entry) (func(), error) {
		r, err := q.whole(e)
		if err != nil {
			return nil, err
		}
		r.revive(time.Now())
		if len(r.Envelope.RcptTo) == 0 {
			return nil, refuse("requeue", id, fmt.Errorf("no recipient is owed: %w", queue.ErrIncomplete))
		}
		if err := q.tier.requeue(e, r); err != nil {
			return nil, q.fault("requeue", id, err)
		}
		return func() { e.state, e.at = ready, 0 }, nil
	})
}

// whole reads a dead letter that can be delivered.
func (q *Queue) whole(e *entry) (*record, error) {
	if e.state != dead {
		return nil, refuse("requeue", e.id, fmt.Errorf("not a dead letter: %w", queue.ErrNotFound))
	}
	n, err := q.tier.readNote(e)
	if err != nil {
		return nil, q.blame("requeue", e.id, err)
	}
	if n.neverAccepted() {
		return nil, refuse("requeue", e.id, queue.ErrIncomplete)
	}
	r, err := q.tier.read(e)
	if err == nil {
		err = q.tier.verify(e, r)
	}
	if err != nil {
		return nil, q.blame("requeue", e.id, err)
	}
	return r, nil
}

// Delete implements queue.Inspector.
func (q *Queue) Delete(ctx context.Context, id queue.ID) error {
	return q.change(ctx, "delete", id, func(e *entry) (func(), error) {
		if err := q.tier.remove(e); err != nil {
			return nil, q.fault("delete", id, err)
		}
		return nil, nil
	})
}

// pausedFile is present while deliveries are paused.
const pausedFile = "paused"

func isPaused(fsys vfs.FS, dir string) (bool, error) {
	_, err := fsys.Stat(filepath.Join(dir, pausedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Pause implements queue.Inspector.
func (q *Queue) Pause(ctx context.Context) error {
	return q.setPaused(ctx, "pause", true, func(name string) error { return q.disk.writeFile(name, nil) })
}

// Resume implements queue.Inspector.
func (q *Queue) Resume(ctx context.Context) error {
	return q.setPaused(ctx, "resume", false, func(name string) error {
		if err := q.fs.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (q *Queue) setPaused(ctx context.Context, op string, on bool, mark func(string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := q.enter(); err != nil {
		return err
	}
	defer q.leave()
	err := mark(filepath.Join(q.dir, pausedFile))
	if err == nil {
		err = q.disk.syncDir(q.dir)
	}
	if err != nil {
		return q.fault(op, "", err)
	}
	q.schedule.setPaused(on)
	return nil
}

// Paused implements queue.Inspector.
func (q *Queue) Paused() bool { return q.schedule.isPaused() }
