package diskqueue

import (
	"path/filepath"
	"testing"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/queuetest"
)

// small is options under which a test does not depend on how full its disk is.
func small() *Options { return &Options{Depth: queuetest.Depth, MessageSize: -1} }

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

func TestContractOverRestarts(t *testing.T) {
	t.Parallel()
	queuetest.RunDurable(t, func(t *testing.T, dir string) queue.Queue {
		return mustOpen(t, dir, small())
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
