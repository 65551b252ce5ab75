package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// directoryShare is by how much the spool of directories is filled less: three
// inodes a message are slow to make and slower to remove.
const directoryShare = 20

// depthTurn is one round with an empty and a filled spool.
type depthTurn struct{ empty, filled found }

// depths fills a spool of each layout, and then measures it and an empty one in
// turns.
func depths(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Depth of the queue",
		text: fmt.Sprintf("Package diskqueue alone, each time in a process of its own: 20 goroutines commit messages of %d octets for %s, "+
			"then 16 lease and acknowledge the oldest for as long. Commits are counted from the end of one cycle of Go's garbage collector to that of another, "+
			"so that each pays its part of one; beside them those of the quarter of a turn after opening, and on to the end of the cycle after it: a heap that has just been filled grows, "+
			"and the system has to fetch each page of memory that is touched for the first time. "+
			"The filled spool is filled without syncs, before its first turn and up again before the others, and measured in turns with a new, empty one; "+
			"%s. Opening is the longest of the rounds' and of one before them, after the kernel has dropped what it had read of the spool's files. Memory is "+
			"what is resident after that one and a collection, less the same of an empty spool, divided by the messages; beside it what of that "+
			"Go's heap holds alive. With directories the spool is filled with a %dth of the messages.", queued, b.length, plural(b.rounds, "round"), directoryShare),
	}
	t := table{header: []string{"", "depth", "just opened: commits/s", "commits/s", "leases/s", "opening", "memory a message", "heap"}}
	var all [2]depthFigures
	for i, l := range []layout{journal, directories} {
		depth := b.depth
		if !l.journal {
			depth = max(1, b.depth/directoryShare)
		}
		turns, weighed, err := b.depthTurns(ctx, l, depth)
		if err != nil {
			return s, fmt.Errorf("%s: %w", l.name, err)
		}
		all[i] = figures(turns, weighed)
		t.rows = append(t.rows, depthRows(l.name, turns, all[i])...)
	}
	s.tables = []table{t}
	on, off := all[0], all[1]
	at := fmt.Sprintf("at depth %d (directories: %d) ", b.depth, max(1, b.depth/directoryShare))
	s.verdicts = []verdict{
		hold(at+"accepting, against depth 0", atLeast(0.9, "%.2f", " times"), on.accepting, off.accepting),
		hold(at+"leasing, against depth 0", atLeast(0.9, "%.2f", " times"), on.leasing, off.leasing),
		hold(at+"opening", atMost(5, "%.2f", " s"), on.opening, off.opening),
		hold(at+"memory a queued message", atMost(250, "%.0f", " octets"), on.memory, off.memory),
	}
	return s, nil
}

// depthTurns leaves nothing behind. weighed is both spools before the rounds, in
// which messages of the filled one are delivered.
func (b *bench) depthTurns(ctx context.Context, l layout, depth int) (turns []depthTurn, weighed depthTurn, err error) {
	dir := filepath.Join(b.dir, "filled")
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	if err := b.fill(ctx, dir, l, depth); err != nil {
		return nil, weighed, err
	}
	if weighed.filled, err = b.work(ctx, "weigh", dir, l, 0); err != nil {
		return nil, weighed, err
	}
	err = b.withEmpty(func(dir string) (err error) {
		weighed.empty, err = b.work(ctx, "weigh", dir, l, 0)
		return err
	})
	if err != nil {
		return nil, weighed, err
	}
	for round := range b.rounds {
		if round > 0 {
			if err := b.fill(ctx, dir, l, depth); err != nil {
				return nil, weighed, err
			}
		}
		t, err := b.depthRound(ctx, l, dir, round)
		if err != nil {
			return nil, weighed, err
		}
		b.progress("round %d, depth: %s: %.0f and %.0f commits/s (%.0f and %.0f just opened), %.0f and %.0f leases/s, opened in %s", round+1, l.name,
			t.empty.Commits, t.filled.Commits, t.empty.Opened, t.filled.Opened, t.empty.Leases, t.filled.Leases, t.filled.Opening)
		turns = append(turns, t)
	}
	return turns, weighed, nil
}

// fill fills a spool, or fills it up again.
func (b *bench) fill(ctx context.Context, dir string, l layout, depth int) error {
	began := time.Now()
	if _, err := b.work(ctx, "fill", dir, l, depth); err != nil {
		return err
	}
	b.progress("depth: %s filled up to %d in %.1f s", l.name, depth, time.Since(began).Seconds())
	return nil
}

// depthRound measures an empty spool and the filled one, each round the other
// one first.
func (b *bench) depthRound(ctx context.Context, l layout, filled string, round int) (t depthTurn, err error) {
	err = b.withEmpty(func(empty string) (err error) {
		for i := range 2 {
			dir, f := empty, &t.empty
			if (i+round)%2 == 1 {
				dir, f = filled, &t.filled
			}
			if *f, err = b.work(ctx, "measure", dir, l, int(b.length)); err != nil {
				return err
			}
		}
		return nil
	})
	return t, err
}

// withEmpty calls f with an empty directory for a new spool, which it removes
// afterwards.
func (b *bench) withEmpty(f func(dir string) error) error {
	dir, err := os.MkdirTemp(b.dir, "empty-")
	if err != nil {
		return err
	}
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// work has a process work on a spool and returns what that found.
func (b *bench) work(ctx context.Context, action, dir string, l layout, amount int) (f found, err error) {
	cmd := exec.CommandContext(ctx, b.self, spoolCommand, action, dir, strconv.FormatBool(l.journal), strconv.Itoa(amount))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("%s %s: %w", action, dir, err)
	}
	if len(out) > 0 {
		err = json.Unmarshal(out, &f)
	}
	return f, err
}

// depthFigures is what is held against: accepting and leasing by round.
type depthFigures struct{ accepting, leasing, opening, memory, heap []float64 }

func figures(turns []depthTurn, weighed depthTurn) depthFigures {
	f := depthFigures{
		accepting: each(turns, func(t depthTurn) float64 { return t.filled.Commits / t.empty.Commits }),
		leasing:   each(turns, func(t depthTurn) float64 { return t.filled.Leases / t.empty.Leases }),
		memory:    []float64{weighed.each(float64(weighed.filled.Resident - weighed.empty.Resident))},
		heap:      []float64{weighed.each(float64(weighed.filled.Heap) - float64(weighed.empty.Heap))},
	}
	longest := weighed.filled.Opening
	for _, t := range turns {
		longest = max(longest, t.filled.Opening)
	}
	f.opening = []float64{longest.Seconds()}
	return f
}

// each divides by the messages that the filled spool has more.
func (t depthTurn) each(octets float64) float64 {
	return octets / float64(t.filled.Depth-t.empty.Depth)
}

func depthRows(name string, turns []depthTurn, f depthFigures) [][]string {
	of := func(g func(depthTurn) float64, format string) string { return spread(each(turns, g), format) }
	return [][]string{
		{
			name, of(func(t depthTurn) float64 { return float64(t.empty.Depth) }, "%.0f"),
			of(func(t depthTurn) float64 { return t.empty.Opened }, "%.0f"),
			of(func(t depthTurn) float64 { return t.empty.Commits }, "%.0f"),
			of(func(t depthTurn) float64 { return t.empty.Leases }, "%.0f"),
			of(func(t depthTurn) float64 { return t.empty.Opening.Seconds() }, "%.3f") + " s",
		},
		{
			name, of(func(t depthTurn) float64 { return float64(t.filled.Depth) }, "%.0f"),
			of(func(t depthTurn) float64 { return t.filled.Opened }, "%.0f"),
			of(func(t depthTurn) float64 { return t.filled.Commits }, "%.0f"),
			of(func(t depthTurn) float64 { return t.filled.Leases }, "%.0f"),
			fmt.Sprintf("%.2f s", f.opening[0]),
			spread(f.memory, "%.0f"), spread(f.heap, "%.0f"),
		},
	}
}
