package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is something that takes mail, in processes of its own.
type server struct {
	name   string
	stores string // how a message is made safe before its 250; "" keeps nothing
	// missing says why it cannot be measured here; "" when it can.
	missing string
	start   func(ctx context.Context, dir string) (*running, error)
}

// durable reports whether the server keeps what it takes.
func (s server) durable() bool { return s.stores != "" }

// running is a server that answers.
type running struct {
	addr string
	pid  int // the process whose memory is measured
	// depth is what a server with a queue holds; nil for one without.
	depth func() (depth, error)
	stop  func() error
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
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "220") {
		return fmt.Errorf("banner is %q", line)
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
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
