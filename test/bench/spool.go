package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
)

// spoolCommand is how this program is told to work on a spool by the library, in
// a process of its own.
const spoolCommand = "work-spool"

// queued is the octets of the text of each message in a filled spool.
const queued = 1024

// found is what one process found of a spool.
type found struct {
	Depth    int           // after opening
	Opening  time.Duration // how long it took
	Resident int64         // memory of the process then; by weigh alone
	Heap     uint64        // of it, what Go's heap holds alive; likewise
	Opened   float64       // commits a second just after opening; by measure alone
	Commits  float64       // commits a second later; likewise
	Leases   float64       // a second; likewise
}

// workSpool is such a process: ACTION DIR JOURNAL AMOUNT, where ACTION is
//
//	fill     it up to so many messages, without syncs
//	measure  it: open, commit and lease, each for so many nanoseconds at least, and
//	         leave it no fuller than it was
//	weigh    it: open it, after the kernel has forgotten what it read of it, and
//	         collect what that left
//
// The last two print what they found as JSON.
func workSpool(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 4 {
		return errors.New(spoolCommand + " wants ACTION DIR JOURNAL AMOUNT")
	}
	action, dir := args[0], args[1]
	withJournal, err := strconv.ParseBool(args[2])
	if err != nil {
		return err
	}
	amount, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	o := &diskqueue.Options{Depth: -1, NoFsync: action == "fill", NoJournal: !withJournal}
	switch action {
	case "fill":
		return fill(ctx, dir, o, amount)
	case "measure":
		f, err := measureSpool(ctx, dir, o, time.Duration(amount))
		return errors.Join(err, json.NewEncoder(out).Encode(f))
	case "weigh":
		f, err := weighSpool(dir, o)
		return errors.Join(err, json.NewEncoder(out).Encode(f))
	}
	return fmt.Errorf("no action %q", action)
}

func fill(ctx context.Context, dir string, o *diskqueue.Options, messages int) error {
	q, err := diskqueue.Open(dir, o)
	if err != nil {
		return err
	}
	text := message(queued)
	var begun atomic.Int64
	missing := int64(messages - q.Depth().Ready)
	_, err = together(64, func() (bool, error) {
		if begun.Add(1) > missing {
			return false, nil
		}
		return true, commit(ctx, q, text)
	})
	err = errors.Join(err, q.Close())
	syscall.Sync() // what is measured next is not to wait for it
	return err
}

// measureSpool commits for a quarter of its time and until the garbage collector has come round, and only
// then measures, from the end of one of its cycles to that of another: a heap that
// has just been filled grows for seconds into memory that the process has not
// touched yet, which the system has to fetch for it, and that is over when the
// first cycle is; and what a cycle costs is shared by all the commits that made it
// necessary.
func measureSpool(ctx context.Context, dir string, o *diskqueue.Options, length time.Duration) (f found, err error) {
	q, f, err := openSpool(dir, o)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if f.Opened, err = accept(ctx, q, length/4); err != nil {
		return f, err
	}
	if f.Commits, err = accept(ctx, q, length); err != nil {
		return f, err
	}
	end := time.Now().Add(length)
	var taken atomic.Int64
	there := int64(q.Depth().Ready)
	more := there - int64(f.Depth)
	f.Leases, err = together(16, func() (bool, error) {
		if n := taken.Add(1); n > there || n > more && time.Now().After(end) {
			return false, nil
		}
		l, err := q.Lease(ctx)
		if err != nil {
			return false, err
		}
		return true, l.Ack(ctx)
	})
	return f, err
}

// accept commits messages for so long, and on until the garbage collector has
// ended a cycle after that, and returns how many it were a second.
func accept(ctx context.Context, q queue.Queue, length time.Duration) (float64, error) {
	var over atomic.Bool
	ended := make(chan struct{})
	defer func() { <-ended }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(ended)
		defer over.Store(true)
		if !pause(ctx, length) {
			return
		}
		for before := collections(); collections() == before; {
			if !pause(ctx, time.Millisecond) {
				return
			}
		}
	}()
	text := message(queued)
	return together(20, func() (bool, error) {
		if over.Load() {
			return false, nil
		}
		return true, commit(ctx, q, text)
	})
}

// pause reports whether ctx is still alive after it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// collections is how many cycles of the garbage collector have ended.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// openSpool opens a spool and says what that took.
func openSpool(dir string, o *diskqueue.Options) (*diskqueue.Queue, found, error) {
	began := time.Now()
	q, err := diskqueue.Open(dir, o)
	if err != nil {
		return nil, found{}, err
	}
	return q, found{Opening: time.Since(began), Depth: q.Depth().Ready}, nil
}

// weighSpool has a process of its own: one whose free memory was given back has
// to fetch every page of it again, which here takes 10 µs each and would be
// counted as what commits take.
func weighSpool(dir string, o *diskqueue.Options) (f found, err error) {
	if err := forget(dir); err != nil {
		return f, err
	}
	q, f, err := openSpool(dir, o)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	debug.FreeOSMemory() // collects first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.Heap = m.HeapAlloc
	f.Resident, err = resident(os.Getpid(), "VmRSS")
	return f, err
}

// commit has one message taken.
func commit(ctx context.Context, q queue.Queue, text []byte) error {
	d, err := q.Begin(ctx, queue.Envelope{
		MailFrom: "sender@example.org", RcptTo: []queue.Recipient{{Address: "rcpt@example.org"}},
	}, queue.Origin{Listener: "bench", Peer: "127.0.0.1:25", Hello: "client.example.org"})
	if err != nil {
		return err
	}
	if _, err = d.Write(text); err != nil {
		return errors.Join(err, d.Discard())
	}
	_, err = d.Commit(ctx, queue.Final{})
	return err
}

// together calls f from so many goroutines until it says no, and returns how
// often a second it said yes.
func together(goroutines int, f func() (bool, error)) (float64, error) {
	var done atomic.Int64
	errs := make([]error, goroutines)
	var working sync.WaitGroup
	began := time.Now()
	for i := range goroutines {
		working.Go(func() {
			for {
				var more bool
				if more, errs[i] = f(); !more || errs[i] != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	working.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}
