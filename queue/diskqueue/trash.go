package diskqueue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/incoming-mx/incoming/queue"
)

// trash removes what has been moved into trash/, on a goroutine of its own: the
// rename ends a message, the rest can wait.
type trash struct {
	d *directory
	// report is told of what could not be removed, complain of what could not
	// be although the storage works. Set before start.
	report, complain func(op string, id queue.ID, err error)

	mu   sync.Mutex
	wake *sync.Cond
	jobs []job
	// later is what could not be removed for a passing reason: tried again
	// with the next jobs.
	later []job
	// stuck is what clear could not even move, and left what could be moved and
	// not removed: tried again by retryStuck.
	stuck, left []job
	closing     bool
	done        chan struct{}
}

// job is one directory under trash/, or for stuck, in its place of origin. Each
// was a message or a draft before, so that there are never more than those.
type job struct {
	name string
	from place
	mark int  // of the place, from before it left that
	away bool // it has left that for certain
	last bool // tried before: what fails now is left to the next open
}

func newTrash(d *directory) *trash {
	t := &trash{d: d}
	t.wake = sync.NewCond(&t.mu)
	return t
}

func (t *trash) start() {
	t.done = make(chan struct{})
	go t.run()
}

// close removes what is left and ends the goroutine. To close what was never
// started does nothing.
func (t *trash) close() {
	if t.done == nil {
		return
	}
	t.mu.Lock()
	t.closing = true
	t.wake.Signal()
	t.mu.Unlock()
	<-t.done
}

// take moves a message into trash/.
func (t *trash) take(from place, id queue.ID) error {
	mark := t.d.mark(from)
	name, err := t.rename(from, id)
	if isNoSpace(err) {
		// No room for a name in trash/: removed where it lies. A crash half
		// way leaves a broken entry, which is set aside as one.
		return t.d.removeTree(t.d.path(from, string(id)), asCommitted...)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.jobs = append(t.jobs, job{name: name, from: from, mark: mark})
	t.wake.Signal()
	t.mu.Unlock()
	return nil
}

// rename finds a name in trash/ that is free: one may be taken by a message of
// the same ID whose removal failed.
func (t *trash) rename(from place, id queue.ID) (name string, err error) {
	name = string(id)
	for n := 2; n < 100; n++ {
		err = t.d.fs.Rename(t.d.path(from, string(id)), t.d.path(inTrash, name))
		if !errors.Is(err, fs.ErrExist) { // ENOTEMPTY too
			return name, err
		}
		name = fmt.Sprintf("%s.%d", id, n)
	}
	return "", err
}

// clear removes what a draft or a failed commit left. It cannot fail as seen by
// its caller, who has an error of its own to tell: what is left is reported
// and tried again when the storage is well.
func (t *trash) clear(from place, id queue.ID) {
	err := t.take(from, id)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	t.mu.Lock()
	t.stuck = append(t.stuck, job{name: string(id), from: from})
	t.mu.Unlock()
	t.report("clean up", id, err)
}

// retryStuck is called when the storage is well again. It tries once more what
// could not be done; what then fails is at fault by itself and must not make
// the storage sick for ever.
func (t *trash) retryStuck() {
	t.mu.Lock()
	stuck, left := t.stuck, t.left
	t.stuck, t.left = nil, nil
	for _, j := range left {
		j.last = true
		t.jobs = append(t.jobs, j)
	}
	t.wake.Signal()
	t.mu.Unlock()
	for _, j := range stuck {
		if err := t.take(j.from, queue.ID(j.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.complain("clean up", queue.ID(j.name), err)
		}
	}
}

func (t *trash) run() {
	defer close(t.done)
	for {
		t.mu.Lock()
		for len(t.jobs) == 0 && !t.closing {
			t.wake.Wait()
		}
		jobs := t.jobs
		t.jobs = nil
		if len(jobs) > 0 {
			jobs = append(jobs, t.later...)
			t.later = nil
		}
		t.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		t.empty(jobs)
	}
}

// empty removes a batch. First it makes sure that the messages have left the
// places they came from: a power cut that undid a rename, and not the removal
// of the files, would leave a message that is no longer whole.
func (t *trash) empty(jobs []job) {
	for _, p := range []place{inCommitted, inProcessing, inDead} {
		jobs = t.settle(p, jobs)
	}
	for _, j := range jobs {
		names := asCommitted
		switch j.from {
		case inIncoming:
			names = asStaged
		case inDead:
			names = asDead
		}
		if err := t.d.removeTree(t.d.path(inTrash, j.name), names...); err != nil {
			t.notRemoved(j, err)
		}
	}
}

// settle makes sure that what came from a place has left it, and returns the jobs
// without those of which that cannot be known: a sync of the place has failed since
// they left.
func (t *trash) settle(p place, jobs []job) []job {
	asked := func(j job) bool { return j.from == p && !j.away }
	mark := t.d.mark(p)
	all := len(jobs)
	jobs = slices.DeleteFunc(jobs, func(j job) bool { return asked(j) && j.mark != mark })
	if doubtful := all - len(jobs); doubtful > 0 {
		t.complain("empty trash", "", fmt.Errorf("%d of %s are left to the next open, for a sync has failed since they went", doubtful, t.d.path(p)))
	}
	if !slices.ContainsFunc(jobs, asked) {
		return jobs
	}
	if err := t.d.syncPlace(p, mark); err != nil {
		t.report("empty trash", "", err)
		if failedToOpen(err) { // nothing was tried
			t.mu.Lock()
			for _, j := range jobs {
				if asked(j) {
					t.later = append(t.later, j)
				}
			}
			t.mu.Unlock()
		}
		return slices.DeleteFunc(jobs, asked)
	}
	for i := range jobs {
		if asked(jobs[i]) {
			jobs[i].away = true
		}
	}
	return jobs
}

func (t *trash) notRemoved(j job, err error) {
	if j.last {
		t.complain("empty trash", queue.ID(j.name), err)
		return
	}
	t.mu.Lock()
	if kindOf(err) == queue.ErrSick {
		t.left = append(t.left, j)
	} else {
		t.later = append(t.later, j)
	}
	t.mu.Unlock()
	t.report("empty trash", queue.ID(j.name), err)
}

// mostJobs is how many directories wait for the trash's goroutine, shareOfJobs
// how many whoever adds another then removes himself. So what is in trash/
// stays little, however fast messages come and go.
const (
	mostJobs    = 256
	shareOfJobs = 32
)

// help removes some of what waits when it has become too much for one goroutine.
func (t *trash) help() {
	t.mu.Lock()
	if len(t.jobs) <= mostJobs {
		t.mu.Unlock()
		return
	}
	mine := slices.Clone(t.jobs[:shareOfJobs])
	t.jobs = t.jobs[shareOfJobs:]
	t.mu.Unlock()
	t.empty(mine)
}

// What is in a message's directory as a rule.
var (
	asCommitted = []string{rawFile, metaFile}
	asStaged    = []string{rawTmp, metaTmp, rawFile, metaFile}
	asDead      = []string{rawFile, metaFile, deadFile}
)

// removeTree removes a message's directory: the files of those names without
// looking, then whatever else is in it.
func (d *directory) removeTree(dir string, names ...string) error {
	for _, name := range names {
		err := d.fs.Remove(filepath.Join(dir, name))
		switch {
		case errors.Is(err, syscall.ENOTDIR):
			return d.fs.Remove(dir)
		case errors.Is(err, fs.ErrExist): // a directory by that name
			return d.removeAll(dir, 16)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	err := d.fs.Remove(dir)
	if errors.Is(err, fs.ErrExist) { // ENOTEMPTY too
		return d.removeAll(dir, 16)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeAll removes a directory with all that is in it, depth levels deep.
func (d *directory) removeAll(dir string, depth int) error {
	entries, err := d.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() && depth > 0 {
			err = d.removeAll(name, depth-1)
		} else {
			err = d.fs.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.fs.Remove(dir)
}
