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

// topDir is ext4's mark on a directory whose own directories have nothing to do
// with each other (chattr +T). Each then gets a block group of its own. Without
// it all messages share one, and ext4, which does not use an inode again within
// minutes of its removal, looks through all those just removed to find one for
// the next: with messages coming and going, commits are two to three times as
// slow (docs/decisions/0011).
const topDir = 0x00020000

// Spread implements FS.
func (OS) Spread(name string) {
	fd, err := openFD(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	// Errors are of no use: most other file systems know no such mark.
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
	_ = unix.Close(fd)
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
