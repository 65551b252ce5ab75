package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// wakeExactly lets the calling thread sleep to the microsecond; the kernel adds
// 50 of them otherwise.
func wakeExactly() error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	return nil
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
