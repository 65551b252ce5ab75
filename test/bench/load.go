package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load is messages sent as fast as they are taken, on so many connections at
// once, each command after the reply to the one before.
type load struct {
	connections int
	messages    int
	size        int
	secure      bool
	file        string // the message, with LF; "" is one of size octets. Plain only
}

// send returns how long it took. It ends with an error as soon as a reply is not
// the one expected, so that what it sent was accepted. Plain it is smtp-source;
// that speaks no TLS, so secure it is a client of this program's own, whose time
// begins when all connections are secure.
func (l load) send(ctx context.Context, addr string) (time.Duration, error) {
	if l.secure {
		return l.sendSecure(ctx, addr)
	}
	text := []string{"-l", strconv.Itoa(l.size)}
	if l.file != "" {
		text = []string{"-F", l.file}
	}
	cmd := exec.CommandContext(ctx, "smtp-source", slices.Concat([]string{"-4", "-d", "-C", "100"}, text, []string{
		"-s", strconv.Itoa(l.connections), "-m", strconv.Itoa(l.messages),
		"-M", "client.example.org", "-f", "sender@example.org", "-t", "rcpt@example.org", addr})...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("smtp-source: %w\n%s", err, out)
	}
	return took, nil
}

func (l load) sendSecure(ctx context.Context, addr string) (time.Duration, error) {
	clients, err := dialAll(ctx, addr, l.connections, true)
	defer hangUp(clients)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { hangUp(clients) })()
	text := append(message(l.size), ".\r\n"...)
	var left atomic.Int64
	left.Store(int64(l.messages))
	errs := make([]error, len(clients))
	var sending sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		sending.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				errs[i] = c.send(text)
			}
			if errs[i] != nil {
				cancel() // the others need not go on
			}
		})
	}
	sending.Wait()
	return time.Since(began), errors.Join(errs...)
}
