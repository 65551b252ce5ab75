package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
)

// file is an open file.
type file struct {
	fs       *FS
	node     *node
	name     string
	pos      int64
	writable bool
	closed   bool
}

var errClosed = errors.New("crashfs: file is closed")

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	if f.node.dir {
		return 0, pathError("read", f.name, syscall.EISDIR)
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) usable() error {
	if f.closed {
		return pathError("use", f.name, errClosed)
	}
	return f.fs.alive()
}

// change begins a change of the file; mu is held.
func (f *file) change(call string) error {
	if f.closed {
		return pathError(call, f.name, errClosed)
	}
	if !f.writable {
		return pathError(call, f.name, syscall.EBADF)
	}
	return f.fs.step(call + " " + f.name)
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.change("write"); err != nil {
		return 0, err
	}
	if len(p) > 0 {
		text := append([]byte(nil), p...)
		f.node.data = overwrite(f.node.data, off, text)
		f.node.writes = append(f.node.writes, write{at: off, text: text})
	}
	return len(p), nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.change("sync"); err != nil {
		return err
	}
	f.node.synced, f.node.writes = append([]byte(nil), f.node.data...), nil
	return nil
}

func (f *file) StartSync() {}

func (f *file) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return nil, err
	}
	return f.node.info(filepath.Base(f.name)), nil
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.change("truncate"); err != nil {
		return err
	}
	f.node.resize(size)
	return nil
}

func (f *file) Preallocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.change("preallocate"); err != nil {
		return err
	}
	if size > int64(len(f.node.data)) {
		f.node.resize(size)
	}
	return nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, errClosed)
	}
	f.closed = true
	return nil
}

// resize changes the length; what is new is zero.
func (n *node) resize(size int64) {
	n.data = resized(n.data, size)
	n.writes = append(n.writes, write{at: size})
}

func resized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	return append(data[:len(data):len(data)], make([]byte, size-int64(len(data)))...)
}

func overwrite(data []byte, at int64, text []byte) []byte {
	if end := at + int64(len(text)); end > int64(len(data)) {
		data = resized(data, end)
	} else {
		data = append([]byte(nil), data...)
	}
	copy(data[at:], text)
	return data
}
