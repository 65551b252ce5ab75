package vfs

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Space implements FS.
func (OS) Space(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retryEINTR(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	block := st.Frsize
	if block <= 0 {
		block = st.Bsize
	}
	return Space{
		Bytes:  st.Bavail * uint64(block),
		Inodes: st.Ffree,
		// btrfs and its like report none at all: they make inodes as they go.
		HasInodes: st.Files > 0,
	}, nil
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	fd, err := openFD(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	err = retryEINTR(func() error { return unix.Fsync(fd) })
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	return nil
}

func datasync(f *os.File) error {
	return retryEINTR(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func startSync(f *os.File) {
	// The error is of no use: it is a hint, and Sync reports what went wrong.
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

func preallocate(f *os.File, size int64) error {
	err := retryEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if err == unix.EOPNOTSUPP {
		return extend(f, size)
	}
	return err
}
