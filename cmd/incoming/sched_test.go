package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestTheDaemonIsBatchWork: field 41 of a thread's stat (proc(5)) is its policy,
// and SCHED_BATCH is 3.
func TestTheDaemonIsBatchWork(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux is asked for it")
	}
	d := newPlace(t).start(t)
	if strings.Contains(d.err.String(), "threads are scheduled as they come") {
		t.Skipf("it may not ask for that here: %s", d.err)
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Fatalf("%d threads, want several", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		after := text[bytes.LastIndexByte(text, ')')+1:] // the name, field 2, may hold anything
		if fields := strings.Fields(string(after)); len(fields) < 39 || fields[41-3] != "3" {
			t.Errorf("%s has no policy of 3: %s", file, text)
		}
	}
}
