package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// turn is what one server did in one round.
type turn struct {
	rate    float64       // messages accepted a second
	cpu     time.Duration // of the whole machine, client included, a message
	left    int           // in the queue when the last message was accepted
	drained time.Duration // from then until the queue was empty
	cleared time.Duration // and until nothing was left on the disk
}

// throughput gives each server its turn in each round, and begins each round
// with another, so that no one is always first.
func throughput(ctx context.Context, b *bench) (section, error) {
	servers := b.servers()
	turns := make(map[string][]turn)
	began := time.Now()
	for round := range b.rounds {
		if round > 0 && b.budget > 0 && time.Since(began)*time.Duration(round+1)/time.Duration(round) > b.budget {
			b.rounds = round // the next one would take too long
			break
		}
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			if s.missing != "" {
				continue
			}
			t, err := b.turn(ctx, s, round)
			if err != nil {
				return section{}, fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Fprintf(os.Stderr, "bench: round %d: %-28s %8.0f/s\n", round+1, s.name, t.rate)
			turns[s.name] = append(turns[s.name], t)
		}
	}
	return b.throughputSection(servers, turns), nil
}

// turn starts a server, warms it, measures it and stops it.
func (b *bench) turn(ctx context.Context, s server, round int) (t turn, err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("turn-%d", round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return t, err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	r, err := s.start(ctx, dir)
	if err != nil {
		return t, err
	}
	defer func() {
		if serr := r.stop(); err == nil {
			err = serr
		}
	}()
	n := b.messages
	if !s.durable() {
		n *= 3
	}
	warm := load{sessions: 20, messages: n / 10, size: 4096}
	if _, err := warm.send(ctx, r.addr); err != nil {
		return t, err
	}
	if err := (&turn{}).drain(ctx, r); err != nil {
		return t, err
	}
	return timed(ctx, r, load{sessions: 20, messages: n, size: 4096})
}

func timed(ctx context.Context, r *running, l load) (t turn, err error) {
	before, err := busy()
	if err != nil {
		return t, err
	}
	took, err := l.send(ctx, r.addr)
	if err != nil {
		return t, err
	}
	t.rate = float64(l.messages) / took.Seconds()
	if r.depth != nil {
		d, err := r.depth()
		if err != nil {
			return t, err
		}
		t.left = d.queued
		if err := t.drain(ctx, r); err != nil {
			return t, err
		}
	}
	after, err := busy()
	t.cpu = (after - before) / time.Duration(l.messages)
	return t, err
}

// drain waits, at most two minutes, until a queue is empty and its disk too.
func (t *turn) drain(ctx context.Context, r *running) error {
	if r.depth == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		d, err := r.depth()
		if err != nil {
			return err
		}
		t.cleared = time.Since(began)
		if d.queued > 0 {
			t.drained = t.cleared
		}
		if d.onDisk == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d messages are still in the queue, %d on the disk: %w", d.queued, d.onDisk, ctx.Err())
		case <-tick.C:
		}
	}
}

func (b *bench) throughputSection(servers []server, turns map[string][]turn) section {
	s := section{
		title: "Receiving",
		text: fmt.Sprintf("`smtp-source -d -s 20 -l 4096`, %d messages a turn (%d where nothing is stored), %d rounds in turns; "+
			"median, and the lowest and highest turn. CPU is the whole machine's, client and all else that ran included.", b.messages, 3*b.messages, b.rounds),
		header: []string{"server", "stores", "messages/s", "CPU a message", "in the queue at the end", "until it was empty", "and its disk"},
	}
	for _, srv := range servers {
		if srv.missing != "" {
			s.rows = append(s.rows, []string{srv.name, "", "not measured: " + srv.missing, "", "", "", ""})
			continue
		}
		s.rows = append(s.rows, row(srv, turns[srv.name]))
	}
	s.verdicts = throughputVerdicts(turns)
	return s
}

func row(srv server, turns []turn) []string {
	stores := srv.stores
	if stores == "" {
		stores = "no"
	}
	rates := each(turns, func(t turn) float64 { return t.rate })
	left, drained, cleared := "", "", ""
	if srv.name == incomingName || srv.name == postfixName {
		left = spread(each(turns, func(t turn) float64 { return float64(t.left) }), "%.0f")
		drained = spread(each(turns, func(t turn) float64 { return t.drained.Seconds() }), "%.2f") + " s"
		cleared = spread(each(turns, func(t turn) float64 { return t.cleared.Seconds() }), "%.2f") + " s"
	}
	cpu := each(turns, func(t turn) float64 { return float64(t.cpu.Microseconds()) })
	return []string{srv.name, stores, spread(rates, "%.0f"), fmt.Sprintf("%.0f µs", median(cpu)), left, drained, cleared}
}

// throughputVerdicts compares round by round, since the machine may be faster in
// one round than in another.
func throughputVerdicts(turns map[string][]turn) []verdict {
	ours, theirs := turns[incomingName], turns[postfixName]
	var all []verdict
	if len(theirs) == len(ours) && len(ours) > 0 {
		ratios := make([]float64, len(ours))
		for i := range ours {
			ratios[i] = ours[i].rate / theirs[i].rate
		}
		all = append(all, verdict{
			what: "durable accepting, against Postfix", wanted: "at least 1.5 times",
			got: spread(ratios, "%.2f") + " times", ok: median(ratios) >= 1.5,
		})
	}
	if len(ours) > 0 {
		drained := each(ours, func(t turn) float64 { return t.drained.Seconds() })
		all = append(all, verdict{
			what: "delivery keeps up with accepting", wanted: "the queue empty within 1 s",
			got: spread(drained, "%.2f") + " s", ok: median(drained) <= 1,
		})
	}
	return all
}
