package diskqueue

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
)

// The goroutine that removes is held up; whoever acknowledges then removes.
func TestTheTrashStaysSmallHoweverFastMessagesGo(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{NoFsync: true})
	trash := q.disk.path(inTrash)
	held, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	q.fs.OnCall(func(c faultfs.Call) {
		if c.Op == faultfs.Remove && strings.HasPrefix(c.Path, trash) && first.CompareAndSwap(false, true) {
			close(held)
			<-release
		}
	})
	t.Cleanup(func() { close(release) }) // before the queue is closed, which waits
	ack := func() {
		q.put(letter, "a@example.org")
		must(t, q.next().Ack(t.Context()))
	}
	ack()
	<-held
	most := 0
	for range 2 * mostJobs {
		ack()
		list, err := os.ReadDir(trash)
		must(t, err)
		most = max(most, len(list))
	}
	if want := mostJobs + 1; most != want { // what waits, and the one held
		t.Errorf("%d messages lay in trash/ at most, want %d", most, want)
	}
}
