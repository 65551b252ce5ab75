package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Names by which figures are found again.
const (
	sinkName       = "smtp-sink"
	engineName     = "Incoming's engine, discarding"
	usualName      = "the engine, not as batch work"
	goSMTPName     = "go-smtp, discarding"
	goSMTPBatch    = "go-smtp, as batch work"
	goSMTPFileName = "go-smtp, a file a message"
	smtpdName      = "smtpd, discarding"
	postfixName    = "Postfix"
)

// layout is one of the two ways in which Incoming keeps messages.
type layout struct {
	journal bool
	name    string
	stores  string
}

var (
	journal     = layout{true, "Incoming, journal", "a synced record in its journal"}
	directories = layout{false, "Incoming, directories", "raw, meta, both directories synced"}
)

// delivering is the name of the row in which every message is delivered too.
func (l layout) delivering() string { return l.name + ", delivering" }

// servers is everybody who has a turn.
func (b *bench) servers() []server {
	all := []server{
		{name: sinkName, missing: needs("smtp-sink"), plainOnly: "it speaks no TLS", start: startSink},
		b.peer(engineName, "", asBatch+"engine"),
		inClear(b.peer(usualName, "", "engine")),
		b.peer(goSMTPName, "", "go-smtp"),
		inClear(b.peer(goSMTPBatch, "", asBatch+"go-smtp")),
		b.peer(smtpdName, "", "smtpd"),
		b.peer(goSMTPFileName, "one file, synced, renamed", "go-smtp-file"),
		{name: postfixName, stores: "its queue, and delivers to discard", missing: needsPostfix(), start: b.startPostfix},
	}
	for _, l := range []layout{journal, directories} {
		all = append(all, b.incoming(l, false), b.incoming(l, true))
	}
	return all
}

// inClear is for what shows in clear already.
func inClear(s server) server {
	s.plainOnly = "what scheduling does shows in clear"
	return s
}

// incoming is the built daemon. It delivers to discard, as Postfix does, or not
// at all. More are arguments that it is given too.
func (b *bench) incoming(l layout, delivering bool, more ...string) server {
	s := server{name: l.name, stores: l.stores}
	to := "none"
	if delivering {
		s.name, s.stores, to = l.delivering(), l.stores+", and delivers to discard", "discard"
	}
	s.start = func(ctx context.Context, dir string, secure bool) (*running, error) {
		args := append([]string{"--deliver", to, "--set", "queue.journal=" + strconv.FormatBool(l.journal)}, more...)
		r, err := b.startIncoming(ctx, dir, secure, args...)
		if err != nil {
			return nil, err
		}
		r.delivers = delivering
		return r, nil
	}
	return s
}

func (b *bench) startIncoming(ctx context.Context, dir string, secure bool, args ...string) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	spool := filepath.Join(dir, "spool")
	args = append([]string{"serve", "--listen", addr, "--hostname", "bench.example.org", "--spool", spool,
		"--set", "limits.connections=20000", "--set", "queue.depth=2000000"}, args...)
	if secure {
		args = append(args, "--set", "listener.tls=optional", "--set", "listener.cert="+b.cert.cert, "--set", "listener.key="+b.cert.key)
	}
	p, err := spawn(dir, b.daemon, args...)
	if err != nil {
		return nil, err
	}
	if err := p.answering(ctx, addr); err != nil {
		return nil, err
	}
	return &running{
		addr:  addr,
		pid:   p.cmd.Process.Pid,
		depth: func(ctx context.Context) (depth, error) { return b.spoolDepth(ctx, spool) },
		stop:  p.stop,
	}, nil
}

// spoolDepth asks the daemon by its own tool, and looks into the spool for what
// is delivered and not yet removed.
func (b *bench) spoolDepth(ctx context.Context, spool string) (d depth, err error) {
	out, err := exec.CommandContext(ctx, b.daemon, "queue", "stats", "--json", "--spool", spool).Output()
	if err != nil {
		return d, fmt.Errorf("incoming queue stats: %w", err)
	}
	var stats struct{ Ready, Waiting, Leased int }
	if err := json.Unmarshal(out, &stats); err != nil {
		return d, fmt.Errorf("incoming queue stats: %w", err)
	}
	d.queued = stats.Ready + stats.Waiting + stats.Leased
	removing, err := entries(false, filepath.Join(spool, "trash"))
	d.onDisk = d.queued + removing
	return d, err
}

// needs says that a program is not installed.
func needs(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return program + " is not installed"
	}
	return ""
}

func startSink(ctx context.Context, dir string, _ bool) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	// It will not run as root: -u lets it give that up. 1000 is its backlog.
	p, err := spawn(dir, "smtp-sink", "-u", "nobody", addr, "1000")
	if err != nil {
		return nil, err
	}
	if err := p.answering(ctx, addr); err != nil {
		return nil, err
	}
	return &running{addr: addr, pid: p.cmd.Process.Pid, stop: p.stop}, nil
}
