package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// grown is the memory of a process before and with something.
type grown struct{ before, with int64 }

func (g grown) mib() float64 { return float64(g.with-g.before) / (1 << 20) }

func (g grown) eachKiB(n int) float64 { return float64(g.with-g.before) / float64(n) / 1024 }

// holders is the servers whose memory is measured: those that are one process.
// Incoming delivers.
func (b *bench) holders() []server {
	return []server{
		b.peer(goSMTPName, "", "go-smtp"),
		b.peer(smtpdName, "", "smtpd"),
		b.peer(engineName, "", asBatch+"engine"),
		b.incoming(journal, true),
		b.incoming(directories, true),
	}
}

// idleMemory opens connections, says EHLO on each and leaves them.
func idleMemory(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Idle connections",
		text: fmt.Sprintf("%d connections after EHLO, or after STARTTLS and a second EHLO; the growth of the process's resident memory, divided by them, "+
			"%s after the last was opened.", b.idle, b.settle),
	}
	t := table{header: []string{"server", "plain", "TLS"}}
	found := make(map[string][2][]float64)
	for _, srv := range b.holders() {
		row := []string{srv.name}
		var figures [2][]float64
		for i, secure := range []bool{false, true} {
			g, err := b.idleTurn(ctx, srv, secure)
			if err != nil {
				return s, err
			}
			figures[i] = []float64{g.eachKiB(b.idle)}
			row = append(row, fmt.Sprintf("%.1f KiB (%.1f to %.1f MiB)", figures[i][0], float64(g.before)/(1<<20), float64(g.with)/(1<<20)))
			b.progress("idle, TLS %v: %-34s %.1f KiB", secure, srv.name, figures[i][0])
		}
		found[srv.name] = figures
		t.rows = append(t.rows, row)
	}
	s.tables = []table{t}
	on, off := found[journal.delivering()], found[directories.delivering()]
	s.verdicts = []verdict{
		hold("resident memory an idle connection, plain", atMost(8, "%.1f", " KiB"), on[0], off[0]),
		hold("resident memory an idle connection, TLS", atMost(25, "%.1f", " KiB"), on[1], off[1]),
	}
	return s, nil
}

func (b *bench) idleTurn(ctx context.Context, srv server, secure bool) (g grown, err error) {
	err = b.with(ctx, srv, secure, func(r *running, _ string) error {
		first, err := dial(ctx, r.addr, secure)
		if err != nil {
			return err
		}
		defer hangUp([]*client{first})
		if g.before, err = resident(r.pid, "VmRSS"); err != nil {
			return err
		}
		clients, err := dialAll(ctx, r.addr, b.idle, secure)
		defer hangUp(clients)
		if err != nil {
			return err
		}
		select {
		case <-time.After(b.settle):
		case <-ctx.Done():
			return ctx.Err()
		}
		g.with, err = resident(r.pid, "VmRSS")
		// Whoever was hung up on meanwhile was not measured.
		return errors.Join(err, clients[0].command("NOOP", "250"))
	})
	return g, err
}

// receiving is how many connections send a large message at once.
const receiving = 100

// receivingMemory sends large messages on many connections at once.
func receivingMemory(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Large messages",
		text: fmt.Sprintf("`smtp-source -d -s %d -m %d -l %d`; the most that was ever resident, less what was resident before. "+
			"smtpd is left out: it holds each message in memory whole.", receiving, receiving, b.large),
	}
	t := table{header: []string{"server", "before", "at most", "growth", "MB/s"}}
	found := make(map[string][]float64)
	for _, srv := range b.holders() {
		if srv.name == smtpdName {
			continue
		}
		g, took, err := b.receivingTurn(ctx, srv)
		if err != nil {
			return s, err
		}
		speed := float64(receiving*b.large) / 1e6 / took.Seconds()
		b.progress("receiving: %-34s %.1f MiB, %.0f MB/s", srv.name, g.mib(), speed)
		found[srv.name] = []float64{g.mib()}
		t.rows = append(t.rows, []string{srv.name, mib(g.before), mib(g.with), fmt.Sprintf("%.1f MiB", g.mib()), fmt.Sprintf("%.0f", speed)})
	}
	s.tables = []table{t}
	s.verdicts = []verdict{hold(fmt.Sprintf("growth of resident memory while %d connections send %.0f MB each", receiving, float64(b.large)/1e6),
		atMost(64, "%.1f", " MiB"), found[journal.delivering()], found[directories.delivering()])}
	return s, nil
}

func (b *bench) receivingTurn(ctx context.Context, srv server) (g grown, took time.Duration, err error) {
	err = b.with(ctx, srv, false, func(r *running, _ string) (err error) {
		if _, err = (load{connections: 1, messages: 1, size: small}).send(ctx, r.addr); err != nil {
			return err
		}
		if g.before, err = resident(r.pid, "VmRSS"); err != nil {
			return err
		}
		if took, err = (load{connections: receiving, messages: receiving, size: b.large}).send(ctx, r.addr); err != nil {
			return err
		}
		g.with, err = resident(r.pid, "VmHWM")
		return err
	})
	return g, took, err
}

func mib(octets int64) string { return fmt.Sprintf("%.1f MiB", float64(octets)/(1<<20)) }
