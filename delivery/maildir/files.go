package maildir

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// files is the file calls a delivery makes, so that a test can fail each.
type files interface {
	create(name string) (file, error) // fails when the name is taken
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error
	list(dir string) ([]string, error)
	syncDir(dir string) error
}

// file is a message being written.
type file interface {
	io.WriteCloser
	Sync() error
	// setTime sets when the file was changed to t, and when it was read to now.
	setTime(t time.Time) error
}

// osFiles is the real files.
type osFiles struct{ dirMode, fileMode fs.FileMode }

var _ files = osFiles{}

func (o osFiles) create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, o.fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }
func (osFiles) remove(name string) error     { return os.Remove(name) }
func (o osFiles) mkdir(name string) error    { return os.Mkdir(name, o.dirMode) }

func (osFiles) list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osFiles) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // a file system whose directories need no sync says so
	}
	return errors.Join(err, d.Close())
}

type osFile struct{ *os.File }

func (f osFile) setTime(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	now := unix.NsecToTimeval(time.Now().UnixNano())
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{now, unix.NsecToTimeval(t.UnixNano())}); err != nil {
		return &fs.PathError{Op: "set time", Path: f.Name(), Err: err}
	}
	return nil
}

// makeMaildir makes dir, its parents, and cur, new and tmp in it. tmp comes
// last, when all else is certain to be on the disk: another delivery that finds
// tmp may rely on the rest.
func makeMaildir(f files, root, dir string) error {
	if err := makeParents(f, root, dir); err != nil {
		return err
	}
	for _, name := range []string{"/cur", "/new"} {
		if err := mkdir(f, dir+name); err != nil {
			return err
		}
	}
	if err := f.syncDir(dir); err != nil {
		return err
	}
	return mkdir(f, dir+"/tmp")
}

// makeParents makes dir and what it lies in. The names from root on down are
// synced even when they are there, for who made them may have died since.
func makeParents(f files, root, dir string) error {
	err := f.mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != parent(dir) {
		if err := makeParents(f, root, parent(dir)); err != nil {
			return err
		}
		err = f.mkdir(dir)
	} else if errors.Is(err, fs.ErrExist) && len(dir) > len(root) {
		if err := makeParents(f, root, parent(dir)); err != nil {
			return err
		}
	}
	if errors.Is(err, fs.ErrExist) {
		if len(dir) < len(root) {
			return nil
		}
		// If dir is no directory, making cur in it says so. Where we may not
		// even look, it was not we who made it.
		err = f.syncDir(parent(dir))
		if errors.Is(err, fs.ErrPermission) {
			err = nil
		}
		return err
	}
	if err != nil {
		return err
	}
	return f.syncDir(parent(dir))
}

func mkdir(f files, name string) error {
	if err := f.mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func parent(dir string) string { return filepath.Dir(dir) }

// attemptSuffix tells the attempts at one message apart.
func attemptSuffix() string { return rand.Text()[:13] }

// access tells whether this process may make files in dir.
func access(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
