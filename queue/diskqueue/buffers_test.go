package diskqueue

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/queue"
)

func TestBuffersAreLentUpToTheBudget(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]int{3*chunk - 1: 2, 3 * chunk: 3, 3*chunk + 1: 3} {
		b := buffers{most: most}
		var lent []*[chunk]byte
		for c := b.get(); c != nil && len(lent) < 10; c = b.get() {
			lent = append(lent, c)
		}
		if len(lent) != want {
			t.Errorf("of %d octets %d chunks were lent, want %d", most, len(lent), want)
		}
		for _, c := range lent {
			b.put(c)
		}
		if b.get() == nil {
			t.Errorf("%d octets: what was given back is not lent again", most)
		}
	}
}

// R19: however many messages come in at once, and however big they are, memory
// holds no more of them than the budget. Not parallel: it measures the process.
func TestManyDraftsAtOnceKeepToTheBudget(t *testing.T) {
	const budget, drafts, each = 4 << 20, 200, 500_000
	ctx := context.Background()
	q := mustOpen(t, t.TempDir(), &Options{NoFsync: true, Buffers: budget, MessageSize: -1})
	defer func() { must(t, q.Close()) }()
	piece := []byte(strings.Repeat("0123456789abcde\n", 1000))
	var all []queue.Draft
	before := heapOf()
	for range drafts {
		d, err := q.Begin(ctx, envelope(), queue.Origin{})
		must(t, err)
		all = append(all, d)
	}
	for n := 0; n < each; n += len(piece) { // all of them together
		for _, d := range all {
			_, err := d.Write(piece)
			must(t, err)
		}
		if n == each/2/len(piece)*len(piece) {
			if held := int64(heapOf()) - int64(before); held > budget+drafts*8<<10 {
				t.Errorf("%d octets are held of %d drafts", held, drafts)
			}
		}
	}
	for i, d := range all {
		if i%2 == 0 {
			must(t, d.Discard())
			continue
		}
		m, err := d.Commit(ctx, queue.Final{})
		must(t, err)
		if m.Size < each {
			t.Errorf("%d octets were committed", m.Size)
		}
	}
	runtime.KeepAlive(all)
}
