package route

import (
	"maps"
	"sync"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// mostKept is how many recipients' answers are remembered a route. Past it those
// kept longest are forgotten, and their destinations asked again.
const mostKept = 10_000

// answers is what the destinations of a route have said for good about recipients
// that others of them are still to take.
type answers struct {
	mu    sync.Mutex
	by    map[who]map[string]error // by destination; nil was taken
	order []who                    // as they were first kept; some may be forgotten
}

// who is one recipient of one message.
type who struct {
	id   queue.ID
	rcpt string
}

func (a *answers) of(id queue.ID, rcpt, destination string) (verdict error, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	verdict, known = a.by[who{id, rcpt}][destination]
	return verdict, known
}

// keep remembers those of the verdicts that are final; the map is its own from
// then on.
func (a *answers) keep(id queue.ID, rcpt string, verdicts map[string]error) {
	maps.DeleteFunc(verdicts, func(_ string, v error) bool { return !delivery.Final(v) })
	if len(verdicts) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = make(map[who]map[string]error)
	}
	w := who{id, rcpt}
	if a.by[w] == nil {
		a.order = append(a.order, w)
	}
	a.by[w] = verdicts
	if len(a.order) > 2*mostKept {
		a.trim()
	}
}

func (a *answers) forget(id queue.ID, rcpt string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.by, who{id, rcpt})
}

// trim keeps the mostKept youngest.
func (a *answers) trim() {
	for _, w := range a.order[:len(a.order)-mostKept] {
		delete(a.by, w)
	}
	a.order = append([]who(nil), a.order[len(a.order)-mostKept:]...)
}
