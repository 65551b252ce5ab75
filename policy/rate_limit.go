package policy

import (
	"container/list"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// RateLimitOptions bounds a RateLimiter. Zero is the default in parentheses,
// negative is none.
type RateLimitOptions struct {
	Count   int           // (5) MAIL commands of one client in Window
	Window  time.Duration // (60 s)
	Entries int           // (100 000) clients remembered; past it the idlest is forgotten
}

// RateLimiter refuses MAIL with 450 4.7.1 once a client has used up its count
// in the time that has just passed: the window truly slides, and at each moment
// no more than Count of a client's MAIL commands of the last Window were let
// through. What is refused does not count, so that a client that goes on trying
// gets its share. A client is an IPv4 address or an IPv6 /64; a peer without an
// IP address is local and not limited.
//
// It costs about 200 octets a client and 8 for each of its counted MAILs, and
// forgets clients whose window has passed as it is asked: it needs no Close.
// Its name is rate_limit.
type RateLimiter struct {
	count   int
	window  time.Duration
	entries int
	start   time.Time

	mu      sync.Mutex
	clients map[netip.Prefix]*list.Element // of *client
	idle    *list.List                     // last asked in front, idlest at the back
}

// client is one client's MAILs that were let through, oldest first, as time
// since start. They are a ring that grows to count as it is needed.
type client struct {
	key  netip.Prefix
	hits []time.Duration
	head int // the oldest
	n    int
}

// sweepAtOnce is how many idle clients are forgotten, at most, each time the
// limiter is asked: more than can be added, so that the table shrinks.
const sweepAtOnce = 2

// RateLimit makes a RateLimiter; nil options are the defaults.
func RateLimit(o *RateLimitOptions) *RateLimiter {
	l := &RateLimiter{
		count: 5, window: time.Minute, entries: 100_000,
		start:   time.Now(),
		clients: make(map[netip.Prefix]*list.Element),
		idle:    list.New(),
	}
	if o == nil {
		return l
	}
	if o.Count != 0 {
		l.count = o.Count
	}
	if o.Window != 0 {
		l.window = o.Window
	}
	if o.Entries != 0 {
		l.entries = o.Entries
	}
	return l
}

// Name is "rate_limit".
func (l *RateLimiter) Name() string { return "rate_limit" }

func (*RateLimiter) neverWaits() {}

// Check counts at StageMail.
func (l *RateLimiter) Check(_ context.Context, stage Stage, t *Transaction) error {
	if stage != StageMail || l.count < 0 || l.window < 0 || !t.Peer.IsValid() {
		return nil
	}
	if l.take(clientOf(t.Peer.Addr())) {
		return nil
	}
	return fmt.Errorf("more than %d in %v: %w", l.count, l.window, replyTooOften)
}

// Len is the number of clients remembered.
func (l *RateLimiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients)
}

// take counts one MAIL of a client, if it has any left.
func (l *RateLimiter) take(key netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.start)
	l.sweep(now)
	e := l.clients[key]
	if e == nil {
		if l.entries > 0 && len(l.clients) >= l.entries {
			l.forget(l.idle.Back())
		}
		e = l.idle.PushFront(&client{key: key})
		l.clients[key] = e
	} else {
		l.idle.MoveToFront(e)
	}
	c := e.Value.(*client)
	c.expire(now - l.window)
	if c.n >= l.count {
		return false
	}
	c.add(now, l.count)
	return true
}

// sweep forgets a few of those that were asked longest ago, once nothing of
// theirs counts any more.
func (l *RateLimiter) sweep(now time.Duration) {
	for range sweepAtOnce {
		e := l.idle.Back()
		if e == nil || e.Value.(*client).newest() > now-l.window {
			return
		}
		l.forget(e)
	}
}

func (l *RateLimiter) forget(e *list.Element) {
	delete(l.clients, e.Value.(*client).key)
	l.idle.Remove(e)
}

// expire drops the hits at or before a time.
func (c *client) expire(until time.Duration) {
	for c.n > 0 && c.hits[c.head] <= until {
		c.head = (c.head + 1) % len(c.hits)
		c.n--
	}
}

func (c *client) add(now time.Duration, most int) {
	if c.n == len(c.hits) {
		grown := make([]time.Duration, min(max(2*c.n, 1), most))
		for i := range c.n {
			grown[i] = c.hits[(c.head+i)%len(c.hits)]
		}
		c.hits, c.head = grown, 0
	}
	c.hits[(c.head+c.n)%len(c.hits)] = now
	c.n++
}

// newest is when the last hit was; there is always one, for a client is made by
// its first.
func (c *client) newest() time.Duration { return c.hits[(c.head+c.n-1+len(c.hits))%len(c.hits)] }

func clientOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails only for bits out of range
	return p
}
