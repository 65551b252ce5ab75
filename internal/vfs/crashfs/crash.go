package crashfs

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
)

// Fate decides what becomes of one change that was not certain.
type Fate interface {
	// Write answers for text of n octets written at an offset: it calls keep for
	// each part that reached the disk.
	Write(at int64, n int, keep func(from, to int))
	// Name answers for a half of a change of names, and for a change of a file's
	// length: whether it reached the disk.
	Name() bool
}

// Lost and Kept are the two plain fates.
var (
	Lost Fate = plain(false)
	Kept Fate = plain(true)
)

type plain bool

func (p plain) Name() bool { return bool(p) }

func (p plain) Write(_ int64, n int, keep func(from, to int)) {
	if p {
		keep(0, n)
	}
}

// Random is a fate drawn anew for each change, the same for the same seed.
func Random(seed uint64) Fate { return &random{rand.New(rand.NewPCG(seed, 1))} }

type random struct{ r *rand.Rand }

func (f *random) Name() bool { return f.r.IntN(2) == 0 }

// Write keeps none of it, all, or some from the start.
func (f *random) Write(_ int64, n int, keep func(from, to int)) {
	switch f.r.IntN(3) {
	case 0:
	case 1:
		keep(0, n)
	default:
		keep(0, f.r.IntN(n+1))
	}
}

// Sectors is Random, save that of each write each sector is lost or kept by itself: a
// disk may write them in any order.
func Sectors(seed uint64) Fate { return &sectors{random{rand.New(rand.NewPCG(seed, 2))}} }

type sectors struct{ random }

// sector is the unit that a disk writes whole.
const sector = 512

func (f *sectors) Write(at int64, n int, keep func(from, to int)) {
	for from := 0; from < n; {
		to := min(n, from+sector-int((at+int64(from))%sector))
		if f.r.IntN(2) == 0 {
			keep(from, to)
		}
		from = to
	}
}

// NamesKept keeps every name and loses all text that was not synced: what a
// journalling file system with delayed allocation does to a program that
// renames before it syncs.
var NamesKept Fate = halves{name: true}

// TextKept keeps all text and loses every name that was not synced.
var TextKept Fate = halves{text: true}

type halves struct{ name, text bool }

func (s halves) Name() bool { return s.name }

func (s halves) Write(at int64, n int, keep func(from, to int)) { plain(s.text).Write(at, n, keep) }

// Crash is the disk that a power cut at this moment leaves, by that fate: a new
// file system on which everything is certain. f is not changed.
func (f *FS) Crash(fate Fate) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := map[*node]map[string]*node{} // of each directory, after the cut
	after := func(d *node) map[string]*node {
		if names[d] == nil {
			names[d] = map[string]*node{}
			for k, v := range d.stable {
				names[d][k] = v
			}
		}
		return names[d]
	}
	for _, c := range f.pending {
		added := c.toDone
		if c.to != nil && !c.toDone && fate.Name() {
			added = true
			after(c.to)[c.name] = c.node
		}
		// A rename that did not add the new name has not removed the old one.
		if c.from == nil || c.fromDone || (c.to != nil && !added) {
			continue
		}
		if fate.Name() && after(c.from)[c.oldName] == c.node {
			delete(after(c.from), c.oldName)
		}
	}
	left := New()
	left.root = copyNode(f.root, after, fate)
	return left
}

// copyNode copies what is reachable from n. A node under two names is copied
// twice: the two are entries of their own.
func copyNode(n *node, names func(*node) map[string]*node, fate Fate) *node {
	if !n.dir {
		data := append([]byte(nil), n.synced...)
		for _, w := range n.writes {
			if w.text == nil {
				if fate.Name() {
					data = resized(data, w.at)
				}
				continue
			}
			fate.Write(w.at, len(w.text), func(from, to int) {
				if to > from {
					data = overwrite(data, w.at+int64(from), w.text[from:to])
				}
			})
		}
		return &node{data: data, synced: append([]byte(nil), data...)}
	}
	d := newDir()
	for _, name := range sortedNames(names(n)) {
		child := copyNode(names(n)[name], names, fate)
		d.names[name], d.stable[name] = child, child
	}
	return d
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// String lists what a program sees, a line a name, for a failing test to show.
func (f *FS) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	list(&b, f.root, "")
	return b.String()
}

func list(b *strings.Builder, d *node, prefix string) {
	for _, name := range sortedNames(d.names) {
		n := d.names[name]
		if n.dir {
			fmt.Fprintf(b, "%s%s/\n", prefix, name)
			list(b, n, prefix+name+"/")
		} else {
			fmt.Fprintf(b, "%s%s (%d octets)\n", prefix, name, len(n.data))
		}
	}
}
