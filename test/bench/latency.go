package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// diskAlone is what stands in the table for the disk without a server.
const diskAlone = "the disk alone"

// answering is how fast the final dot was answered in one turn.
type answering struct {
	rate     float64       // dots a second
	sync     time.Duration // one sync of the disk, just before
	p50, p99 time.Duration
}

// syncs is the p99 in syncs of the disk.
func (a answering) syncs() float64 { return float64(a.p99) / float64(a.sync) }

// latency sends each server final dots at a quarter of the rate that it reached.
func latency(ctx context.Context, b *bench) (section, error) {
	servers := b.servers()
	if b.quick {
		servers = slices.DeleteFunc(servers, func(s server) bool {
			return s.name != sinkName && s.name != journal.name && s.name != directories.name
		})
	}
	turns := make(map[string][]answering)
	for round := range b.rounds {
		for _, s := range rotated(servers, round) {
			if s.missing != "" {
				continue
			}
			a, err := b.answeringTurn(ctx, s)
			if err != nil {
				return section{}, err
			}
			b.progress("round %d, latency: %-34s %s, %s at %.0f/s", round+1, s.name, a.p50, a.p99, a.rate)
			turns[s.name] = append(turns[s.name], a)
			if s.name != journal.name {
				continue
			}
			if a, err = b.diskTurn(a.rate); err != nil {
				return section{}, err
			}
			b.progress("round %d, latency: %-34s %s, %s at %.0f/s", round+1, diskAlone, a.p50, a.p99, a.rate)
			turns[diskAlone] = append(turns[diskAlone], a)
		}
	}
	return b.latencySection(servers, turns), nil
}

func (b *bench) answeringTurn(ctx context.Context, s server) (a answering, err error) {
	if len(b.turns.rates(main20, s.name)) == 0 {
		t, err := b.turn(ctx, s, main20.load())
		if err != nil {
			return a, err
		}
		b.turns.add(main20, s.name, t)
	}
	a.rate = median(b.turns.rates(main20, s.name)) / 4
	err = b.with(ctx, s, false, func(r *running, dir string) error {
		if _, err := b.warm(ctx, r, main20.load()); err != nil {
			return err
		}
		if a.sync, err = oneSync(dir); err != nil {
			return err
		}
		dots := max(200, int(a.rate*b.length.Seconds()))
		took, err := openLoop{Connections: 20, Dots: dots, Rate: a.rate, Size: small}.apart(ctx, b.self, r.addr)
		if err != nil {
			return err
		}
		a.took(each(took, func(d time.Duration) float64 { return float64(d) }))
		return nil
	})
	return a, err
}

// took notes the latencies of a turn.
func (a *answering) took(all []float64) {
	a.p50, a.p99 = time.Duration(quantile(all, 0.5)), time.Duration(quantile(all, 0.99))
}

// diskTurn has a thread write and sync at that rate, with no server and no
// network: no server that syncs is faster than that.
func (b *bench) diskTurn(rate float64) (a answering, err error) {
	a.rate = rate
	if a.sync, err = oneSync(b.dir); err != nil {
		return a, err
	}
	took, err := syncTimes(b.dir, max(200, int(rate*b.length.Seconds())), rate)
	if err == nil {
		a.took(took)
	}
	return a, err
}

// oneSync is how long one sync takes when one follows the other.
func oneSync(dir string) (time.Duration, error) {
	syncs, err := syncTimes(dir, 200, 0)
	if err != nil {
		return 0, err
	}
	return time.Duration(median(syncs)), nil
}

func (b *bench) latencySection(servers []server, turns map[string][]answering) section {
	s := section{
		title: "Latency of the final dot",
		text: fmt.Sprintf("Each server is sent final dots at a fixed rate, a quarter of what it took a second from 20 connections (4 KB, plain), for %s. "+
			"There are 20 connections, on each of which all but the dot has been sent when the dot falls due. The latency counts from the time the dot was due, "+
			"whether or not the client or its connection was free then, to the 250. The client is a process of its own that pipelines MAIL, RCPT and DATA, "+
			"so as to leave the processors to the server. Just before, the disk is synced 200 times: an fdatasync of 4 KiB "+
			"written into a file that was there and full. The disk alone is one thread that does the same at the journal's rate, counted from when it was due: "+
			"a disk that is asked less often, and a machine that sleeps in between, may take longer for each. %s.", b.length, plural(b.rounds, "round")),
	}
	t := table{header: []string{"server", "dots/s", "p50", "p99", "one sync of the disk", "p99 in syncs"}}
	micros := func(turns []answering, f func(answering) time.Duration) string {
		return spread(each(turns, func(a answering) float64 { return float64(f(a).Microseconds()) }), "%.0f") + " µs"
	}
	for _, srv := range append(servers, server{name: diskAlone}) {
		if srv.missing != "" {
			t.rows = append(t.rows, []string{srv.name, "not measured: " + srv.missing})
			continue
		}
		a := turns[srv.name]
		t.rows = append(t.rows, []string{
			srv.name, spread(each(a, func(a answering) float64 { return a.rate }), "%.0f"),
			micros(a, func(a answering) time.Duration { return a.p50 }),
			micros(a, func(a answering) time.Duration { return a.p99 }),
			micros(a, func(a answering) time.Duration { return a.sync }),
			spread(each(a, answering.syncs), "%.1f"),
		})
	}
	s.tables = []table{t}
	s.verdicts = []verdict{hold("p99 of the final dot at a quarter of the peak rate", atMost(5, "%.1f", " syncs of the disk"),
		each(turns[journal.name], answering.syncs), each(turns[directories.name], answering.syncs))}
	return s
}
