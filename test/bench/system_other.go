//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

// The figures need /proc and Linux's own calls: elsewhere this program builds,
// so that its tests run, and measures nothing.

func fdatasync(f *os.File) error { return f.Sync() }

func wokenWithin(_ time.Duration, f func() error) error { return f() }

func outputOf(cmd *exec.Cmd, _ time.Duration) ([]byte, error) { return cmd.Output() }

func sleepUntil(t time.Time) error {
	time.Sleep(time.Until(t))
	return nil
}

func forget(string) error { return errors.New("only Linux can be told to forget what it has read") }
