// Package vfs is the file calls that the spool makes, as an interface: one
// method a system call, so that a test can fail any one of them (faultfs),
// write down their order, or model what a power cut leaves behind. [OS] is the
// real thing.
//
// What a spool may rely on, and a model must keep to:
//
//   - What File.Sync covered before it returned nil survives a power cut. What
//     was written later, or never synced, may be lost, torn or kept.
//   - A name made, renamed or removed is certain to be so only after SyncDir of
//     its directory: of the new one for the new name, of the old one for the
//     old name being gone. Until then it may be lost or kept, in any mix, save
//     that a rename is one act: the entry is then under its old name, its new
//     name or both, never under neither. Both means two entries of their own,
//     each with all that was there.
//   - A Sync or SyncDir that failed says nothing of what is on the disk, and
//     calling it again proves nothing.
//
// Errors are *fs.PathError or *os.LinkError around a syscall.Errno.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is what Lock returns, wrapped, when another holds the lock.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. All methods may be called from any goroutine.
type FS interface {
	// Create makes a file for reading and writing, readable by its owner
	// alone, or empties the one that is there.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Reopen opens a file that exists for reading and writing, as it is.
	Reopen(name string) (File, error)
	// Mkdir makes a directory that its owner alone may enter. It fails with
	// fs.ErrExist when the name is taken, so that it claims a name.
	Mkdir(name string) error
	// Rename moves a file or directory in one act. A file replaces a file; a
	// directory replaces only an empty directory.
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// ReadDir lists a directory, in no order that means anything.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a name; a symbolic link is not followed.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Spread asks that the directories made in a directory be laid out all
	// over the disk, and not near each other. It is a hint: it promises
	// nothing and cannot fail.
	Spread(name string)
	// Space tells what is free where name lies.
	Space(name string) (Space, error)
	// Lock takes the lock that a file stands for, without waiting, and keeps
	// it until the Closer is closed or the process ends. An exclusive lock
	// makes the file when it is missing and writes the process ID into it; a
	// shared one changes nothing, and needs the file to be there. The error
	// wraps ErrLocked when another holds the lock.
	Lock(name string, exclusive bool) (io.Closer, error)
}

// File is an open file. It is for one goroutine, save ReadAt and WriteAt.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer

	// Sync makes durable what was written, and what is needed to read it
	// back: the length, not the times (fdatasync).
	Sync() error
	// StartSync asks that what was written be on its way to the disk, so that
	// a Sync soon after finds less to do. It is a hint: it promises nothing
	// and cannot fail.
	StartSync()
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
	// Truncate sets the length.
	Truncate(size int64) error
	// Preallocate reserves room for size octets from the start and makes the
	// file at least that long, so that writing there cannot run out of space.
	Preallocate(size int64) error
}

// Space is what is free on a file system.
type Space struct {
	Bytes uint64 // that this process may still use
	// Inodes is how many files can still be made; meaningless unless
	// HasInodes, for some file systems make them as they go.
	Inodes    uint64
	HasInodes bool
}
