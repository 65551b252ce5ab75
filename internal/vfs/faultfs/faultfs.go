// Package faultfs is a file system that fails on demand: it passes every call
// on to another one, writes each down, and lets rules make the n-th or every
// matching call fail with a given error. It knows nothing of what the calls
// are for.
package faultfs

import (
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// Op names a call: what it does, not which method does it.
type Op string

// The calls. Reading a directory, a file's data and its description are told
// apart, for they fail apart.
const (
	Create      Op = "create"
	Open        Op = "open"
	Reopen      Op = "reopen"
	Mkdir       Op = "mkdir"
	Rename      Op = "rename"
	Remove      Op = "remove"
	ReadDir     Op = "readdir"
	Stat        Op = "stat"
	SyncDir     Op = "sync-dir"
	Space       Op = "space"
	Lock        Op = "lock"
	Read        Op = "read"
	Write       Op = "write"
	Sync        Op = "sync"
	Truncate    Op = "truncate"
	Preallocate Op = "preallocate"
)

// Call is one call that was made.
type Call struct {
	Op   Op
	Path string
	To   string // the new name, of a rename
}

func (c Call) String() string {
	s := string(c.Op) + " " + c.Path
	if c.To != "" {
		s += " -> " + c.To
	}
	return s
}

// Changes reports whether the call may change what is on the disk.
func (c Call) Changes() bool {
	switch c.Op {
	case Open, ReadDir, Stat, Space, Lock, Read:
		return false
	}
	return true
}

// Rule says which calls fail and how. A zero field matches everything.
type Rule struct {
	Op   Op     // the call
	Path string // a part of the path, or of a rename's new name
	// Match, when set, has the last word.
	Match func(Call) bool
	// Nth is which matching call fails, counted from 1; 0 is every one.
	Nth int
	// Err is the error, a syscall.Errno as a rule. It comes back in a
	// *fs.PathError as the system's would, or as it is if it is one.
	Err error
}

func (r *Rule) matches(c Call) bool {
	if r.Op != "" && r.Op != c.Op {
		return false
	}
	if !strings.Contains(c.Path, r.Path) && !strings.Contains(c.To, r.Path) {
		return false
	}
	return r.Match == nil || r.Match(c)
}

// FS is the failing file system. All methods may be called from any goroutine.
type FS struct {
	inner vfs.FS

	mu    sync.Mutex
	rules []*counted
	calls []Call
	space *vfs.Space
	seen  func(Call)
}

type counted struct {
	Rule
	hits int
}

var _ vfs.FS = (*FS)(nil)

// New wraps inner; until a rule is set every call passes.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// Fail adds a rule. The func returned takes it away again and tells how many
// calls it failed; it may be called more than once.
func (f *FS) Fail(r Rule) (remove func() int) {
	c := &counted{Rule: r}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, c)
	return func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, r := range f.rules {
			if r == c {
				f.rules = append(f.rules[:i], f.rules[i+1:]...)
				break
			}
		}
		if c.Nth == 0 {
			return c.hits
		}
		return min(c.hits/c.Nth, 1)
	}
}

// SetSpace makes Space report s; nil is the truth again.
func (f *FS) SetSpace(s *vfs.Space) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space = s
}

// OnCall sets a func that is told of each call before it is made; nil is none.
// It may block, which holds up that call alone.
func (f *FS) OnCall(seen func(Call)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = seen
}

// Calls is the calls made since the last Reset, failed ones included.
func (f *FS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Reset forgets the calls made.
func (f *FS) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// check writes the call down and finds the error it is to fail with.
func (f *FS) check(op Op, path, to string) error {
	c := Call{Op: op, Path: path, To: to}
	f.mu.Lock()
	f.calls = append(f.calls, c)
	var err error
	for _, r := range f.rules {
		if !r.matches(c) {
			continue
		}
		r.hits++
		if err == nil && (r.Nth == 0 || r.Nth == r.hits) {
			err = r.Err
			if _, whole := err.(*fs.PathError); !whole {
				err = &fs.PathError{Op: string(op), Path: path, Err: r.Err}
			}
		}
	}
	seen := f.seen
	f.mu.Unlock()
	if seen != nil {
		seen(c)
	}
	return err
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	return f.file(Create, name, f.inner.Create)
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.file(Open, name, f.inner.Open) }

// Reopen implements vfs.FS.
func (f *FS) Reopen(name string) (vfs.File, error) {
	return f.file(Reopen, name, f.inner.Reopen)
}

func (f *FS) file(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if err := f.check(op, name, ""); err != nil {
		return nil, err
	}
	in, err := open(name)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, name: name, inner: in}, nil
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(name string) error {
	if err := f.check(Mkdir, name, ""); err != nil {
		return err
	}
	return f.inner.Mkdir(name)
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	if err := f.check(Rename, from, to); err != nil {
		return err
	}
	return f.inner.Rename(from, to)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.check(Remove, name, ""); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.check(ReadDir, name, ""); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(name)
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(Stat, name, ""); err != nil {
		return nil, err
	}
	return f.inner.Stat(name)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	if err := f.check(SyncDir, name, ""); err != nil {
		return err
	}
	return f.inner.SyncDir(name)
}

// Spread implements vfs.FS.
func (f *FS) Spread(name string) { f.inner.Spread(name) }

// Space implements vfs.FS.
func (f *FS) Space(name string) (vfs.Space, error) {
	if err := f.check(Space, name, ""); err != nil {
		return vfs.Space{}, err
	}
	f.mu.Lock()
	s := f.space
	f.mu.Unlock()
	if s != nil {
		return *s, nil
	}
	return f.inner.Space(name)
}

// Lock implements vfs.FS.
func (f *FS) Lock(name string, exclusive bool) (io.Closer, error) {
	if err := f.check(Lock, name, ""); err != nil {
		return nil, err
	}
	return f.inner.Lock(name, exclusive)
}

// file is an open file whose calls are checked. Closing never fails here: the
// spool trusts nothing to it.
type file struct {
	fs    *FS
	name  string
	inner vfs.File
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.fs.check(Read, f.name, ""); err != nil {
		return 0, err
	}
	return f.inner.Read(p)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(Read, f.name, ""); err != nil {
		return 0, err
	}
	return f.inner.ReadAt(p, off)
}

// Write fails as a disk that fills up does: half of it is written.
func (f *file) Write(p []byte) (int, error) {
	if err := f.fs.check(Write, f.name, ""); err != nil {
		n, werr := f.inner.Write(p[:len(p)/2])
		if werr != nil {
			return n, werr
		}
		return n, err
	}
	return f.inner.Write(p)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(Write, f.name, ""); err != nil {
		n, werr := f.inner.WriteAt(p[:len(p)/2], off)
		if werr != nil {
			return n, werr
		}
		return n, err
	}
	return f.inner.WriteAt(p, off)
}

func (f *file) Sync() error {
	if err := f.fs.check(Sync, f.name, ""); err != nil {
		return err
	}
	return f.inner.Sync()
}

func (f *file) StartSync() { f.inner.StartSync() }

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.fs.check(Stat, f.name, ""); err != nil {
		return nil, err
	}
	return f.inner.Stat()
}

func (f *file) Truncate(size int64) error {
	if err := f.fs.check(Truncate, f.name, ""); err != nil {
		return err
	}
	return f.inner.Truncate(size)
}

func (f *file) Preallocate(size int64) error {
	if err := f.fs.check(Preallocate, f.name, ""); err != nil {
		return err
	}
	return f.inner.Preallocate(size)
}

func (f *file) Close() error { return f.inner.Close() }
