package diskqueue

import "github.com/incoming-mx/incoming/queue"

// index is what is held, in memory: found by ID, and in order of what is next.
// It knows no disk, and is guarded by its user's mutex.
type index struct {
	byID   sorted // all
	counts [states]int

	ready    sorted // by age: the oldest is handed out first
	waiting  sorted // by the time it is due
	aside    sorted // live but not ready, by age: for the oldest of all
	rejected sorted // dead letters of kind rejected, by the time they died
	spent    sorted // all other dead letters, likewise
	kept     sorted // dead letters with a Keep of their own, by the time they are to be removed

	sought entry // of get, which is asked at every commit
}

func newIndex() index {
	return index{
		byID:     sorted{compare: byID},
		ready:    sorted{compare: byAge},
		waiting:  sorted{compare: byTime},
		aside:    sorted{compare: byAge},
		rejected: sorted{compare: byTime},
		spent:    sorted{compare: byTime},
		kept:     sorted{compare: byTime},
	}
}

// add takes in an entry that is new.
func (x *index) add(e *entry) {
	x.byID.add(e)
	x.counts[e.state]++
	x.pile(e)
}

// drop forgets an entry.
func (x *index) drop(e *entry) {
	x.unpile(e)
	x.counts[e.state]--
	x.byID.remove(e)
}

// get is the entry of an ID; nil when there is none.
func (x *index) get(id queue.ID) *entry {
	x.sought.id = id
	return x.byID.get(&x.sought)
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

// orderOf is what orders e among its like; nil when nobody may take it.
func (x *index) orderOf(e *entry) *sorted {
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
	o := x.orderOf(e)
	if o != nil {
		o.add(e)
	}
	if e.state != dead && o != &x.ready {
		x.aside.add(e)
	}
}

func (x *index) unpile(e *entry) {
	o := x.orderOf(e)
	if o != nil {
		o.remove(e)
	}
	if e.state != dead && o != &x.ready {
		x.aside.remove(e)
	}
}

// promote makes ready what is due at now.
func (x *index) promote(now int64) {
	for e := x.waiting.first(); e != nil && e.at <= now; e = x.waiting.first() {
		x.change(e, func() { e.state = ready })
	}
}

// live is the entries that count towards the depth.
func (x *index) live() int { return x.byID.n - x.counts[dead] }

func (x *index) depth() queue.Depth {
	d := queue.Depth{
		Ready:   x.counts[ready],
		Waiting: x.counts[waiting],
		Leased:  x.counts[leased],
		Dead:    x.counts[dead],
	}
	oldest := x.ready.first()
	if e := x.aside.first(); e != nil && (oldest == nil || byAge(e, oldest) < 0) {
		oldest = e
	}
	if oldest != nil {
		d.Oldest = unixMilli(oldest.received)
	}
	return d
}
