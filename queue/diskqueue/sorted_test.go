package diskqueue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/incoming-mx/incoming/queue"
)

// TestSortedIsWhatASortedSliceIs adds and removes at either end and in the
// middle, in long spells of each, and compares with the plain way.
func TestSortedIsWhatASortedSliceIs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	s := sorted{compare: byAge}
	var want []*entry
	add := func(received int64) {
		e := &entry{id: queue.ID(fmt.Sprintf("%08x", r.Uint32())), received: received}
		at, is := slices.BinarySearchFunc(want, e, byAge)
		if is {
			return
		}
		want = slices.Insert(want, at, e)
		s.add(e)
	}
	remove := func(i int) {
		s.remove(want[i])
		want = slices.Delete(want, i, i+1)
	}
	for spell := range 60 {
		way := r.IntN(6)
		for step := range 400 {
			switch last := len(want) - 1; {
			case way == 0 || last < 0:
				add(int64(spell*400 + step))
			case way == 1:
				add(-int64(spell*400 + step))
			case way == 2:
				add(int64(r.IntN(24000)))
			case way == 3:
				remove(0)
			case way == 4:
				remove(last)
			default:
				remove(r.IntN(last + 1))
			}
		}
		if got := slices.Collect(s.all()); !slices.Equal(got, want) || s.n != len(want) {
			t.Fatalf("spell %d, way %d: %d entries, not the %d wanted in their order", spell, way, s.n, len(want))
		}
		if s.first() != append(want, nil)[0] {
			t.Errorf("spell %d: another one is first", spell)
		}
		for _, e := range want {
			if s.get(&entry{id: e.id, received: e.received}) != e {
				t.Fatalf("spell %d: %s is not found", spell, e.id)
			}
		}
	}
	stranger, n := &entry{id: "x"}, s.n
	s.remove(stranger)
	if s.get(stranger) != nil || s.n != n {
		t.Error("what was never added was found, or removed")
	}
}

// TestFewEntriesHoldLittleMemory: what is left of a great many does not hold the
// memory of all.
func TestFewEntriesHoldLittleMemory(t *testing.T) {
	t.Parallel()
	const n = 100_000
	s := sorted{compare: byAge}
	var all []*entry
	for i := range n {
		e := &entry{id: "x", received: int64(i)}
		all = append(all, e)
		s.add(e)
	}
	if full := (n + mostRun - 1) / mostRun; len(s.runs) != full {
		t.Errorf("%d runs of %d entries that came in order, %d are enough", len(s.runs), n, full)
	}
	for i, e := range all {
		if i%200 != 0 {
			s.remove(e)
		}
	}
	if room := cap(s.runs[0]) * len(s.runs); room > 20*s.n {
		t.Errorf("%d runs for %d entries", len(s.runs), s.n)
	}
}
