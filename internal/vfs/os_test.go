package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/incoming-mx/incoming/internal/vfs"
)

func TestAFileKeepsWhatWasWrittenAndIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	f, err := vfs.OS{}.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), vfs.OS{}.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a second Close says %v", err)
	}
	st, err := vfs.OS{}.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if perm := st.Mode().Perm(); perm != 0o600 {
		t.Errorf("mode is %v", perm)
	}
	r, err := vfs.OS{}.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "text" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := r.Write([]byte("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("writing to a file opened for reading says %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorsNameThePathAndHoldTheSystemsNumber(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(f vfs.File, err error) error {
		if err == nil {
			err = f.Close()
		}
		return err
	}
	for what, c := range map[string]struct {
		err  error
		want syscall.Errno
		path string
	}{
		"open a missing file":              {open(vfs.OS{}.Open(gone)), syscall.ENOENT, gone},
		"reopen a missing file":            {open(vfs.OS{}.Reopen(gone)), syscall.ENOENT, gone},
		"make a file where a directory is": {open(vfs.OS{}.Create(dir)), syscall.EISDIR, dir},
		"sync a missing directory":         {vfs.OS{}.SyncDir(gone), syscall.ENOENT, gone},
	} {
		var p *fs.PathError
		if !errors.Is(c.err, c.want) || !errors.As(c.err, &p) || p.Path != c.path {
			t.Errorf("%s: got %v, want %v of %s", what, c.err, c.want, c.path)
		}
	}
}

// TestSpreadIsAHint: whatever it is asked of, nothing comes of it but speed.
func TestSpreadIsAHint(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, file, filepath.Join(dir, "missing")} {
		vfs.OS{}.Spread(name)
		vfs.OS{}.Spread(name) // as it is at the next open
	}
	if err := (vfs.OS{}).Mkdir(filepath.Join(dir, "below")); err != nil {
		t.Error(err)
	}
}
