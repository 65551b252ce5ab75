package diskqueue

import (
	"fmt"
	"strings"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// dumpJournal lists what the journal's files hold, for a failing test to show.
func dumpJournal(fsys vfs.FS, root string) string {
	var b strings.Builder
	d := newDirectory(fsys, root, true)
	j := newJournal(d, 12<<10, true)
	l := &loaded{holes: map[*segment]error{}}
	lives, err := j.list(l)
	fmt.Fprintf(&b, "%d free, %d broken, %v\n", len(j.free), len(l.broken), err)
	for _, s := range lives {
		_, sealed, err := s.readFooter()
		fmt.Fprintf(&b, "%s life %d, sealed %v %v\n", s.path, s.seq, sealed, err)
		text := make([]byte, s.size)
		if err := s.readAt(text, 0); err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		found := scanFrames(text, s.salt)
		for _, f := range found.whole {
			fmt.Fprintf(&b, "  %d+%d kind %d %s durable %d %.200q\n", f.off, f.n, f.kind, f.id, f.durable, f.meta)
		}
		for _, f := range found.bad {
			fmt.Fprintf(&b, "  %d+%d BAD kind %d %s durable %v\n", f.off, f.n, f.kind, f.id, f.durable)
		}
	}
	return b.String()
}
