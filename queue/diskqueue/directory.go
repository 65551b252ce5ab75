package diskqueue

import (
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/queue"
)

// The files of a message's directory.
const (
	rawFile  = "raw.eml"
	rawTmp   = "raw.tmp"
	metaFile = "meta.json"
	metaTmp  = "meta.tmp"
	deadFile = "dead.json"
	deadTmp  = "dead.tmp"
)

// directory is the tier of one directory a message. It holds no state of its
// own: the disk is the truth.
type directory struct {
	fs     vfs.FS
	root   string
	noSync bool
	trash  *trash
	// moves keeps renames and those who look apart, by ID.
	moves [64]sync.RWMutex
	seed  maphash.Seed
	// groups sync the places, each for all who have changed it.
	groups [inDead + 1]*group
	// probing: there is one probe file for all who probe.
	probing sync.Mutex
}

var _ store = (*directory)(nil)

func newDirectory(fs vfs.FS, root string, noSync bool) *directory {
	d := &directory{fs: fs, root: root, noSync: noSync, seed: maphash.MakeSeed()}
	d.trash = newTrash(d)
	for p := range d.groups {
		d.groups[p] = &group{sync: func() error { return d.syncDir(d.path(place(p))) }}
	}
	return d
}

func (d *directory) path(p place, names ...string) string {
	return filepath.Join(append([]string{d.root, p.dir()}, names...)...)
}

func (d *directory) at(e *entry, names ...string) string {
	return filepath.Join(append([]string{d.root, e.place().dir(), string(e.id)}, names...)...)
}

func (d *directory) stage(id queue.ID) (vfs.File, error) {
	if err := d.fs.Mkdir(d.path(inIncoming, string(id))); err != nil {
		return nil, err
	}
	f, err := d.fs.Create(d.path(inIncoming, string(id), rawTmp))
	if err != nil {
		d.unstage(id)
		return nil, err
	}
	return f, nil
}

func (d *directory) unstage(id queue.ID) { d.trash.clear(inIncoming, id) }

// commit is the order that the promise rests on: everything is written and
// synced before the one rename that makes it a message, and that rename is
// synced before anybody is told.
func (d *directory) commit(e *entry, r *record, b *body) error {
	file := b.file
	if file == nil {
		var err error
		if file, err = d.stage(r.ID); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
	}
	if err := d.fill(r, b, file); err != nil {
		d.unstage(r.ID)
		return err
	}
	mark := d.mark(inCommitted)
	if err := d.fs.Rename(d.path(inIncoming, string(r.ID)), d.path(inCommitted, string(r.ID))); err != nil {
		d.unstage(r.ID)
		return fmt.Errorf("publish: %w", err)
	}
	if err := d.syncPlace(inCommitted, mark); err != nil {
		d.trash.clear(inCommitted, r.ID)
		return fmt.Errorf("publish: %w", err)
	}
	e.setPlace(inCommitted)
	return nil
}

// fill makes the staged directory whole and durable. It closes file. The names
// in staging promise nothing, so they may be final before the syncs: one sync
// of the directory then covers them all.
func (d *directory) fill(r *record, b *body, file vfs.File) error {
	defer file.Close() // a second Close, when all went well: its error says just that
	if b.file == nil {
		if err := b.writeTo(file); err != nil {
			return fmt.Errorf("text: %w", err)
		}
	}
	r.Size, r.hasSize = b.size, true
	r.crc, r.hasCRC = b.crc, true
	meta, err := r.encode()
	if err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	m, err := d.fs.Create(d.path(inIncoming, string(r.ID), metaTmp))
	if err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	defer m.Close() // as above
	if err := writeAll(m, meta); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	if !d.noSync {
		file.StartSync()
		m.StartSync()
	}
	for _, name := range [][2]string{{rawTmp, rawFile}, {metaTmp, metaFile}} {
		from, to := d.path(inIncoming, string(r.ID), name[0]), d.path(inIncoming, string(r.ID), name[1])
		if err := d.fs.Rename(from, to); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	for _, f := range []vfs.File{file, m} {
		if err := d.syncFile(f); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return d.syncDir(d.path(inIncoming, string(r.ID)))
}

func (d *directory) lease(e *entry) (*record, error) {
	r, err := d.read(e)
	if err != nil {
		return nil, err
	}
	if err := d.check(e, r, e.unverified); err != nil {
		return nil, err
	}
	e.unverified = false
	if err := d.claim(e); err != nil {
		return nil, err
	}
	return r, nil
}

// claim moves an entry to processing/. On a full disk it is delivered from
// where it lies: that frees space, and a crash then counts no attempt.
func (d *directory) claim(e *entry) error {
	if err := d.move(e, inProcessing); err != nil && !isNoSpace(err) {
		return err
	}
	return nil
}

func (d *directory) verify(e *entry, r *record) error { return d.check(e, r, true) }

// check holds the text against the record: its length, and if asked for, all of
// it.
func (d *directory) check(e *entry, r *record, whole bool) error {
	st, err := d.fs.Stat(d.at(e, rawFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d.missing(e, rawFile)
	}
	if err != nil {
		return err
	}
	switch {
	case !st.Mode().IsRegular():
		return &brokenError{rawFile + " is not a file"}
	case r.Size != st.Size():
		return &brokenError{fmt.Sprintf("%s has %d octets in place of %d", rawFile, st.Size(), r.Size)}
	case !whole || !r.hasCRC:
		return nil
	}
	crc, err := d.checksum(d.at(e, rawFile))
	if err != nil {
		return err
	}
	if crc != r.crc {
		return &brokenError{fmt.Sprintf("%s has checksum %08x in place of %08x", rawFile, crc, r.crc)}
	}
	return nil
}

func (d *directory) checksum(name string) (uint32, error) {
	f, err := d.fs.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read from
	h := crc32.New(castagnoli)
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	return h.Sum32(), nil
}

// missing tells a file that is gone from a directory that is gone.
func (d *directory) missing(e *entry, name string) error {
	if _, err := d.fs.Stat(d.at(e)); err != nil {
		return err
	}
	return &brokenError{name + " is missing"}
}

func (d *directory) release(e *entry, _ *record) error { return d.move(e, inCommitted) }

// move renames an entry to another place, unless it is there.
func (d *directory) move(e *entry, to place) error {
	if e.place() == to {
		return nil
	}
	mu := d.mutexOf(e.id)
	mu.Lock()
	defer mu.Unlock()
	if err := d.fs.Rename(d.at(e), d.path(to, string(e.id))); err != nil {
		return err
	}
	e.setPlace(to)
	return nil
}

func (d *directory) still(id queue.ID) func() {
	mu := d.mutexOf(id)
	mu.RLock()
	return mu.RUnlock
}

func (d *directory) mutexOf(id queue.ID) *sync.RWMutex {
	return &d.moves[maphash.String(d.seed, string(id))%uint64(len(d.moves))]
}

func (d *directory) update(e *entry, r *record) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	return d.replace(d.at(e), metaTmp, metaFile, b)
}

// replace writes a file of a message anew, in one act, and durably.
func (d *directory) replace(dir, tmp, name string, b []byte) error {
	if err := d.writeFile(filepath.Join(dir, tmp), b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := d.fs.Rename(filepath.Join(dir, tmp), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return d.syncDir(dir)
}

func (d *directory) writeFile(name string, b []byte) error {
	f, err := d.fs.Create(name)
	if err != nil {
		return err
	}
	err = writeAll(f, b)
	if err == nil {
		err = d.syncFile(f)
	}
	return errors.Join(err, f.Close())
}

func (d *directory) retry(e *entry, r *record) error {
	if err := d.update(e, r); err != nil {
		return err
	}
	mark := d.mark(inCommitted)
	if err := d.move(e, inCommitted); err != nil {
		return err
	}
	return d.syncPlace(inCommitted, mark)
}

// bury writes the reason before it moves the message, so that nothing lies in
// dead/ without one. A crash in between leaves it in processing/ with a
// dead.json, which recovery takes for what it is.
func (d *directory) bury(e *entry, n *note) error {
	mark := d.mark(inDead)
	err := d.writeNote(d.at(e), n)
	if err == nil {
		err = d.move(e, inDead)
	}
	if err != nil {
		// It is offered again: a crash must not take that for its way to dead/.
		return errors.Join(err, d.forgetDeath(e))
	}
	return d.syncPlace(inDead, mark)
}

// writeNote says in a message's directory why it is dead, durably.
func (d *directory) writeNote(dir string, n *note) error {
	b, err := n.encode()
	if err != nil {
		return err
	}
	return d.replace(dir, deadTmp, deadFile, b)
}

// forgetDeath takes back what writeNote says, durably.
func (d *directory) forgetDeath(e *entry) error {
	if err := d.fs.Remove(d.at(e, deadFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.syncDir(d.at(e))
}

// entomb makes a dead letter of what was not in a directory. It is built in
// staging, its dead.json last: from then on a crash leaves it on its way to
// dead/, before that it leaves what is incomplete, or once more what there is. A
// record or text that is not known is left out.
func (d *directory) entomb(id queue.ID, r *record, text []byte, n *note) (err error) {
	if err := d.fs.Mkdir(d.path(inIncoming, string(id))); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.unstage(id)
		}
	}()
	files := make(map[string][]byte)
	if r != nil {
		if files[metaFile], err = r.encode(); err != nil {
			return err
		}
	}
	if text != nil {
		files[rawFile] = text
	}
	for _, name := range []string{rawFile, metaFile} {
		if b, ok := files[name]; ok {
			if err := d.writeFile(d.path(inIncoming, string(id), name), b); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if err := d.writeNote(d.path(inIncoming, string(id)), n); err != nil {
		return err
	}
	mark := d.mark(inDead)
	if err := d.fs.Rename(d.path(inIncoming, string(id)), d.path(inDead, string(id))); err != nil {
		return err
	}
	if err := d.syncPlace(inDead, mark); err != nil {
		d.trash.clear(inDead, id)
		return err
	}
	return nil
}

// requeue keeps dead.json until the message is live for good: a crash leaves it
// in dead/ with its reason, or in committed/ with a dead.json, which recovery
// removes. Both directories are synced, for a message that a power cut leaves
// in both would be taken for dead.
func (d *directory) requeue(e *entry, r *record) error {
	if err := d.update(e, r); err != nil {
		return err
	}
	live, dead := d.mark(inCommitted), d.mark(inDead)
	if err := d.move(e, inCommitted); err != nil {
		return err
	}
	if err := d.syncPlace(inCommitted, live); err != nil {
		return err
	}
	if err := d.syncPlace(inDead, dead); err != nil {
		return err
	}
	return d.forgetDeath(e)
}

// remove is one rename; the rest is the trash's, unless that is behind.
func (d *directory) remove(e *entry) error {
	if err := d.discard(e); err != nil {
		return err
	}
	d.trash.help()
	return nil
}

func (d *directory) discard(e *entry) error {
	mu := d.mutexOf(e.id)
	mu.Lock()
	defer mu.Unlock()
	err := d.trash.take(e.place(), e.id)
	if errors.Is(err, fs.ErrNotExist) {
		if there, serr := d.exists(d.at(e)); !there && serr == nil {
			d.trash.complain("remove", e.id, removedByOthers(err))
			err = nil
		}
	}
	if err != nil {
		return err
	}
	e.setPlace(inTrash)
	return nil
}

func (d *directory) read(e *entry) (*record, error) {
	b, err := d.readFile(d.at(e, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.missing(e, metaFile)
	}
	if err != nil {
		return nil, err
	}
	r, err := decode(e.id, b)
	if err != nil {
		return nil, &brokenError{err.Error()}
	}
	r.State = e.state.public()
	if r.badTime {
		r.ReceivedAt = unixMilli(e.received)
	}
	if !r.hasSize {
		if st, err := d.fs.Stat(d.at(e, rawFile)); err == nil {
			r.Size, r.hasSize = st.Size(), true
		}
		if err := r.checkRanges(); err != nil {
			return nil, &brokenError{err.Error()}
		}
	}
	return r, nil
}

func (d *directory) readNote(e *entry) (*note, error) {
	b, err := d.readFile(d.at(e, deadFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := d.fs.Stat(d.at(e)); err != nil {
			return nil, err
		}
		b, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeNote(b, unixMilli(e.at)), nil
}

// mostMeta bounds what is read of a meta.json or dead.json: ours hold at most
// 1000 recipients, 16 KiB of facts and some fields.
const mostMeta = 16 << 20

func (d *directory) readFile(name string) ([]byte, error) {
	f, err := d.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	buf := make([]byte, 0, 2048)
	for {
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case errors.Is(err, syscall.EISDIR):
			return nil, &brokenError{filepath.Base(name) + " is a directory"}
		case err != nil:
			return nil, err
		case len(buf) >= mostMeta:
			return nil, &brokenError{filepath.Base(name) + " is far too big"}
		case len(buf) == cap(buf):
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

func (d *directory) text(e *entry) (queue.Raw, error) {
	f, err := d.fs.Open(d.at(e, rawFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.missing(e, rawFile)
	}
	if err != nil {
		return nil, err // not f, which is a nil of another type
	}
	return f, nil
}

func (d *directory) size(e *entry) int64 {
	st, err := d.fs.Stat(d.at(e, rawFile))
	if err != nil || !st.Mode().IsRegular() {
		return 0 // looking at the text says why
	}
	return st.Size()
}

func (d *directory) syncFile(f vfs.File) error {
	if d.noSync {
		return nil
	}
	return asSyncError(f.Sync())
}

func (d *directory) syncDir(name string) error {
	if d.noSync {
		return nil
	}
	return asSyncError(d.fs.SyncDir(name))
}

// mark is to be taken before names in a place are changed that syncPlace is then
// called for.
func (d *directory) mark(p place) int { return d.groups[p].mark() }

// syncPlace makes durable what was changed in a place since the mark.
func (d *directory) syncPlace(p place, mark int) error {
	if d.noSync {
		return nil
	}
	return d.groups[p].do(mark)
}

// isNoSpace: the storage has no room.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
