package diskqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// ErrLocked is returned, wrapped with the directory and as a rule the holder's
// process ID, by Open and Inspect when another process uses the spool.
var ErrLocked = errors.New("diskqueue: the spool is in use by another process")

// Queue is a spool, opened. Besides queue.Queue it is a queue.Inspector.
type Queue struct {
	dir  string
	o    Options
	fs   vfs.FS
	lock io.Closer

	schedule *schedule
	tier     store
	disk     *directory
	journal  *journal // nil when there is none
	health   health
	space    space
	buffers  buffers

	gate    sync.Mutex
	closed  bool
	drafts  map[queue.ID]*draft
	leases  map[*lease]struct{}
	working sync.WaitGroup // what touches the disk

	background sync.WaitGroup // goroutines that end with stop
	stop       context.Context
	cancel     context.CancelFunc
	shut       chan struct{} // closed when Close is done
}

var (
	_ queue.Queue     = (*Queue)(nil)
	_ queue.Inspector = (*Queue)(nil)
)

// Open opens the spool in dir, which is made if it is missing, readable by its
// owner alone. It takes the spool's lock, brings what an earlier process left
// into order, and returns when every message is known: see
// docs/disk-format.md. nil options are the defaults.
//
// It fails when the lock is held (ErrLocked), and when the directory cannot be
// written to. A full disk is no reason to fail, nor is a message that is not
// what it should be: that one is set aside and reported to Hooks.SpoolError.
func Open(dir string, o *Options) (*Queue, error) {
	opts := o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("diskqueue: %w", err)
	}
	if err := makeDirs(opts.fs, dir); err != nil {
		return nil, fmt.Errorf("diskqueue: open %s: %w", dir, err)
	}
	lock, err := takeLock(opts.fs, dir, true)
	if err != nil {
		return nil, err
	}
	q := newQueue(dir, opts, lock)
	if err := q.start(); err != nil {
		return nil, fmt.Errorf("diskqueue: open %s: %w", dir, errors.Join(err, q.Close()))
	}
	return q, nil
}

func newQueue(dir string, o Options, lock io.Closer) *Queue {
	disk := newDirectory(o.fs, dir, o.NoFsync)
	q := &Queue{
		dir:      dir,
		o:        o,
		fs:       o.fs,
		lock:     lock,
		schedule: newSchedule(),
		tier:     disk,
		disk:     disk,
		space:    space{fs: o.fs, dir: dir, floor: 2 * o.MessageSize},
		buffers:  buffers{most: o.Buffers},
		drafts:   make(map[queue.ID]*draft),
		leases:   make(map[*lease]struct{}),
		shut:     make(chan struct{}),
	}
	q.stop, q.cancel = context.WithCancel(context.Background())
	disk.trash.report = func(op string, id queue.ID, err error) {
		_ = q.fault(op, id, err) // told to the hook; nobody waits for an answer
	}
	disk.trash.complain = q.complain
	return q
}

// start brings the spool into order and begins the work in the background.
func (q *Queue) start() error {
	for _, p := range []place{inIncoming, inCommitted, inProcessing, inDead, inTrash} {
		if err := makeDirs(q.fs, q.disk.path(p)); err != nil {
			return err
		}
	}
	if err := q.addJournal(); err != nil {
		return err
	}
	if err := q.syncNames(); err != nil {
		return err
	}
	q.fs.Spread(q.disk.path(inIncoming)) // messages are made here, and stay where they are when renamed
	if err := q.probe(); err != nil {
		return err
	}
	paused, err := isPaused(q.fs, q.dir)
	if err != nil {
		return err
	}
	q.schedule.setPaused(paused)
	if err := q.recover(); err != nil {
		return err
	}
	q.disk.trash.start()
	q.startSweeping()
	return nil
}

// addJournal puts the journal beside the directories, if new messages are to go
// there or old ones may lie there.
func (q *Queue) addJournal() error {
	j := newJournal(q.disk, q.o.segment, !q.o.NoJournal)
	j.restless = q.o.restless
	if j.commits {
		err := makeDirs(q.fs, j.dir)
		if isNoSpace(err) {
			_ = q.fault("open", "", err) // told to the hook; deliveries make room, and the next open has one
			return nil
		}
		if err != nil {
			return err
		}
	} else if _, err := q.fs.Stat(j.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	j.report, j.complain = q.disk.trash.report, q.complain
	j.distrust = q.distrust
	q.journal, q.tier = j, tiers{q.disk, j}
	return nil
}

// syncNames makes certain what lies where: the process that moved it may have been
// killed before it synced that, and what is done from here on builds on it. A
// full disk is no reason not to open.
func (q *Queue) syncNames() error {
	dirs := []string{q.dir}
	for p := inIncoming; p <= inDead; p++ {
		dirs = append(dirs, q.disk.path(p))
	}
	if q.journal != nil {
		dirs = append(dirs, q.journal.dir)
	}
	for _, dir := range dirs {
		if err := q.disk.syncDir(dir); err != nil && !isNoSpace(err) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// makeDirs makes a directory with all above it, durably. What the first of them is made
// in is synced too: whoever made that, an operator or a process that was killed, may not
// have done it. A directory that is not ours to read is others' to sync.
func makeDirs(fsys vfs.FS, dir string) error {
	var missing []string
	there := dir
	for {
		st, err := fsys.Stat(there)
		if err == nil && st.Mode()&fs.ModeSymlink == 0 && !st.IsDir() { // a symlink is one to a directory, or else the next call on it fails
			return &fs.PathError{Op: "mkdir", Path: there, Err: errors.New("there is something that is not a directory")}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, there)
		there = filepath.Dir(there)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := fsys.SyncDir(filepath.Dir(there)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, dir := range slices.Backward(missing) {
		if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

func takeLock(fsys vfs.FS, dir string, exclusive bool) (io.Closer, error) {
	lock, err := fsys.Lock(filepath.Join(dir, "lock"), exclusive)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("diskqueue: lock %s: %w", dir, err)
	}
	return lock, nil
}

// Dir is the spool's directory, absolute.
func (q *Queue) Dir() string { return q.dir }

// ControlSocket is where the daemon that holds this spool is to be reached.
// See the function of that name.
func (q *Queue) ControlSocket() string { return ControlSocket(q.dir) }

// ControlSocket is the path of the socket by which the tools reach the daemon
// that holds the spool in dir: control.sock in it, or, where that is too long
// for the address of a socket, a name made from dir in the system's temporary
// directory. That directory is open to all: whoever listens or connects there
// must see to it who owns the socket.
func ControlSocket(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	path := filepath.Join(dir, "control.sock")
	if len(path) <= maxSocketPath {
		return path
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), "incoming-"+hex.EncodeToString(sum[:8])+".sock")
}

// Begin implements queue.Queue.
func (q *Queue) Begin(ctx context.Context, env queue.Envelope, origin queue.Origin) (queue.Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := q.ready(0); err != nil {
		return nil, err
	}
	if origin.ReceivedAt.IsZero() {
		origin.ReceivedAt = time.Now()
	}
	q.gate.Lock()
	defer q.gate.Unlock()
	if q.closed {
		return nil, fmt.Errorf("diskqueue: %w", queue.ErrClosed)
	}
	if err := q.room(); err != nil {
		return nil, err
	}
	id := queue.NewID(origin.ReceivedAt)
	for q.taken(id) {
		id = queue.NewID(origin.ReceivedAt)
	}
	d := &draft{q: q, id: id, r: newRecord(id, env, origin), body: body{buffers: &q.buffers}}
	q.drafts[id] = d
	return d, nil
}

// taken: by chance, or by a clock set back on a copied machine.
func (q *Queue) taken(id queue.ID) bool {
	_, held := q.schedule.find(id)
	return held || q.drafts[id] != nil
}

// room is called under gate, so that places cannot be given twice.
func (q *Queue) room() error {
	if held := q.schedule.held() + len(q.drafts); held >= q.o.Depth {
		return fmt.Errorf("diskqueue: %w: %d messages are held", queue.ErrFull, held)
	}
	return nil
}

// ready is nil when the storage would take a message of size octets.
func (q *Queue) ready(size int64) error {
	if err := q.well(); err != nil {
		return err
	}
	if q.saidFull() {
		return fmt.Errorf("diskqueue: %w", queue.ErrNoSpace)
	}
	err := q.space.check(size)
	if err == nil || errors.Is(err, queue.ErrNoSpace) {
		return wrap(err)
	}
	return q.fault("ask for free space", "", err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("diskqueue: %w", err)
}

// Check implements queue.Queue. It asks the system for free space at most once
// a second.
func (q *Queue) Check(size int64) error {
	q.gate.Lock()
	closed, err := q.closed, q.room()
	q.gate.Unlock()
	if closed {
		return fmt.Errorf("diskqueue: %w", queue.ErrClosed)
	}
	if notReady := q.ready(size); notReady != nil {
		return notReady
	}
	return err
}

// Space implements queue.Spacer. It asks the system at most once a second.
func (q *Queue) Space() (queue.Space, error) {
	free, err := q.space.free()
	if err != nil {
		return queue.Space{}, fmt.Errorf("diskqueue: %w", err)
	}
	left := queue.Space{Bytes: bounded(free.Bytes), Inodes: -1}
	if free.HasInodes {
		left.Inodes = bounded(free.Inodes)
	}
	return left, nil
}

// bounded is n, for file systems that boast.
func bounded(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// Depth implements queue.Queue.
func (q *Queue) Depth() queue.Depth {
	d := q.schedule.now()
	q.gate.Lock()
	d.Drafts = len(q.drafts)
	q.gate.Unlock()
	return d
}

// Close implements queue.Queue. Messages in trash/ are removed before it
// returns; drafts are discarded.
func (q *Queue) Close() error {
	q.gate.Lock()
	if q.closed {
		q.gate.Unlock()
		<-q.shut
		return nil
	}
	q.closed = true
	q.gate.Unlock()
	defer close(q.shut)

	q.schedule.shut()
	q.health.mu.Lock()
	q.cancel()
	q.health.mu.Unlock()
	q.working.Wait()
	q.background.Wait()
	q.abandon()
	q.disk.trash.close()
	q.journal.close()
	return q.lock.Close()
}

// abandon ends the drafts and leases that are still out.
func (q *Queue) abandon() {
	q.gate.Lock()
	drafts := slices.Collect(maps.Values(q.drafts))
	leases := slices.Collect(maps.Keys(q.leases))
	q.gate.Unlock()
	for _, d := range drafts {
		d.lose()
	}
	for _, l := range leases {
		l.lose()
	}
}
