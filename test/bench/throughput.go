package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// cell is one combination under which every server has its turns.
type cell struct {
	size        int
	secure      bool
	connections int
}

const (
	small = 4096
	large = 1_000_000
)

// main20 and main100 are the cells that figures are held against.
var (
	main20  = cell{small, false, 20}
	main100 = cell{small, false, 100}
)

func (b *bench) cells() []cell {
	if b.quick {
		return []cell{main20, main100}
	}
	var all []cell
	for _, size := range []int{small, large} {
		for _, secure := range []bool{false, true} {
			for _, connections := range []int{1, 20, 100} {
				all = append(all, cell{size, secure, connections})
			}
		}
	}
	return all
}

// roundsOf is fewer for the cells that nothing is held against.
func (b *bench) roundsOf(c cell) int {
	if b.quick || c.size == small && !c.secure {
		return b.rounds
	}
	return (b.rounds + 1) / 2
}

// turn is what one server did in one round.
type turn struct {
	messages int
	rate     float64       // accepted a second
	cpu      time.Duration // of the whole machine, client included, a message
	own      time.Duration // of the server's process, a message; of guards only
	queue    *queueing     // nil for a server without a queue
}

// results is the turns of each server in each cell, by round.
type results map[cell]map[string][]turn

func (r results) add(c cell, name string, t turn) {
	if r[c] == nil {
		r[c] = make(map[string][]turn)
	}
	r[c][name] = append(r[c][name], t)
}

// rates is messages a second, by round.
func (r results) rates(c cell, name string) []float64 {
	return each(r[c][name], func(t turn) float64 { return t.rate })
}

// ratios compares round by round, since the machine may be faster in one round
// than in another.
func (r results) ratios(c cell, ours, theirs string) []float64 {
	return divide(r.rates(c, ours), r.rates(c, theirs))
}

// throughput gives each server its turn in each cell of each round, and begins
// with another server each time, so that no one is always first.
func throughput(ctx context.Context, b *bench) (section, error) {
	servers := b.servers()
	began := time.Now()
	for round := range b.rounds {
		if round > 0 && b.budget > 0 && time.Since(began)*time.Duration(round+1)/time.Duration(round) > b.budget {
			b.progress("round %d would take too long", round+1)
			b.rounds = round
			break
		}
		for i, c := range b.cells() {
			if round >= b.roundsOf(c) {
				continue
			}
			if err := b.roundOf(ctx, c, servers, round, i); err != nil {
				return section{}, err
			}
		}
	}
	return b.throughputSection(servers), nil
}

func (b *bench) roundOf(ctx context.Context, c cell, servers []server, round, shift int) error {
	for _, s := range rotated(servers, round+shift) {
		if s.lacks(c.secure) != "" {
			continue
		}
		t, err := b.turn(ctx, s, c.load())
		if err != nil {
			return err
		}
		b.progress("round %d, %s: %-34s %8.0f/s", round+1, c, s.name, t.rate)
		b.turns.add(c, s.name, t)
	}
	return nil
}

func (c cell) String() string {
	return c.kind() + ", " + plural(c.connections, "connection")
}

// kind is the cell without its number of connections.
func (c cell) kind() string {
	size, how := "4 KB", "plain"
	if c.size == large {
		size = "1 MB"
	}
	if c.secure {
		how = "TLS"
	}
	return size + ", " + how
}

// turn starts a server, warms it with l, of as many messages as it takes, measures it
// and stops it.
func (b *bench) turn(ctx context.Context, s server, l load) (t turn, err error) {
	err = b.with(ctx, s, l.secure, func(r *running, _ string) error {
		rate, err := b.warm(ctx, r, l)
		if err != nil {
			return err
		}
		l.messages = min(max(int(rate*b.length.Seconds()), l.connections), b.messages)
		t, err = b.timed(ctx, r, l)
		return err
	})
	return t, err
}

// load is the cell's, of no messages yet.
func (c cell) load() load {
	return load{connections: c.connections, size: c.size, secure: c.secure}
}

// warm loads a server until a run of messages has lasted a quarter of a turn, and
// returns how many it took a second then.
func (b *bench) warm(ctx context.Context, r *running, l load) (float64, error) {
	for l.messages = max(20, l.connections); ; l.messages *= 2 {
		took, err := l.send(ctx, r.addr)
		if err != nil {
			return 0, err
		}
		if took >= b.length/4 || 2*l.messages > b.messages {
			return float64(l.messages) / took.Seconds(), r.drained(ctx)
		}
	}
}

func (b *bench) timed(ctx context.Context, r *running, l load) (t turn, err error) {
	t.messages = l.messages
	before, err := busy()
	if err != nil {
		return t, err
	}
	var w *watch
	if r.delivers {
		w = watchQueue(ctx, r, b.length/4)
	}
	took, err := l.send(ctx, r.addr)
	if w != nil {
		q, werr := w.end(ctx, r, err == nil)
		t.queue = &q
		if err == nil {
			err = werr
		}
	}
	if err != nil {
		return t, err
	}
	t.rate = float64(l.messages) / took.Seconds()
	after, err := busy()
	t.cpu = (after - before) / time.Duration(l.messages)
	return t, err
}

// queueing is how a queue fared while messages were accepted and delivered.
type queueing struct {
	left    int           // in it when the last message was accepted
	growth  float64       // messages a second that it grew by after a quarter of the turn
	drained time.Duration // from the last message until it was empty
	cleared time.Duration // and until nothing was left on the disk
}

// watch looks at a queue while it is loaded.
type watch struct {
	stop    context.CancelFunc
	looking sync.WaitGroup
	seen    []look
	err     error
}

type look struct {
	at     time.Time
	queued int
}

// watchQueue looks at once and then every so often.
func watchQueue(ctx context.Context, r *running, every time.Duration) *watch {
	w := &watch{}
	ctx, w.stop = context.WithCancel(ctx)
	w.looking.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			d, err := r.depth(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				w.err = err
				return
			}
			w.seen = append(w.seen, look{time.Now(), d.queued})
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// end is to be called when the last message was accepted. It then waits until the
// queue is empty, when that makes sense.
func (w *watch) end(ctx context.Context, r *running, wait bool) (q queueing, err error) {
	w.stop()
	w.looking.Wait()
	if w.err != nil || !wait {
		return q, w.err
	}
	d, err := r.depth(ctx)
	if err != nil {
		return q, err
	}
	q.left, q.growth = d.queued, growth(append(w.seen, look{time.Now(), d.queued}))
	q.drained, q.cleared, err = drain(ctx, r)
	return q, err
}

// growth is messages a second from the second look on, since the first is of an
// empty queue, which has to fill a little; from that one when there is no other.
func growth(seen []look) float64 {
	if len(seen) > 2 {
		seen = seen[1:]
	}
	first, last := seen[0], seen[len(seen)-1]
	return float64(last.queued-first.queued) / last.at.Sub(first.at).Seconds()
}

// drained waits until a server that delivers has nothing left to.
func (r *running) drained(ctx context.Context) error {
	if !r.delivers {
		return nil
	}
	_, _, err := drain(ctx, r)
	return err
}

// drain waits, at most two minutes, until a queue is empty and its disk too.
func drain(ctx context.Context, r *running) (drained, cleared time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		d, err := r.depth(ctx)
		if err != nil {
			return drained, cleared, err
		}
		cleared = time.Since(began)
		if d.queued > 0 {
			drained = cleared
		}
		if d.onDisk == 0 {
			return drained, cleared, nil
		}
		select {
		case <-ctx.Done():
			return drained, cleared, fmt.Errorf("%d messages are still in the queue, %d on the disk: %w", d.queued, d.onDisk, ctx.Err())
		case <-tick.C:
		}
	}
}
