package main

import (
	"fmt"
	"slices"
)

// throughputSection is a table for each size, plain and over TLS, and one of what
// became of the queues.
func (b *bench) throughputSection(servers []server) section {
	s := section{
		title: "Receiving",
		text: fmt.Sprintf("Messages a second, and the processors' time a message, of the whole machine, client and all else that ran included. "+
			"A turn is as many messages as the server takes in about %s, going by how fast it was just before, but at most %d. "+
			"%s, and %d of the kinds that nothing is held against; median, and the lowest and highest turn. "+
			"Plain, the client is `smtp-source -d -s CONNECTIONS -l OCTETS`. That speaks no TLS: in the tables with TLS the client is this "+
			"program's own, for all servers alike, and its time begins when all connections are secure.",
			b.length, b.messages, plural(b.rounds, "round"), b.roundsOf(cell{size: large})),
	}
	for kind, cells := range b.kinds() {
		s.tables = append(s.tables, b.kindTable(kind, cells, servers))
	}
	s.tables = append(s.tables, b.queueTable(servers))
	s.verdicts = throughputVerdicts(b.turns)
	return s
}

// kinds yields the cells that differ only by the connections, in their order.
func (b *bench) kinds() func(yield func(string, []cell) bool) {
	return func(yield func(string, []cell) bool) {
		cells := b.cells()
		for len(cells) > 0 {
			kind := cells[0].kind()
			end := slices.IndexFunc(cells, func(c cell) bool { return c.kind() != kind })
			if end < 0 {
				end = len(cells)
			}
			if !yield(kind, cells[:end]) {
				return
			}
			cells = cells[end:]
		}
	}
}

func (b *bench) kindTable(kind string, cells []cell, servers []server) table {
	t := table{title: kind, header: []string{"server", "stores"}}
	for _, c := range cells {
		t.header = append(t.header, plural(c.connections, "connection")+": messages/s", "CPU")
	}
	for _, srv := range servers {
		row := []string{srv.name, stores(srv)}
		if why := srv.lacks(cells[0].secure); why != "" {
			row = append(row, "not measured: "+why)
		} else {
			for _, c := range cells {
				cpu := each(b.turns[c][srv.name], func(t turn) float64 { return float64(t.cpu.Microseconds()) })
				row = append(row, spread(b.turns.rates(c, srv.name), "%.0f"), spread(cpu, "%.0f")+" µs")
			}
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func stores(s server) string {
	if s.stores == "" {
		return "no"
	}
	return s.stores
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// queueTable is of the servers that deliver while they accept.
func (b *bench) queueTable(servers []server) table {
	t := table{
		title: "The queue, while every message is delivered to discard",
		text: "Left: in the queue when the last message of the turn was accepted. Growth: by how much it grew a second after the first quarter of the " +
			"turn, in parts of what was accepted a second. Then how long it took until the queue was empty, and until nothing of it was left on the disk.",
		header: []string{"server", "", "left", "growth", "empty after", "disk empty after"},
	}
	for _, srv := range servers {
		for _, c := range b.cells() {
			turns := b.turns[c][srv.name]
			if len(turns) == 0 || turns[0].queue == nil {
				continue
			}
			t.rows = append(t.rows, []string{
				srv.name, c.String(),
				spread(each(turns, func(t turn) float64 { return float64(t.queue.left) }), "%.0f"),
				spread(growths(turns), "%.2f"),
				spread(each(turns, func(t turn) float64 { return t.queue.drained.Seconds() }), "%.2f") + " s",
				spread(each(turns, func(t turn) float64 { return t.queue.cleared.Seconds() }), "%.2f") + " s",
			})
		}
	}
	return t
}

// growths is by how much the queue grew in parts of what was accepted.
func growths(turns []turn) []float64 {
	return each(turns, func(t turn) float64 { return t.queue.growth / t.rate })
}

// throughputVerdicts is what accepting is held against.
func throughputVerdicts(r results) []verdict {
	against := func(c cell, theirs string, least float64) verdict {
		what := fmt.Sprintf("durable accepting, %d connections, against %s", c.connections, theirs)
		return hold(what, atLeast(least, "%.2f", " times"), r.ratios(c, journal.name, theirs), r.ratios(c, directories.name, theirs))
	}
	engine := func(theirs string, least float64) verdict {
		return hold("the engine alone, discarding, 20 connections, against "+theirs, atLeast(least, "%.2f", " times"),
			r.ratios(main20, engineName, theirs), nil)
	}
	return []verdict{
		engine(sinkName, 0.95),
		engine(goSMTPName, 1.2),
		engine(goSMTPBatch, 1.2),
		against(main20, sinkName, 0.5),
		against(main20, goSMTPFileName, 3.5),
		against(main20, postfixName, 8),
		against(main100, sinkName, 0.8),
		hold("durable accepting while every message is delivered to discard, 20 connections, against "+sinkName, atLeast(0.4, "%.2f", " times"),
			r.ratios(main20, journal.delivering(), sinkName), r.ratios(main20, directories.delivering(), sinkName)),
		hold("the queue does not grow meanwhile: its growth in parts of what is accepted", atMost(0.02, "%.3f", ""),
			growths(r[main20][journal.delivering()]), growths(r[main20][directories.delivering()])),
	}
}
