package diskqueue

import "github.com/incoming-mx/incoming/queue"

// index is what is held, in memory: found by ID, and in order of what is next.
// It knows no disk, and is guarded by its user's mutex.
type index struct {
	byID   map[queue.ID]*entry
	counts [states]int

	ready    heap // by age: the oldest is handed out first
	waiting  heap // by the time it is due
	aside    heap // live but not ready, by age: for the oldest of all
	rejected heap // dead letters of kind rejected, by the time they died
	spent    heap // all other dead letters, likewise
	kept     heap // dead letters with a Keep of their own, by the time they are to be removed
}

func newIndex() index {
	return index{
		byID:     make(map[queue.ID]*entry),
		ready:    heap{less: byAge, pos: posOf},
		waiting:  heap{less: byTime, pos: posOf},
		aside:    heap{less: byAge, pos: asideOf},
		rejected: heap{less: byTime, pos: posOf},
		spent:    heap{less: byTime, pos: posOf},
		kept:     heap{less: byTime, pos: posOf},
	}
}

// add takes in an entry that is new.
func (x *index) add(e *entry) {
	x.byID[e.id] = e
	x.counts[e.state]++
	x.pile(e)
}

// drop forgets an entry.
func (x *index) drop(e *entry) {
	x.unpile(e)
	x.counts[e.state]--
	delete(x.byID, e.id)
}

// change lets f alter an entry's state, times, kind or busy mark, and puts it
// where it then belongs.
func (x *index) change(e *entry, f func()) {
	x.unpile(e)
	x.counts[e.state]--
	f()
	x.counts[e.state]++
	x.pile(e)
}

// heapOf is the heap that orders e among its like; nil when nobody may take it.
func (x *index) heapOf(e *entry) *heap {
	switch {
	case e.busy || e.state == leased:
		return nil
	case e.state == ready:
		return &x.ready
	case e.state == waiting:
		return &x.waiting
	case e.removal == byRejection:
		return &x.rejected
	case e.removal == byItself:
		return &x.kept
	case e.removal == forEver:
		return nil
	}
	return &x.spent
}

func (x *index) pile(e *entry) {
	h := x.heapOf(e)
	if h != nil {
		h.push(e)
	}
	if e.state != dead && h != &x.ready {
		x.aside.push(e)
	}
}

func (x *index) unpile(e *entry) {
	if h := x.heapOf(e); h != nil {
		h.remove(e)
	}
	x.aside.remove(e)
}

// promote makes ready what is due at now, and returns how many that was.
func (x *index) promote(now int64) int {
	n := 0
	for e := x.waiting.top(); e != nil && e.at <= now; e = x.waiting.top() {
		x.change(e, func() { e.state = ready })
		n++
	}
	return n
}

// live is the entries that count towards the depth.
func (x *index) live() int { return len(x.byID) - x.counts[dead] }

func (x *index) depth() queue.Depth {
	d := queue.Depth{
		Ready:   x.counts[ready],
		Waiting: x.counts[waiting],
		Leased:  x.counts[leased],
		Dead:    x.counts[dead],
	}
	oldest := x.ready.top()
	if e := x.aside.top(); e != nil && (oldest == nil || byAge(e, oldest)) {
		oldest = e
	}
	if oldest != nil {
		d.Oldest = unixMilli(oldest.received)
	}
	return d
}
