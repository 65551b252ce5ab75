package main

import (
	"context"
	"os/exec"
	"path/filepath"
)

// Names by which verdicts find the rows they compare.
const (
	incomingName = "Incoming, directory layout"
	postfixName  = "Postfix"
)

// servers is everybody who has a turn.
func (b *bench) servers() []server {
	return []server{
		{name: "smtp-sink", missing: needs("smtp-sink"), start: startSink},
		b.peer("Incoming's engine, discarding", "", "engine"),
		b.peer("go-smtp, discarding", "", "go-smtp"),
		b.peer("smtpd, discarding", "", "smtpd"),
		b.peer("go-smtp, a file a message", "one file, synced, renamed", "go-smtp-file"),
		{name: postfixName, stores: "its queue, then discard", missing: needsPostfix(), start: startPostfix},
		{name: incomingName, stores: "raw, meta, both directories synced; then discard", start: b.startIncoming},
	}
}

// needs says that a program is not installed.
func needs(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return program + " is not installed"
	}
	return ""
}

// startIncoming runs the built daemon as its users do, but for the discard that
// Postfix is given too.
func (b *bench) startIncoming(ctx context.Context, dir string) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	spool := filepath.Join(dir, "spool")
	p, err := spawn(dir, b.daemon, "serve", "--listen", addr, "--hostname", "bench.example.org",
		"--spool", spool, "--deliver", "discard", "--set", "limits.connections=20000")
	if err != nil {
		return nil, err
	}
	if err := p.answering(ctx, addr); err != nil {
		return nil, err
	}
	return &running{
		addr: addr,
		pid:  p.cmd.Process.Pid,
		depth: func() (d depth, err error) {
			if d.queued, err = entries(false, filepath.Join(spool, "committed"), filepath.Join(spool, "processing")); err != nil {
				return d, err
			}
			removing, err := entries(false, filepath.Join(spool, "trash"))
			d.onDisk = d.queued + removing
			return d, err
		},
		stop: p.stop,
	}, nil
}

func startSink(ctx context.Context, dir string) (*running, error) {
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
