package diskqueue

import (
	"math"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs"
	"github.com/incoming-mx/incoming/telemetry"
)

// Options is how a spool is kept. Zero is the default in parentheses, negative
// is none.
type Options struct {
	// Depth (100 000) is how many messages may be held: ready, waiting,
	// leased and being received together. Dead letters do not count. Past it
	// Begin returns queue.ErrFull.
	Depth int

	// NoFsync leaves out every sync: a crash of the process still loses
	// nothing, a crash of the machine may lose or damage what was accepted.
	NoFsync bool

	// DeadAge (7 days) is how long a dead letter that the application
	// rejected is kept. Then it is removed for good.
	DeadAge time.Duration
	// DeadSpentAge (none) is the same for dead letters of every other kind.
	DeadSpentAge time.Duration
	// DeadSweep (60 s) is how often dead letters are looked through; none
	// keeps them all.
	DeadSweep time.Duration
	// DeadSweepMost (1000) is how many are removed at one go.
	DeadSweepMost int

	// Buffers (32 MiB) is how many octets all drafts together may hold in
	// memory. A draft that finds no room goes to a file at once; one over
	// 128 KiB goes to a file in any case.
	Buffers int64

	// MessageSize (50 MiB) is the largest message expected. It is not a limit
	// here: twice as much is kept free on the disk, so that what has begun
	// can be finished. Negative keeps nothing free.
	MessageSize int64

	// Hooks is told of storage that fails (SpoolError) and dead letters that
	// are removed by age (QueueSwept). No other hook is called.
	Hooks telemetry.Hooks

	// NoJournal keeps every message in a directory of its own. Without it a
	// message of up to 128 KiB goes into the journal, which is several times
	// as fast. A spool opens either way, however it was written.
	NoJournal bool

	// fs is the file system to use; nil is the system's.
	fs vfs.FS
	// segment is the size of the journal's files; 0 is segmentSize.
	segment int64
	// restless is how long a segment is left alone in which something ceased to
	// count; 0 is one second, negative: not at all.
	restless time.Duration
}

// withDefaults is o with every default filled in and "none" as a number that
// is never reached.
func (o *Options) withDefaults() Options {
	var r Options
	if o != nil {
		r = *o
	}
	r.Depth = limit(r.Depth, 100_000, math.MaxInt)
	r.DeadAge = limit(r.DeadAge, 7*24*time.Hour, math.MaxInt64)
	r.DeadSpentAge = limit(r.DeadSpentAge, math.MaxInt64, math.MaxInt64)
	r.DeadSweep = limit(r.DeadSweep, time.Minute, math.MaxInt64)
	r.DeadSweepMost = limit(r.DeadSweepMost, 1000, math.MaxInt)
	r.Buffers = limit(r.Buffers, 32<<20, math.MaxInt64)
	r.MessageSize = limit(r.MessageSize, 50<<20, 0)
	r.segment = limit(r.segment, segmentSize, segmentSize)
	r.restless = limit(r.restless, time.Second, 0)
	if r.fs == nil {
		r.fs = vfs.OS{}
	}
	return r
}

func limit[N ~int | ~int64](v, def, none N) N {
	switch {
	case v == 0:
		return def
	case v < 0:
		return none
	}
	return v
}
