package sched

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// threads starts n threads, and lets them end when the test does.
func threads(t *testing.T, n int, first func()) {
	t.Helper()
	var begun, ended sync.WaitGroup
	end := make(chan struct{})
	t.Cleanup(ended.Wait)
	t.Cleanup(func() { close(end) })
	for range n {
		begun.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // and never lets go of it: it ends with the goroutine
			first()
			begun.Done()
			<-end
		})
	}
	begun.Wait()
}

func policies(t *testing.T) map[uint32]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[uint32]int)
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		count[attr.Policy]++
	}
	return count
}

// TestEveryThreadIsBatchAndNewOnesToo changes the process that it runs in, which
// no other test here minds.
func TestEveryThreadIsBatchAndNewOnesToo(t *testing.T) {
	if now, err := unix.SchedGetAttr(0, 0); err != nil || now.Policy != unix.SCHED_NORMAL && now.Policy != unix.SCHED_BATCH {
		t.Skipf("this process does not have the usual policy: %+v, %v", now, err)
	}
	threads(t, 20, func() {})
	// One that was told otherwise, and one that is nice.
	threads(t, 1, func() {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
			t.Error(err)
		}
	})
	var nice int
	threads(t, 1, func() {
		nice = unix.Gettid()
		if err := unix.Setpriority(unix.PRIO_PROCESS, nice, 7); err != nil {
			t.Error(err)
		}
	})
	err := Batch()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("it may not ask for that here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	threads(t, 20, func() {})
	got := policies(t)
	if got[unix.SCHED_NORMAL] != 0 || got[unix.SCHED_BATCH] < 41 || got[unix.SCHED_IDLE] != 1 {
		t.Errorf("threads by policy: %v, want none of the usual one (0), at least 41 of batch (3), one of idle (5)", got)
	}
	attr, err := unix.SchedGetAttr(nice, 0)
	if err != nil {
		t.Fatal(err)
	}
	if attr.Policy != unix.SCHED_BATCH || attr.Nice != 7 {
		t.Errorf("the nice thread has policy %d and niceness %d, want 3 and 7", attr.Policy, attr.Nice)
	}
}
