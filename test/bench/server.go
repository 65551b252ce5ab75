package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is something that takes mail, in processes of its own.
type server struct {
	name   string
	stores string // how a message is made safe before its 250; "" keeps nothing
	// missing says why it cannot be measured here, and plainOnly why not over
	// TLS; "" when it can.
	missing, plainOnly string
	// start runs it with its files in dir. It offers STARTTLS when secure.
	start func(ctx context.Context, dir string, secure bool) (*running, error)
}

// lacks says why the server cannot be measured so; "" when it can.
func (s server) lacks(secure bool) string {
	if s.missing == "" && secure {
		return s.plainOnly
	}
	return s.missing
}

// with runs f while the server runs in a directory of its own below b.dir, which
// is removed afterwards.
func (b *bench) with(ctx context.Context, s server, secure bool, f func(r *running, dir string) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "turn-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix has to get in
		return err
	}
	r, err := s.start(ctx, dir, secure)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer func() {
		if serr := r.stop(); err == nil {
			err = serr
		}
	}()
	if err := f(r, dir); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// running is a server that answers.
type running struct {
	addr string
	pid  int // the process whose memory is measured
	// delivers says that it delivers what it accepts, by way of a queue, and
	// depth what that holds.
	delivers bool
	depth    func(ctx context.Context) (depth, error)
	stop     func() error
}

// depth is what is in a queue.
type depth struct {
	queued int // messages taken and not yet delivered
	onDisk int // those, and those delivered and not yet removed
}

// process is a program that was started, with its output in a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error // receives what Wait returned
}

// spawn starts a program whose output goes to a file in dir.
func spawn(dir, program string, args ...string) (*process, error) {
	log := filepath.Join(dir, filepath.Base(program)+".log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	err = cmd.Start()
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p, nil
}

// answering waits until addr gives a banner, and stops the process when it does
// not.
func (p *process) answering(ctx context.Context, addr string) error {
	err := banner(ctx, addr, p.done)
	if err == nil {
		return nil
	}
	stopErr := p.stop()
	return errors.Join(fmt.Errorf("%s: %w\n%s", p.cmd.Path, err, tail(p.log)), stopErr)
}

// stop ends the process: by SIGTERM, by SIGKILL when that takes 30 s.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.done
	return fmt.Errorf("%s had to be killed", p.cmd.Path)
}

// banner waits at most 20 s for a 220 from addr.
func banner(ctx context.Context, addr string, done <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := greet(ctx, addr)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no banner from %s: %w", addr, last)
		case err := <-done:
			return fmt.Errorf("ended before it answered: %v", err)
		case <-tick.C:
		}
	}
}

func greet(ctx context.Context, addr string) error {
	c, err := dial(ctx, addr, false)
	if err != nil {
		return err
	}
	return errors.Join(c.command("QUIT", "221"), c.conn.Close())
}

// freeAddr is a loopback address on which nobody listens at this moment.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// tail is the end of a log, for an error.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// entries counts what is in directories, below them too when deep.
func entries(deep bool, dirs ...string) (int, error) {
	n := 0
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // a queue may drop a folder while it is counted
		}
		if err != nil {
			return n, err
		}
		for _, e := range list {
			if !deep || !e.IsDir() {
				n++
				continue
			}
			below, err := entries(true, filepath.Join(dir, e.Name()))
			if err != nil {
				return n, err
			}
			n += below
		}
	}
	return n, nil
}
