package diskqueue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/faultfs"
)

// TestTheCostOfAMessageDoesNotGrowWithDepth: the calls that accept, lease, retry
// and remove one are the same beside 10 others and beside 1000. Q13.
func TestTheCostOfAMessageDoesNotGrowWithDepth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		small, large := callsAt(t, 10), callsAt(t, 1000)
		if !slices.Equal(small, large) {
			t.Errorf("beside 10 others:\n%s\nbeside 1000:\n%s", strings.Join(small, "\n"), strings.Join(large, "\n"))
		}
		if len(small) < 20 {
			t.Errorf("only the calls %q", small)
		}
	})
}

func callsAt(t *testing.T, depth int) []string {
	w := newWorld(t, fmt.Sprintf("depth %d", depth), false)
	defer w.q.Close()
	for n := range depth {
		w.put(n)
	}
	w.fs.Reset()
	id, _, err := w.text(letter, -1, false) // the oldest: leased first
	w.must(err)
	l, err := w.lease(time.Minute)
	w.must(err)
	w.must(l.Retry(context.Background(), time.Now(), context.Canceled))
	l, err = w.lease(time.Minute)
	w.must(err)
	w.must(l.Ack(context.Background()))
	if l.Message().ID != id {
		t.Errorf("leased %s, want %s", l.Message().ID, id)
	}
	w.q.Depth()
	w.must(w.q.Check(0))
	synctest.Wait()
	var calls []string
	for _, c := range w.fs.Calls() {
		if c.Op == faultfs.ReadDir {
			t.Errorf("depth %d: %s", depth, c)
		}
		if c.Op != faultfs.Space {
			calls = append(calls, strings.ReplaceAll(c.String(), string(id), "ID"))
		}
	}
	return calls
}

func TestDepthTouchesNoFile(t *testing.T) {
	t.Parallel()
	q := openTest(t, t.TempDir(), Options{NoFsync: true})
	q.put(letter)
	q.fs.Reset()
	for range 10 {
		q.Depth()
	}
	if calls := q.fs.Calls(); len(calls) > 0 {
		t.Errorf("%v", calls)
	}
}
