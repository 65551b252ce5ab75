package policy

import (
	"container/list"
	"sync"
	"time"
)

// rateTable counts in this process. Clients, domains and recipients have a table
// of their own each, so that many of one sort push none of another out.
type rateTable struct {
	entries int // of each sort; 0 and less: no bound
	start   time.Time

	mu    sync.Mutex
	sorts map[string]*rateSort
}

// rateSort is what is counted of one sort.
type rateSort struct {
	byKey map[string]*list.Element // of *rated
	idle  *list.List               // last asked in front, idlest at the back
}

// rated is the uses of one key that were let through, oldest first, as time since
// start. They are a ring that grows to count as it is needed.
type rated struct {
	key  string
	hits []time.Duration
	head int // the oldest
	n    int
}

// sweepAtOnce is how many idle keys are forgotten, at most, each time a sort is
// asked: more than can be added, so that it shrinks.
const sweepAtOnce = 2

func newRateTable(entries int) *rateTable {
	return &rateTable{entries: entries, start: time.Now(), sorts: make(map[string]*rateSort)}
}

// take is RateCounter's.
func (t *rateTable) take(window time.Duration, uses []RateUse) (over int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Since(t.start)
	var room [2]*rated
	all := room[:0]
	for i, u := range uses {
		s := t.sorts[u.Of]
		if s == nil {
			s = &rateSort{byKey: make(map[string]*list.Element), idle: list.New()}
			t.sorts[u.Of] = s
		}
		s.sweep(now - window)
		r := s.find(u.Key, t.entries)
		r.expire(now - window)
		if r.n >= u.Count {
			return i
		}
		all = append(all, r)
	}
	for i, r := range all {
		r.add(now, uses[i].Count)
	}
	return -1
}

func (t *rateTable) len() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sorts {
		n += len(s.byKey)
	}
	return n
}

// find is the key's place, which is the last to be forgotten from now on.
func (s *rateSort) find(key string, entries int) *rated {
	if e := s.byKey[key]; e != nil {
		s.idle.MoveToFront(e)
		return e.Value.(*rated)
	}
	if entries > 0 && len(s.byKey) >= entries {
		s.forget(s.idle.Back())
	}
	r := &rated{key: key}
	s.byKey[key] = s.idle.PushFront(r)
	return r
}

// sweep forgets a few of those that were asked longest ago, once nothing of
// theirs counts any more.
func (s *rateSort) sweep(until time.Duration) {
	for range sweepAtOnce {
		e := s.idle.Back()
		if e == nil || e.Value.(*rated).counts(until) {
			return
		}
		s.forget(e)
	}
}

func (s *rateSort) forget(e *list.Element) {
	delete(s.byKey, e.Value.(*rated).key)
	s.idle.Remove(e)
}

// counts reports whether there is a hit after a time.
func (r *rated) counts(until time.Duration) bool {
	return r.n > 0 && r.hits[(r.head+r.n-1)%len(r.hits)] > until
}

// expire drops the hits at or before a time.
func (r *rated) expire(until time.Duration) {
	for r.n > 0 && r.hits[r.head] <= until {
		r.head = (r.head + 1) % len(r.hits)
		r.n--
	}
}

func (r *rated) add(now time.Duration, most int) {
	if r.n == len(r.hits) {
		grown := make([]time.Duration, min(max(2*r.n, 1), most))
		for i := range r.n {
			grown[i] = r.hits[(r.head+i)%len(r.hits)]
		}
		r.hits, r.head = grown, 0
	}
	r.hits[(r.head+r.n)%len(r.hits)] = now
	r.n++
}
