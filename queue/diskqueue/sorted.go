package diskqueue

import (
	"cmp"
	"iter"
	"slices"
)

// mostRun is how many entries a run holds at most. Among a million a run is a
// dozen steps of a binary search away, and a removal moves 1 KiB.
const mostRun = 256

// sorted is entries in an order, in which no two are the same: an entry is found
// by what it is ordered by. They lie in runs, each in order and all before
// the next one's, so that what comes in last and what goes out first, which is
// nearly all of it, touches the memory of no others: a binary heap of a million
// entries spends an eighth of a lease in its cache misses, and moves what the
// garbage collector looks at out of the order that it was allocated in.
type sorted struct {
	runs    [][]*entry // none is empty
	n       int
	compare func(a, b *entry) int
}

func byID(a, b *entry) int { return cmp.Compare(a.id, b.id) }

func byAge(a, b *entry) int {
	if c := cmp.Compare(a.received, b.received); c != 0 {
		return c
	}
	return byID(a, b)
}

func byTime(a, b *entry) int {
	if c := cmp.Compare(a.at, b.at); c != 0 {
		return c
	}
	return byAge(a, b)
}

// first is the entry before all others; nil when there is none.
func (s *sorted) first() *entry {
	if s.n == 0 {
		return nil
	}
	return s.runs[0][0]
}

// get is the entry that is the same as e in the order; nil when there is none.
func (s *sorted) get(e *entry) *entry {
	run, at, is := s.find(e)
	if !is {
		return nil
	}
	return s.runs[run][at]
}

// all is every entry, in order. None may be added or removed meanwhile.
func (s *sorted) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, run := range s.runs {
			for _, e := range run {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// find is the run that an entry is in, or belongs into, and where in that.
func (s *sorted) find(e *entry) (run, at int, is bool) {
	run, is = slices.BinarySearchFunc(s.runs, e, func(r []*entry, e *entry) int { return s.compare(r[0], e) })
	if is || run == 0 {
		return run, 0, is
	}
	run-- // it is behind the first of that one
	at, is = slices.BinarySearchFunc(s.runs[run], e, s.compare)
	return run, at, is
}

// add takes in an entry that is not in.
func (s *sorted) add(e *entry) {
	s.n++
	if len(s.runs) == 0 {
		s.runs = append(s.runs, []*entry{e})
		return
	}
	run, at, _ := s.find(e)
	if r := s.runs[run]; len(r) == mostRun {
		// What comes in last leaves full runs behind it.
		half := mostRun / 2
		if run == len(s.runs)-1 && at == mostRun {
			half = mostRun
		}
		s.runs = slices.Insert(s.runs, run+1, append(make([]*entry, 0, mostRun), r[half:]...))
		clear(r[half:])
		s.runs[run] = r[:half]
		if at > half || half == mostRun {
			run, at = run+1, at-half
		}
	}
	s.runs[run] = slices.Insert(s.runs[run], at, e)
}

// remove takes an entry out; one that is not in is left alone. What it is
// ordered by must be as it was when it was added.
func (s *sorted) remove(e *entry) {
	run, at, is := s.find(e)
	if !is {
		return
	}
	s.n--
	s.runs[run] = slices.Delete(s.runs[run], at, at+1)
	if len(s.runs[run]) > 0 && (run == 0 || len(s.runs[run]) > mostRun/4) {
		return
	}
	// One that is nearly empty is joined to another, so that few entries do not
	// hold the memory of many.
	if run > 0 && len(s.runs[run-1])+len(s.runs[run]) <= mostRun/2 {
		s.runs[run-1] = append(s.runs[run-1], s.runs[run]...)
		s.runs[run] = nil
	}
	if len(s.runs[run]) == 0 {
		s.runs = slices.Delete(s.runs, run, run+1)
	}
}
