package diskqueue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/telemetry"
)

// probeEvery is how often a sick storage is tried.
const probeEvery = 10 * time.Second

// fullFor is how long Check says no after the disk said that it is full. It is
// short, for only the next attempt can tell that there is room again.
const fullFor = time.Second

// health knows whether the storage can be trusted, and finds out again when it
// could not.
type health struct {
	mu   sync.Mutex
	sick error     // why nothing may be promised; nil when well
	full time.Time // until when to take the disk for full
}

// kindOf sorts an error of the storage into those a queue may answer. What
// nobody foresaw is taken for the worst. nil is no error.
func kindOf(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{queue.ErrClosed, queue.ErrSick, queue.ErrNoSpace, queue.ErrBusy, queue.ErrTooLarge} {
		if errors.Is(err, known) {
			return known
		}
	}
	if isNoSpace(err) {
		return queue.ErrNoSpace
	}
	var failedSync *syncError
	if errors.As(err, &failedSync) && !failedToOpen(err) {
		return queue.ErrSick
	}
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, fs.ErrExist} {
		if errors.Is(err, passing) {
			return queue.ErrBusy
		}
	}
	if errors.Is(err, syscall.EFBIG) || errors.Is(err, errTooLong) {
		return queue.ErrTooLarge
	}
	return queue.ErrSick
}

// failedToOpen: a directory could not be opened to be synced, so that no sync
// was tried.
func failedToOpen(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "open"
}

// fault is for every error of the storage: it draws the consequences, tells the
// hook, and returns the error as callers of the queue may see it.
func (q *Queue) fault(op string, id queue.ID, err error) error {
	kind := kindOf(err)
	err = fmt.Errorf("diskqueue: %s %s: %w", op, id, err)
	event := telemetry.SpoolError{Op: op, Path: pathOf(err), ID: string(id), Err: err}
	switch kind {
	case queue.ErrNoSpace:
		err = fmt.Errorf("%w: %w%s", kind, err, q.whatIsFull())
		event.Err = err
		q.health.mu.Lock()
		q.health.full = time.Now().Add(fullFor)
		q.health.mu.Unlock()
	case queue.ErrSick:
		err = fmt.Errorf("%w: %w", kind, err)
		event.Sick = q.fallSick(err)
	default:
		err = fmt.Errorf("%w: %w", kind, err)
	}
	telemetry.Emit(q.o.Hooks.SpoolError, event)
	return err
}

func pathOf(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Path
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Old
	}
	return ""
}

// fallSick stops promises and deliveries until a probe passes. It reports
// whether the queue was well before.
func (q *Queue) fallSick(err error) bool {
	q.health.mu.Lock()
	defer q.health.mu.Unlock()
	if q.health.sick != nil {
		return false
	}
	q.health.sick = err
	q.schedule.setSick(err)
	if q.stop.Err() == nil { // not closing, which happens under the same mutex
		q.background.Go(q.recuperate)
	}
	return true
}

// recuperate probes until the storage is well.
func (q *Queue) recuperate() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.stop.Done():
			return
		case <-tick.C:
		}
		err := q.probe()
		if err == nil {
			break
		}
		telemetry.Emit(q.o.Hooks.SpoolError, telemetry.SpoolError{Op: "probe", Path: pathOf(err), Err: err})
	}
	q.health.mu.Lock()
	q.health.sick = nil
	q.schedule.setSick(nil)
	q.health.mu.Unlock()
	telemetry.Emit(q.o.Hooks.SpoolError, telemetry.SpoolError{Op: "probe", Path: q.dir, Well: true})
	q.disk.trash.retryStuck()
	if q.journal != nil {
		q.journal.poke()
	}
}

// probe does with a file of its own what is done with a message: it commits it
// and moves it through all places. A full disk passes: it answers, and only
// deliveries can make room on it.
func (q *Queue) probe() error {
	if err := q.disk.works(); err != nil {
		return fmt.Errorf("diskqueue: probe: %w", err)
	}
	return nil
}

// verdict tells, of an error that concerns one entry, whether the entry is at
// fault, and why, or the storage.
func (q *Queue) verdict(err error) (reason string, its bool) {
	if reason, its = isBroken(err); its {
		return reason, true
	}
	if kindOf(err) != queue.ErrSick || q.probe() != nil {
		return "", false
	}
	return fmt.Sprintf("not usable: %v", err), true
}

// probeFile is foreign by its name, so that one left behind disturbs nobody.
const probeFile = ".probe"

// works is nil when the storage does what a message needs of it, or is full.
func (d *directory) works() error {
	if err := d.probe(); kindOf(err) == queue.ErrSick {
		return err
	}
	return nil
}

func (d *directory) probe() error {
	d.probing.Lock()
	defer d.probing.Unlock()
	if err := d.writeFile(d.path(inIncoming, probeFile), []byte("probe\n")); err != nil {
		return err
	}
	for p := inIncoming; p <= inDead; p++ {
		if err := d.syncPlace(p, d.mark(p)); err != nil {
			return err
		}
		if err := d.fs.Rename(d.path(p, probeFile), d.path(p+1, probeFile)); err != nil {
			return err
		}
	}
	return d.fs.Remove(d.path(inTrash, probeFile))
}

// well returns the error that a client is owed when nothing can be promised.
func (q *Queue) well() error {
	q.health.mu.Lock()
	defer q.health.mu.Unlock()
	if q.health.sick == nil {
		return nil
	}
	return fmt.Errorf("diskqueue: %w", q.health.sick)
}

func (q *Queue) saidFull() bool {
	q.health.mu.Lock()
	defer q.health.mu.Unlock()
	return time.Now().Before(q.health.full)
}

// enter begins work on the disk; leave ends it. Close waits for all that has
// entered, and nothing enters after.
func (q *Queue) enter() error {
	q.gate.Lock()
	defer q.gate.Unlock()
	if q.closed {
		return fmt.Errorf("diskqueue: %w", queue.ErrClosed)
	}
	q.working.Add(1)
	return nil
}

func (q *Queue) leave() { q.working.Done() }
