package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheDaemonIsBatchWork(t *testing.T) {
	t.Parallel()
	d := newPlace(t).start(t)
	if strings.Contains(d.err.String(), "threads are scheduled as they come") {
		t.Skipf("it may not ask for that here: %s", d.err)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) < 2 {
		t.Fatalf("%d threads, want several", len(threads))
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		if attr.Policy != unix.SCHED_BATCH {
			t.Errorf("thread %d has policy %d, want %d", id, attr.Policy, unix.SCHED_BATCH)
		}
	}
}
