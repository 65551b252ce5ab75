package queue_test

import (
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// Q11: a clock that stands still, or is put back, makes no ID again.
func TestNoIDComesTwice(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	seen := make(map[queue.ID]bool)
	for range 200_000 {
		for _, at := range []time.Time{now, now.Add(-time.Hour)} {
			id := queue.NewID(at)
			if seen[id] {
				t.Fatalf("%s came twice", id)
			}
			seen[id] = true
		}
	}
}

func TestIDsSortByTimeOfMaking(t *testing.T) {
	t.Parallel()
	var last queue.ID
	for at := time.Unix(0, 0); at.Year() < 2200; at = at.AddDate(1, 0, 0).Add(time.Millisecond) {
		id := queue.NewID(at)
		if id <= last || len(id) != 26 {
			t.Errorf("at %v: %q after %q", at, id, last)
		}
		last = id
	}
}
