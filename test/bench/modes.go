package main

import (
	"context"
	"fmt"
	"time"
)

// acceptModes is when the daemon answers the sender of a message that it delivers to
// discard, which takes it at once. The first is what the others are held against.
var acceptModes = []string{"durable", "hybrid", "sync"}

// modes measures how long a sender waits for his 250 in each mode. The daemons run
// side by side, and are given one message after another in turns, so that what the
// machine does meanwhile is done to all.
func modes(ctx context.Context, b *bench) (section, error) {
	took := make(map[string][]float64) // µs
	if err := b.inModes(ctx, nil, func(servers []*running) error {
		var clients []*client
		defer func() { hangUp(clients) }()
		for _, r := range servers {
			c, err := dial(ctx, r.addr, false)
			if err != nil {
				return err
			}
			clients = append(clients, c)
		}
		text := append(message(small), ".\r\n"...)
		const warming = 100
		for i, began := 0, time.Now(); i < warming+500 || time.Since(began) < time.Duration(b.rounds)*b.length; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			for n := range clients {
				n = (n + i) % len(clients)
				d, err := clients[n].waitFor250(text)
				if err != nil {
					return err
				}
				if i >= warming {
					took[acceptModes[n]] = append(took[acceptModes[n]], float64(d.Microseconds()))
				}
			}
		}
		return nil
	}); err != nil {
		return section{}, err
	}
	return modesSection(took), nil
}

// inModes runs f with a daemon for each mode.
func (b *bench) inModes(ctx context.Context, servers []*running, f func([]*running) error) error {
	if len(servers) == len(acceptModes) {
		return f(servers)
	}
	mode := acceptModes[len(servers)]
	s := server{name: mode, start: func(ctx context.Context, dir string, secure bool) (*running, error) {
		return b.startIncoming(ctx, dir, secure, "--deliver", "discard", "--set", "delivery.accept="+mode)
	}}
	return b.with(ctx, s, false, func(r *running, _ string) error { return b.inModes(ctx, append(servers, r), f) })
}

// waitFor250 sends a message and returns how long its text and dot took to be
// answered.
func (c *client) waitFor250(text []byte) (time.Duration, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := c.conn.Write(text); err != nil {
		return 0, err
	}
	err := c.reply("250")
	return time.Since(began), err
}

func modesSection(took map[string][]float64) section {
	durable := took[acceptModes[0]]
	s := section{
		title: "When the sender is answered",
		text: fmt.Sprintf("Daemons in each of the modes of `delivery.accept`, with their journals, side by side. Each delivers to discard, which takes a message at once. "+
			"One connection to each is given a message of 4 KB in turns, %s each; the time is from the text and its dot to the 250.", plural(len(durable), "message")),
	}
	t := table{header: []string{"mode", "p50", "p90", "p50 of " + acceptModes[0]}}
	for _, mode := range acceptModes {
		share := median(took[mode]) / median(durable)
		t.rows = append(t.rows, []string{mode, fmt.Sprintf("%.0f µs", median(took[mode])), fmt.Sprintf("%.0f µs", quantile(took[mode], 0.9)), fmt.Sprintf("%.2f", share)})
		if mode == "hybrid" {
			s.verdicts = []verdict{hold("Time to the 250 in hybrid mode, with an adapter that takes a message at once", atMost(1.1, "%.2f", " of durable mode"), []float64{share}, nil)}
		}
	}
	s.tables = []table{t}
	return s
}
