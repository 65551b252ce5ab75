package sched

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// batch goes over the threads until all of them are done: the policy is a
// thread's own, and a new one has that of the thread that made it, which may be
// one not done yet.
func batch() error {
	for {
		changed, err := batchThreads()
		if err != nil || !changed {
			return err
		}
	}
}

func batchThreads() (changed bool, err error) {
	const dir = "/proc/self/task"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return false, fmt.Errorf("%s: %w", dir, err)
		}
		switch did, err := batchThread(id); {
		case errors.Is(err, unix.ESRCH): // it has ended
		case err != nil:
			return false, fmt.Errorf("SCHED_BATCH: %w", err)
		default:
			changed = changed || did
		}
	}
	return changed, nil
}

func batchThread(id int) (did bool, err error) {
	now, err := unix.SchedGetAttr(id, 0)
	if err != nil || now.Policy != unix.SCHED_NORMAL {
		return false, err
	}
	// The rest of what it has now is as the kernel would choose it, and a time
	// slice that is named is one that stays.
	return true, unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Flags: now.Flags, Nice: now.Nice}, 0)
}
