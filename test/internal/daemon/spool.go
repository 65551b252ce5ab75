package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Entries is the names in a directory, none when it is not there.
func Entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names
}

// Empty wants that all was delivered, nothing is in the middle of anything and
// nothing is dead.
func (s *Site) Empty(t *testing.T) {
	t.Helper()
	s.Idle(t, time.Minute)
	if dead := Entries(t, filepath.Join(s.Spool, "dead")); len(dead) > 0 {
		t.Errorf("dead letters: %v", dead)
	}
}

// Idle waits until the daemon owes nothing, and wants nothing left behind on the
// disk then, but for dead letters.
func (s *Site) Idle(t *testing.T, limit time.Duration) {
	t.Helper()
	Within(t, limit, "the queue is empty", func() error {
		for _, state := range []string{"incoming", "committed", "processing", "trash"} {
			if left := Entries(t, filepath.Join(s.Spool, state)); len(left) > 0 {
				return fmt.Errorf("%s has %d entries, the first is %s", state, len(left), left[0])
			}
		}
		out, err := s.Tool(t, "queue", "stats", "--json", "--spool", s.Spool)
		if err != nil {
			return err
		}
		var depth struct{ Ready, Waiting, Leased, Drafts int }
		if err := json.Unmarshal([]byte(out), &depth); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if depth.Ready+depth.Waiting+depth.Leased+depth.Drafts > 0 {
			return fmt.Errorf("it holds %+v", depth)
		}
		return nil
	})
}

// OnlyTornIsDead wants every dead letter to be what a kill tore as it came in: it
// never had a 250, and is kept for whoever wants to look. It returns how many
// there are.
func (s *Site) OnlyTornIsDead(t *testing.T) int {
	t.Helper()
	dir := filepath.Join(s.Spool, "dead")
	names := Entries(t, dir)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name, "dead.json"))
		if err != nil {
			t.Fatal(err)
		}
		var note struct{ Kind, Reason string }
		if err := json.Unmarshal(text, &note); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if note.Kind != "corrupt" || note.Reason != "incomplete" {
			t.Errorf("%s is dead: %s", name, text)
		}
	}
	return len(names)
}
