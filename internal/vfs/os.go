package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

// Reopen implements FS.
func (OS) Reopen(name string) (File, error) { return open(name, os.O_RDWR) }

func open(name string, flag int) (File, error) {
	fd, err := openFD(name, flag)
	if err != nil {
		return nil, err
	}
	return osFile{os.NewFile(uintptr(fd), name)}, nil
}

// openFD is the bare system call: os.OpenFile tries to have every file waited on
// like a socket, which costs five calls more for each and is refused for files.
func openFD(name string, flag int) (fd int, err error) {
	err = retryEINTR(func() (err error) {
		fd, err = syscall.Open(name, flag|syscall.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// Mkdir implements FS.
func (OS) Mkdir(name string) error { return os.Mkdir(name, 0o700) }

// Rename implements FS. It is the bare system call: os.Rename asks first
// whether the target is a directory, a call more for each message.
func (OS) Rename(from, to string) error {
	if err := retryEINTR(func() error { return syscall.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	return entries, errors.Join(err, d.Close())
}

// Stat implements FS.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

// Lock implements FS by flock, which the system lets go of however the process
// ends.
func (OS) Lock(name string, exclusive bool) (io.Closer, error) {
	flag, how := os.O_RDONLY, syscall.LOCK_SH
	if exclusive {
		flag, how = os.O_RDWR|os.O_CREATE, syscall.LOCK_EX
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f, how|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		err = lockedBy(f)
	} else if err != nil {
		err = &fs.PathError{Op: "flock", Path: name, Err: err}
	} else if exclusive {
		err = writePID(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osLock{f: f, exclusive: exclusive}, nil
}

// lockedBy names the holder, if the number in the file is of a process that
// lives: a shared lock, or a process killed, leaves an old number there.
func lockedBy(f *os.File) error {
	var b [32]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return ErrLocked
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil || pid <= 0 || syscall.Kill(pid, 0) == syscall.ESRCH {
		return ErrLocked
	}
	return fmt.Errorf("%w (process %d)", ErrLocked, pid)
}

// writePID is a courtesy to whoever finds the lock taken: on a full disk it is
// left out, for the lock holds without it.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

type osLock struct {
	f         *os.File
	exclusive bool
}

// Close lets go of the lock. The file stays: removing it would let two
// processes hold locks on two files of one name. The lock is given up in so
// many words, not by closing alone: it belongs to the open file, of which a
// process forked a moment ago, by any goroutine, has a copy until it executes
// its program.
func (l *osLock) Close() error {
	var err error
	if l.exclusive {
		err = l.f.Truncate(0)
	}
	return errors.Join(err, flock(l.f, syscall.LOCK_UN), l.f.Close())
}

func flock(f *os.File, how int) error {
	return retryEINTR(func() error { return syscall.Flock(int(f.Fd()), how) })
}

// osFile is an os.File with the calls that differ between systems.
type osFile struct{ *os.File }

func (f osFile) Sync() error {
	if err := datasync(f.File); err != nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) StartSync() { startSync(f.File) }

func (f osFile) Preallocate(size int64) error {
	if err := preallocate(f.File, size); err != nil {
		return &fs.PathError{Op: "preallocate", Path: f.Name(), Err: err}
	}
	return nil
}

func retryEINTR(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
