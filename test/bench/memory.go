package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// idleMemory opens connections, says EHLO on each and leaves them.
func idleMemory(ctx context.Context, b *bench) (section, error) {
	s := section{
		title: "Idle connections",
		text: fmt.Sprintf("%d connections after EHLO; the growth of the process's resident memory, divided by them, "+
			"2 s after the last was opened.", b.idle),
		header: []string{"server", "before", "with them", "a connection"},
	}
	for _, srv := range []server{b.peer("go-smtp", "", "go-smtp"), {name: incomingName, start: b.startIncoming}} {
		before, after, err := b.idleTurn(ctx, srv)
		if err != nil {
			return s, fmt.Errorf("%s: %w", srv.name, err)
		}
		each := float64(after-before) / float64(b.idle) / 1024
		s.rows = append(s.rows, []string{srv.name, mib(before), mib(after), fmt.Sprintf("%.1f KiB", each)})
		if srv.name == incomingName {
			s.verdicts = append(s.verdicts, verdict{
				what: "resident memory an idle connection", wanted: "at most 20 KiB",
				got: fmt.Sprintf("%.1f KiB", each), ok: each <= 20,
			})
		}
	}
	return s, nil
}

func (b *bench) idleTurn(ctx context.Context, srv server) (before, after int64, err error) {
	err = b.with(ctx, srv, func(r *running) error {
		first, err := hello(ctx, r.addr)
		if err != nil {
			return err
		}
		defer first.Close()
		if before, err = resident(r.pid, "VmRSS"); err != nil {
			return err
		}
		conns := make([]net.Conn, 0, b.idle)
		defer func() {
			for _, c := range conns {
				c.Close()
			}
		}()
		for range b.idle {
			c, err := hello(ctx, r.addr)
			if err != nil {
				return fmt.Errorf("connection %d: %w", len(conns)+1, err)
			}
			conns = append(conns, c)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err = resident(r.pid, "VmRSS")
		return err
	})
	return before, after, err
}

// largeMemory sends large messages on many connections at once.
func largeMemory(ctx context.Context, b *bench) (section, error) {
	const size = 20_000_000
	s := section{
		title: "Large messages",
		text: fmt.Sprintf("`smtp-source -d -s %d -m %d -l %d`; the most that was ever resident, less what was resident before.",
			b.large, b.large, size),
		header: []string{"server", "before", "at most", "growth", "MB/s"},
	}
	for _, srv := range []server{b.peer("go-smtp, discarding", "", "go-smtp"), {name: incomingName, start: b.startIncoming}} {
		var before, peak int64
		var took time.Duration
		err := b.with(ctx, srv, func(r *running) (err error) {
			if _, err = (load{sessions: 1, messages: 1, size: 4096}).send(ctx, r.addr); err != nil {
				return err
			}
			if before, err = resident(r.pid, "VmRSS"); err != nil {
				return err
			}
			if took, err = (load{sessions: b.large, messages: b.large, size: size}).send(ctx, r.addr); err != nil {
				return err
			}
			peak, err = resident(r.pid, "VmHWM")
			return err
		})
		if err != nil {
			return s, fmt.Errorf("%s: %w", srv.name, err)
		}
		speed := float64(b.large) * size / 1e6 / took.Seconds()
		s.rows = append(s.rows, []string{srv.name, mib(before), mib(peak), mib(peak - before), fmt.Sprintf("%.0f", speed)})
		if srv.name == incomingName {
			s.verdicts = append(s.verdicts, verdict{
				what: fmt.Sprintf("growth while %d connections send 20 MB each", b.large), wanted: "less than 64 MiB",
				got: mib(peak - before), ok: peak-before < 64<<20,
			})
		}
	}
	return s, nil
}

// with runs f while a server runs in a directory of its own.
func (b *bench) with(ctx context.Context, srv server, f func(*running) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "memory-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	r, err := srv.start(ctx, filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer func() {
		if serr := r.stop(); err == nil {
			err = serr
		}
	}()
	return f(r)
}

// hello connects and says EHLO.
func hello(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := greeted(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func greeted(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	// The reader is small: 5000 of them must not be what is measured, and
	// this is not the process that is.
	r := bufio.NewReaderSize(c, 512)
	if err := reply(r, "220"); err != nil {
		return err
	}
	if _, err := c.Write([]byte("EHLO client.example.org\r\n")); err != nil {
		return err
	}
	return reply(r, "250")
}

// reply reads one reply, of any number of lines, and wants its code.
func reply(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("wanted %s, got %q", code, line)
		}
		if len(line) < 4 || line[3] != '-' {
			return nil
		}
	}
}

func mib(octets int64) string { return fmt.Sprintf("%.1f MiB", float64(octets)/(1<<20)) }
