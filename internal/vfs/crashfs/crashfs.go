// Package crashfs is a file system in memory that knows what a power cut may
// leave behind. It keeps, beside what a program sees, what is certain to be on
// the disk, and every change since that is not; Crash then makes one of the
// disks that a cut at this moment could leave:
//
//   - text that was not synced is lost, torn or kept, write by write;
//   - a name that was not synced is lost or kept, in any mix, save that a
//     rename is one act: the entry is then under its old name, its new name or
//     both, never under neither.
//
// It is for proofs: a program is run up to its n-th change, for every n, and
// must make sense of each disk that could be left.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// ErrCut is what every call returns once the power is cut.
var ErrCut = errors.New("crashfs: the power is cut")

// FS is the file system. All methods may be called from any goroutine.
type FS struct {
	mu      sync.Mutex
	root    *node
	pending []*change // changes of names that are not certain, oldest first
	ops     int       // changes made
	cutAt   int       // the change that is not made any more; 0: never
	locks   map[string]bool
	calls   []string
	out     chan struct{} // closed by the first call that found the power cut
}

var _ vfs.FS = (*FS)(nil)

// New is an empty file system.
func New() *FS { return &FS{root: newDir(), locks: map[string]bool{}, out: make(chan struct{})} }

// node is a file or a directory, whatever its names.
type node struct {
	dir bool

	// Of a directory: what a program sees, and what is certain.
	names, stable map[string]*node

	// Of a file: what a program sees, what is certain, and what was done
	// since.
	data, synced []byte
	writes       []write
}

// write is text that was not synced; with text nil, a change of length.
type write struct {
	at   int64
	text []byte
}

// change is one change of names. A rename has both halves; the making of a name
// has no from, the removal no to.
type change struct {
	node             *node
	from, to         *node // directories
	oldName, name    string
	fromDone, toDone bool // the half is certain, and in stable
}

func newDir() *node { return &node{dir: true, names: map[string]*node{}, stable: map[string]*node{}} }

// Ops is how many changes were made so far: the making, writing, syncing,
// renaming and removing of files and directories.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// CutAt cuts the power after the n-th change from now: all calls from then on
// fail with ErrCut and change nothing. With 0 the power is cut at once.
func (f *FS) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = f.ops + n + 1
}

// Calls is each change made so far, in words.
func (f *FS) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// alive is called with mu held by what reads.
func (f *FS) alive() error {
	if f.cutAt == 0 || f.ops < f.cutAt-1 {
		return nil
	}
	select {
	case <-f.out:
	default:
		close(f.out)
	}
	return ErrCut
}

// Kill ends the program that uses the file system and leaves the power on: another
// one sees all that it did, and what was not certain still is not. It is called
// when the power was cut for the first program, so that it can do nothing more.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt, f.out = 0, make(chan struct{})
	clear(f.locks)
}

// Out is closed once a call has found the power cut.
func (f *FS) Out() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out
}

// step is called with mu held by what changes something.
func (f *FS) step(call string) error {
	if err := f.alive(); err != nil {
		return err
	}
	f.ops++
	f.calls = append(f.calls, call)
	return nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// find walks to a name. It is called with mu held.
func (f *FS) find(name string) (*node, error) {
	n := f.root
	for _, elem := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[elem]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parent walks to the directory that name is in.
func (f *FS) parent(name string) (dir *node, base string, err error) {
	elems := split(name)
	if len(elems) == 0 {
		return nil, "", syscall.EINVAL
	}
	dir, err = f.find(filepath.Dir(filepath.Clean(name)))
	if err == nil && !dir.dir {
		err = syscall.ENOTDIR
	}
	return dir, elems[len(elems)-1], err
}

func split(name string) []string {
	var elems []string
	for name = filepath.Clean(name); name != "." && name != "/"; name = filepath.Dir(name) {
		elems = append([]string{filepath.Base(name)}, elems...)
	}
	return elems
}

func (f *FS) link(dir *node, base string, n *node) {
	dir.names[base] = n
	f.pending = append(f.pending, &change{node: n, to: dir, name: base})
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	n := dir.names[base]
	if n != nil && n.dir {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	if err := f.step("create " + name); err != nil {
		return nil, err
	}
	if n == nil {
		n = &node{}
		f.link(dir, base, n)
	} else {
		n.resize(0)
	}
	return &file{fs: f, node: n, name: name, writable: true}, nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

// Reopen implements vfs.FS.
func (f *FS) Reopen(name string) (vfs.File, error) { return f.open(name, true) }

func (f *FS) open(name string, writable bool) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.alive(); err != nil {
		return nil, err
	}
	n, err := f.find(name)
	if err == nil && n.dir && writable {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &file{fs: f, node: n, name: name, writable: writable}, nil
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent(name)
	if err == nil && dir.names[base] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return pathError("mkdir", name, err)
	}
	if err := f.step("mkdir " + name); err != nil {
		return err
	}
	f.link(dir, base, newDir())
	return nil
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rename(from, to)
}

func (f *FS) rename(from, to string) error {
	oldDir, oldName, err := f.parent(from)
	if err != nil {
		return pathError("rename", from, err)
	}
	newDir, newName, err := f.parent(to)
	if err != nil {
		return pathError("rename", to, err)
	}
	n := oldDir.names[oldName]
	if n == nil {
		return pathError("rename", from, syscall.ENOENT)
	}
	if there := newDir.names[newName]; there != nil && there != n {
		switch {
		case there.dir && !n.dir:
			return pathError("rename", to, syscall.EISDIR)
		case !there.dir && n.dir:
			return pathError("rename", to, syscall.ENOTDIR)
		case there.dir && len(there.names) > 0:
			return pathError("rename", to, syscall.ENOTEMPTY)
		}
	}
	if err := f.step("rename " + from + " -> " + to); err != nil {
		return err
	}
	delete(oldDir.names, oldName)
	newDir.names[newName] = n
	f.pending = append(f.pending, &change{node: n, from: oldDir, oldName: oldName, to: newDir, name: newName})
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := dir.names[base]
	switch {
	case n == nil:
		return pathError("remove", name, syscall.ENOENT)
	case n.dir && len(n.names) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	if err := f.step("remove " + name); err != nil {
		return err
	}
	delete(dir.names, base)
	f.pending = append(f.pending, &change{node: n, from: dir, oldName: base})
	return nil
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.alive(); err != nil {
		return nil, err
	}
	n, err := f.find(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	entries := make([]fs.DirEntry, 0, len(n.names))
	for base, child := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(base)))
	}
	return entries, nil
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.alive(); err != nil {
		return nil, err
	}
	n, err := f.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir implements vfs.FS. What is removed for certain by a rename is for
// certain under its new name, for a rename is one act.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err == nil && !d.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	if err := f.step("sync-dir " + name); err != nil {
		return err
	}
	for i, c := range f.pending {
		removes := c.from == d && !c.fromDone
		if c.to != nil && !c.toDone && (c.to == d || removes) {
			f.settleTo(i)
		}
		if removes {
			c.fromDone = true
			if d.stable[c.oldName] == c.node {
				delete(d.stable, c.oldName)
			}
		}
	}
	f.pending = slices.DeleteFunc(f.pending, func(c *change) bool {
		return (c.from == nil || c.fromDone) && (c.to == nil || c.toDone)
	})
	return nil
}

// settleTo makes the new name of the i-th pending change certain, and with it
// that no earlier change of that name matters any more.
func (f *FS) settleTo(i int) {
	c := f.pending[i]
	c.to.stable[c.name] = c.node
	for _, earlier := range f.pending[:i+1] {
		if earlier.to == c.to && earlier.name == c.name {
			earlier.toDone = true
		}
		if earlier.from == c.to && earlier.oldName == c.name {
			earlier.fromDone = true // or it would take away what is certain now
		}
	}
}

// Spread implements vfs.FS.
func (f *FS) Spread(string) {}

// Space implements vfs.FS: there is always room.
func (f *FS) Space(string) (vfs.Space, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return vfs.Space{Bytes: 1 << 40}, f.alive()
}

// Lock implements vfs.FS. Locks do not outlive a cut.
func (f *FS) Lock(name string, exclusive bool) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.alive(); err != nil {
		return nil, err
	}
	if f.locks[name] {
		return nil, vfs.ErrLocked
	}
	if _, err := f.find(name); err != nil {
		dir, base, perr := f.parent(name)
		if !exclusive || perr != nil {
			return nil, pathError("open", name, err)
		}
		if err := f.step("create " + name); err != nil {
			return nil, err
		}
		f.link(dir, base, &node{})
	}
	f.locks[name] = true
	return unlock(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locks, name)
	}), nil
}

type unlock func()

func (u unlock) Close() error { u(); return nil }

// info describes a node under one of its names.
type info struct {
	name string
	size int64
	dir  bool
}

func (n *node) info(name string) info { return info{name: name, size: int64(len(n.data)), dir: n.dir} }

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Unix(0, 0).UTC() }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
