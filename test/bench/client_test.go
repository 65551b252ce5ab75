package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// receiver takes messages and counts them; before each 250 it may wait.
type receiver struct {
	wait func(nth int)

	mu    sync.Mutex
	sizes []int
}

// start serves on a loopback port until the test ends, with STARTTLS.
func (r *receiver) start(t *testing.T) string {
	t.Helper()
	c, err := newCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return session{r.take}, nil }))
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	return l.Addr().String()
}

func (r *receiver) take(text io.Reader) error {
	n, err := io.Copy(io.Discard, text)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.sizes = append(r.sizes, int(n))
	nth := len(r.sizes)
	r.mu.Unlock()
	if r.wait != nil {
		r.wait(nth)
	}
	return nil
}

func TestTheSecureClientSendsEveryMessageOnce(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	took, err := load{connections: 3, messages: 20, size: 4096, secure: true}.send(t.Context(), r.start(t))
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	if len(r.sizes) != 20 || slices.Min(r.sizes) < 4096 || slices.Max(r.sizes) > 4200 {
		t.Errorf("messages of %v octets arrived", r.sizes)
	}
}

func TestALoadThatIsRefusedIsAnError(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	addr := r.start(t)
	c, err := dial(t.Context(), addr, false)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp([]*client{c})
	if err := c.command("DATA", "354"); err == nil || !strings.Contains(err.Error(), "wanted 354") {
		t.Errorf("a DATA out of turn: %v", err)
	}
}

// What one slow reply makes later dots wait is theirs too: with one connection
// and a dot due each millisecond, a reply that takes 200 ms puts those behind it
// late by what is left of that.
func TestAnOpenLoopCountsFromWhenTheDotWasDue(t *testing.T) {
	t.Parallel()
	const stall = 200 * time.Millisecond
	r := &receiver{wait: func(nth int) {
		if nth == 1 {
			<-time.After(stall)
		}
	}}
	took, err := openLoop{Connections: 1, Dots: 100, Rate: 1000, Size: 100}.run(t.Context(), r.start(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(took) != 100 || len(r.sizes) != 100 {
		t.Fatalf("%d latencies of %d messages", len(took), len(r.sizes))
	}
	// The dots due at 1 to 50 ms could not be sent before 200 ms.
	for i, d := range took[:51] {
		if least := stall - time.Duration(i)*time.Millisecond; d < least {
			t.Errorf("dot %d took %s, less than the %s left of the stall", i, d, least)
		}
	}
}

func TestAnOpenLoopEndsWhenTheServerDoes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := &receiver{wait: func(int) {
		cancel()
		<-time.After(50 * time.Millisecond)
	}}
	if _, err := (openLoop{Connections: 2, Dots: 1000, Rate: 10, Size: 100}).run(ctx, r.start(t)); err == nil {
		t.Error("an open loop that was cut off ended well")
	}
}

func TestDotsAreSentAsToldAndTheirLatenciesPrinted(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	var out bytes.Buffer
	loop := `{"Connections": 2, "Dots": 5, "Rate": 1000, "Size": 100}`
	if err := sendDots(t.Context(), []string{loop, r.start(t)}, &out); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	if err := json.Unmarshal(out.Bytes(), &took); err != nil {
		t.Fatal(err)
	}
	if len(took) != 5 || slices.Min(took) <= 0 || len(r.sizes) != 5 {
		t.Errorf("%v for %d messages", took, len(r.sizes))
	}
	for _, args := range [][]string{nil, {loop}, {"{", "127.0.0.1:1"}} {
		if err := sendDots(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestASpoolIsFilledMeasuredAndWeighed(t *testing.T) {
	t.Parallel()
	for _, withJournal := range []string{"true", "false"} {
		t.Run("journal="+withJournal, func(t *testing.T) {
			t.Parallel()
			spoolIsMeasured(t, withJournal)
		})
	}
}

func spoolIsMeasured(t *testing.T, withJournal string) {
	dir := t.TempDir()
	work := func(action, amount string) (f found) {
		t.Helper()
		var out strings.Builder
		if err := workSpool(t.Context(), []string{action, dir, withJournal, amount}, &out); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 0 {
			if err := json.Unmarshal([]byte(out.String()), &f); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	work("fill", "150")
	want := map[string]int{"true": 0, "false": 150}[withJournal]
	if n, err := entries(false, filepath.Join(dir, "committed")); err != nil || n != want {
		t.Errorf("%d messages have a directory, want %d: %v", n, want, err)
	}
	f := work("weigh", "0")
	if f.Depth != 150 || f.Opening <= 0 || f.Heap == 0 || f.Resident == 0 {
		t.Errorf("weighed %+v", f)
	}
	f = work("measure", "20000000")
	if f.Depth != 150 || f.Opening <= 0 || f.Opened <= 0 || f.Commits <= 0 || f.Leases <= 0 {
		t.Errorf("measured %+v", f)
	}
}
