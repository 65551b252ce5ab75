//go:build !linux

package vfs

import (
	"errors"
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
	return Space{
		Bytes:     uint64(st.Bavail) * uint64(st.Bsize),
		Inodes:    uint64(st.Ffree),
		HasInodes: st.Files > 0,
	}, nil
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Spread implements FS.
func (OS) Spread(string) {}

// datasync is os.File.Sync, which on macOS asks the disk to empty its cache
// (F_FULLFSYNC): plain fsync there does not.
func datasync(f *os.File) error { return f.Sync() }

func startSync(*os.File) {}

func preallocate(f *os.File, size int64) error { return extend(f, size) }
