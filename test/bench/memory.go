package main

import (
	"context"
	"errors"
	"fmt"
)

// grown is the memory of a process before and with something.
type grown struct{ before, with int64 }

func (g grown) first() float64  { return float64(g.before) / (1 << 20) }
func (g grown) then() float64   { return float64(g.with) / (1 << 20) }
func (g grown) growth() float64 { return g.then() - g.first() }

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

// eachRound calls measure for each server in each round, each round another one
// first, and returns by name what it came to in each. A quick run has one round.
func eachRound[T any](b *bench, servers []server, measure func(server) (T, error)) (map[string][]T, error) {
	all := make(map[string][]T)
	rounds := b.rounds
	if b.quick {
		rounds = 1
	}
	for round := range rounds {
		for _, s := range rotated(servers, round) {
			turn, err := measure(s)
			if err != nil {
				return nil, err
			}
			all[s.name] = append(all[s.name], turn)
		}
	}
	return all, nil
}

// idleMemory opens connections, says EHLO on each and leaves them.
func idleMemory(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Idle connections",
		text: fmt.Sprintf("%d connections after EHLO, or after STARTTLS and a second EHLO; the growth of the process's resident memory, divided by them, "+
			"%s after the last was opened. Postfix has a process for each connection, and smtp-sink no TLS: both are left out.", b.idle, b.settle),
	}
	var found [2]map[string][]grown // in clear, with TLS
	for i, secure := range []bool{false, true} {
		var err error
		if found[i], err = eachRound(b, b.holders(), func(srv server) (grown, error) {
			g, err := b.idleTurn(ctx, srv, secure)
			if err == nil {
				b.progress("idle, TLS %v: %-34s %.1f KiB", secure, srv.name, g.eachKiB(b.idle))
			}
			return g, err
		}); err != nil {
			return s, err
		}
	}
	eachKiB := func(turns []grown) []float64 { return each(turns, func(g grown) float64 { return g.eachKiB(b.idle) }) }
	t := table{header: []string{"server", "plain", "of the process, before and with them", "TLS", "of the process, before and with them"}}
	for _, srv := range b.holders() {
		row := []string{srv.name}
		for _, turns := range found {
			row = append(row, spread(eachKiB(turns[srv.name]), "%.1f")+" KiB",
				mib(turns[srv.name], grown.first)+", "+mib(turns[srv.name], grown.then))
		}
		t.rows = append(t.rows, row)
	}
	s.tables = []table{t}
	on, off := journal.delivering(), directories.delivering()
	s.verdicts = []verdict{
		hold("resident memory an idle connection, plain", atMost(8, "%.1f", " KiB"), eachKiB(found[0][on]), eachKiB(found[0][off])),
		hold("resident memory an idle connection, TLS", atMost(25, "%.1f", " KiB"), eachKiB(found[1][on]), eachKiB(found[1][off])),
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
		if !pause(ctx, b.settle) {
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

// received is a turn of that.
type received struct {
	grown
	speed float64 // MB/s
}

// receivingMemory sends large messages on many connections at once.
func receivingMemory(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Large messages",
		text: fmt.Sprintf("`smtp-source -d -s %d -m %d -l %d`; the most that was ever resident, less what was resident before. "+
			"smtpd is left out, for it holds each message in memory whole; Postfix, which has a process for each connection; and smtp-sink, which keeps nothing.", receiving, receiving, b.large),
	}
	var servers []server
	for _, srv := range b.holders() {
		if srv.name != smtpdName {
			servers = append(servers, srv)
		}
	}
	found, err := eachRound(b, servers, func(srv server) (received, error) {
		r, err := b.receivingTurn(ctx, srv)
		if err == nil {
			b.progress("receiving: %-34s %.1f MiB, %.0f MB/s", srv.name, r.growth(), r.speed)
		}
		return r, err
	})
	if err != nil {
		return s, err
	}
	t := table{header: []string{"server", "before", "at most", "growth", "MB/s"}}
	growth := func(srv string) []float64 { return each(found[srv], received.growth) }
	for _, srv := range servers {
		turns := found[srv.name]
		t.rows = append(t.rows, []string{srv.name, mib(turns, received.first), mib(turns, received.then),
			spread(growth(srv.name), "%.1f") + " MiB", spread(each(turns, func(r received) float64 { return r.speed }), "%.0f")})
	}
	s.tables = []table{t}
	s.verdicts = []verdict{hold(fmt.Sprintf("growth of resident memory while %d connections send %.0f MB each", receiving, float64(b.large)/1e6),
		atMost(64, "%.1f", " MiB"), growth(journal.delivering()), growth(directories.delivering()))}
	return s, nil
}

func (b *bench) receivingTurn(ctx context.Context, srv server) (g received, err error) {
	err = b.with(ctx, srv, false, func(r *running, _ string) (err error) {
		if _, err = (load{connections: 1, messages: 1, size: small}).send(ctx, r.addr); err != nil {
			return err
		}
		if g.before, err = resident(r.pid, "VmRSS"); err != nil {
			return err
		}
		took, err := (load{connections: receiving, messages: receiving, size: b.large}).send(ctx, r.addr)
		if err != nil {
			return err
		}
		g.speed = float64(receiving*b.large) / 1e6 / took.Seconds()
		g.with, err = resident(r.pid, "VmHWM")
		return err
	})
	return g, err
}

// mib is a measure of all turns in MiB.
func mib[T any](turns []T, of func(T) float64) string {
	return spread(each(turns, of), "%.1f") + " MiB"
}
