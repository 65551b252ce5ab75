package diskqueue

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/queuetest"
)

// small is options under which a test does not depend on how full its disk is.
func small() *Options {
	return &Options{Depth: queuetest.Depth, MessageSize: -1, NoJournal: true}
}

// journalled is small with a journal of small segments.
func journalled() *Options {
	o := small()
	o.NoJournal, o.segment = false, 256<<10
	return o
}

// Q18.
func TestContract(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queue.Queue {
		return mustOpen(t, filepath.Join(t.TempDir(), "spool"), small())
	})
}

func TestContractWithoutBuffers(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queue.Queue {
		o := small()
		o.NoFsync, o.Buffers = true, 1
		return mustOpen(t, t.TempDir(), o)
	})
}

func TestContractOfTheJournal(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queue.Queue {
		return mustOpen(t, filepath.Join(t.TempDir(), "spool"), journalled())
	})
}

func TestContractOverRestarts(t *testing.T) {
	t.Parallel()
	queuetest.RunDurable(t, func(t *testing.T, dir string) queue.Queue {
		return mustOpen(t, dir, small())
	})
}

func TestContractOfTheJournalOverRestarts(t *testing.T) {
	t.Parallel()
	queuetest.RunDurable(t, func(t *testing.T, dir string) queue.Queue {
		return mustOpen(t, dir, journalled())
	})
}

// TestContractOverChangesOfTheJournal: a spool opens whether the journal was on
// or off before.
func TestContractOverChangesOfTheJournal(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	opened := map[string]int{}
	queuetest.RunDurable(t, func(t *testing.T, dir string) queue.Queue {
		mu.Lock()
		opened[dir]++
		n := opened[dir]
		mu.Unlock()
		o := journalled()
		o.NoJournal = n%2 == 0
		return mustOpen(t, dir, o)
	})
}

func mustOpen(t testing.TB, dir string, o *Options) *Queue {
	t.Helper()
	q, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
