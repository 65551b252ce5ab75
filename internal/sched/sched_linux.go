package sched

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// batch goes over the threads until nothing was left to do twice in a row: the
// policy is a thread's own, a new one has that which the thread that made it had
// when it began to, and is listed a moment later.
func batch() error {
	clean := false // the last look found nothing to do
	for {
		changed, err := batchThreads()
		if err != nil || clean && !changed {
			return err
		}
		if clean = !changed; clean {
			time.Sleep(time.Millisecond)
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
	// The time slice is left out: one that is named stays, even if it is the
	// kernel's own choice of now.
	return true, unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Flags: now.Flags, Nice: now.Nice}, 0)
}
