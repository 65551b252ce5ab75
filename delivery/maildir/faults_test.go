package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faulty writes down each call, and fails the one numbered failAt.
type faulty struct {
	files
	root   string
	failAt int
	err    error
	calls  []string
	onSync func() // called by Sync of a file
}

func (f *faulty) call(format string, args ...any) error {
	f.calls = append(f.calls, strings.ReplaceAll(fmt.Sprintf(format, args...), f.root, ""))
	if len(f.calls) == f.failAt {
		return &fs.PathError{Op: "injected", Path: f.root, Err: f.err}
	}
	return nil
}

func (f *faulty) create(name string) (file, error) {
	short := regexp.MustCompile(`\.[A-Z2-7]{13}$`).ReplaceAllString(name, ".RANDOM")
	if err := f.call("create %s", short); err != nil {
		return nil, err
	}
	inner, err := f.files.create(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{inner, f}, nil
}

func (f *faulty) rename(from, to string) error {
	return firstOf(f.call("rename to %s", to), func() error { return f.files.rename(from, to) })
}
func (f *faulty) remove(name string) error { return f.files.remove(name) }
func (f *faulty) mkdir(name string) error {
	return firstOf(f.call("mkdir %s", name), func() error { return f.files.mkdir(name) })
}
func (f *faulty) syncDir(name string) error {
	return firstOf(f.call("sync directory %s", name), func() error { return f.files.syncDir(name) })
}

type faultyFile struct {
	file
	f *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.f.call("write"); err != nil {
		return 0, err
	}
	return f.file.Write(p)
}
func (f *faultyFile) Sync() error {
	if f.f.onSync != nil {
		f.f.onSync()
	}
	return firstOf(f.f.call("sync"), f.file.Sync)
}
func (f *faultyFile) Close() error {
	err := f.f.call("close")
	return errors.Join(err, f.file.Close())
}
func (f *faultyFile) setTime(t time.Time) error {
	return firstOf(f.f.call("set time"), func() error { return f.file.setTime(t) })
}

func firstOf(err error, f func() error) error {
	if err != nil {
		return err
	}
	return f()
}

func TestTheOrderOfCalls(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f := &faulty{files: osFiles{0o700, 0o600}, root: root}
	a := newAdapter(t, root+"/mail/{rcpt}")
	a.files = f
	deliver(t, a, message(entry("A", "a@example.net", "b@c"), text))
	want := []string{
		"create /mail/b@c/tmp/A.RANDOM",
		"mkdir /mail/b@c", "mkdir /mail", "sync directory ", "mkdir /mail/b@c", "sync directory /mail",
		"mkdir /mail/b@c/cur", "mkdir /mail/b@c/new", "sync directory /mail/b@c", "mkdir /mail/b@c/tmp",
		"create /mail/b@c/tmp/A.RANDOM", "write", "write", "set time", "sync", "close",
		"rename to /mail/b@c/new/A", "sync directory /mail/b@c/new",
	}
	if !slices.Equal(f.calls, want) {
		t.Errorf("the calls were\n%s\nwant\n%s", strings.Join(f.calls, "\n"), strings.Join(want, "\n"))
	}
	f.calls = nil
	deliver(t, a, message(entry("B", "a@example.net", "b@c"), text))
	if len(f.calls) != 8 {
		t.Errorf("a second message took the calls\n%s", strings.Join(f.calls, "\n"))
	}
}

// D23: a full disk, and any other fault, at any call.
func TestAnyFailedCallIsARetryAndTheNextAttemptDelivers(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES, syscall.EROFS, syscall.EIO} {
		for at := 1; ; at++ {
			root := filepath.Join(t.TempDir(), "base")
			f := &faulty{files: osFiles{0o700, 0o600}, root: root, failAt: at, err: fault}
			a := newAdapter(t, root+"/{rcpt}")
			a.files = f
			e := entry("A", "a@example.net", "b@c")
			err := a.deliverEach(context.Background(), message(e, text))["b@c"]
			if len(f.calls) < at {
				if at < 15 {
					t.Fatalf("only %d calls were failed", at-1)
				}
				break
			}
			if !errors.Is(err, fault) || isRejected(err) || !strings.Contains(err.Error(), "maildir: "+root) {
				t.Fatalf("call %d (%s) failed: Deliver returned %v", at, f.calls[at-1], err)
			}
			box := root + "/b@c"
			if names, err := os.ReadDir(box + "/tmp"); err == nil && len(names) > 0 {
				t.Errorf("call %d (%s) failed: tmp holds %v", at, f.calls[at-1], names)
			}
			if names, err := os.ReadDir(box + "/new"); err == nil && len(names) > 0 && at < len(f.calls) {
				t.Errorf("call %d (%s) failed: new holds %v", at, f.calls[at-1], names)
			}
			e.Attempts = 1
			deliver(t, a, message(e, text))
			if names := list(t, box+"/new"); !slices.Equal(names, []string{"A"}) {
				t.Errorf("after call %d failed once, new holds %q", at, names)
			}
		}
	}
}

// An attempt that hung in a sync may have been abandoned and overtaken.
func TestADeadlinePassedInASyncKeepsTheFileOutOfNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	a := newAdapter(t, dir)
	a.files = &faulty{files: osFiles{0o700, 0o600}, onSync: cancel}
	if err := a.Deliver(ctx, message(entry("A", "", "b@c"), text)); !errors.Is(err, context.Canceled) {
		t.Errorf("Deliver returned %v, want the end of its context", err)
	}
	if left := append(list(t, dir+"/new"), list(t, dir+"/tmp")...); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
