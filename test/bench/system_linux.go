package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// fdatasync makes what was written to f durable.
func fdatasync(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// wokenWithin calls f on a thread that is woken at most so late when it sleeps for some
// time, which is 50 µs as it comes. What f starts is too, and nothing else: a server
// that was started from such a thread later would be another one.
func wokenWithin(late time.Duration, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := timerSlack(late); err != nil {
		return err
	}
	return errors.Join(f(), timerSlack(0))
}

// timerSlack sets that of the calling thread; 0 is what it had when it began.
func timerSlack(d time.Duration) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	return nil
}

// outputOf runs cmd, the threads of which sleep for some time up to late longer than they
// ask for.
func outputOf(cmd *exec.Cmd, late time.Duration) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := wokenWithin(late, cmd.Start); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

// sleepUntil holds the thread until t.
func sleepUntil(t time.Time) error {
	for {
		left := time.Until(t)
		if left <= 0 {
			return nil
		}
		span := unix.NsecToTimespec(left.Nanoseconds())
		if err := unix.Nanosleep(&span, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("nanosleep: %w", err)
		}
	}
}

// forget has the kernel drop what it keeps in memory of the files below dir, so
// that they are read from the disk next.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		// What is not on the disk yet cannot be dropped.
		err = fdatasync(f)
		if err == nil {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		return errors.Join(err, f.Close())
	})
}
