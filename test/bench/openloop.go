package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// dotsCommand is how this program is told to run an open loop, in a process of
// its own: LOOP ADDRESS, where LOOP is an openLoop in JSON. It prints the latencies
// as JSON.
const dotsCommand = "send-dots"

// openLoop sends final dots at a fixed rate, whether or not the server keeps up:
// each dot has a time when it is due, and its latency counts from then until the
// 250. What a slow reply makes the dots after it wait is counted too.
type openLoop struct {
	Connections int
	Dots        int
	Rate        float64 // dots a second
	Size        int     // of the text before each
}

// apart runs it in a process of its own, which takes as little as it can of the
// processors that it shares with the server: Go's monitor, which else looks every
// 70 µs whether a thread of its process is stuck, does so every 3 ms there.
func (o openLoop) apart(ctx context.Context, self, addr string) (took []time.Duration, err error) {
	loop, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, dotsCommand, string(loop), addr)
	cmd.Stderr = os.Stderr
	out, err := outputOf(cmd, 3*time.Millisecond)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", dotsCommand, loop, err)
	}
	err = json.Unmarshal(out, &took)
	return took, err
}

// sendDots is what dotsCommand does.
func sendDots(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New(dotsCommand + " wants LOOP ADDRESS")
	}
	var o openLoop
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("%s: %w", dotsCommand, err)
	}
	took, err := o.run(ctx, args[1])
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(took)
}

// run returns the latency of each dot.
func (o openLoop) run(ctx context.Context, addr string) ([]time.Duration, error) {
	clients, err := dialAll(ctx, addr, o.Connections, false)
	defer hangUp(clients)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { hangUp(clients) })()
	text := message(o.Size)
	lanes := make([]*lane, len(clients))
	errs := make([]error, len(clients)+1)
	var working sync.WaitGroup
	var began sync.WaitGroup // all lanes wait for their first dot
	began.Add(len(lanes))
	for i, c := range clients {
		// Lane i has the dots i, i+n, i+2n …
		share := (o.Dots - i + len(lanes) - 1) / len(lanes)
		lanes[i] = &lane{client: c, took: make([]time.Duration, 0, share)}
		working.Go(func() {
			if errs[i] = lanes[i].work(text, share, &began); errs[i] != nil {
				cancel()
			}
		})
	}
	began.Wait()
	errs[len(clients)] = o.dispatch(ctx, lanes)
	if errs[len(clients)] != nil {
		cancel()
	}
	working.Wait()
	var took []time.Duration
	for _, l := range lanes {
		took = append(took, l.took...)
	}
	return took, errors.Join(errs...)
}

// dispatch sends each dot when it is due. It sleeps in the kernel on a thread of
// its own, since Go's timers may be a millisecond late.
func (o openLoop) dispatch(ctx context.Context, lanes []*lane) error {
	return wokenWithin(time.Nanosecond, func() error {
		start := time.Now()
		for i := range o.Dots {
			due := start.Add(time.Duration(float64(i) / o.Rate * float64(time.Second)))
			if err := sleepUntil(due); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := lanes[i%len(lanes)].due(due); err != nil {
				return err
			}
		}
		return nil
	})
}

// lane is one connection of an open loop. Its goroutine prepares each message up
// to the dot and reads the reply; the dot itself is sent by whichever comes last:
// the dispatcher, when the dot falls due, or the lane, when it is late.
type lane struct {
	client *client
	took   []time.Duration

	mu    sync.Mutex
	ready bool        // all but the dot was sent
	owed  []time.Time // dots that fell due before
	since time.Time   // when the dot that was sent last was due
}

func (l *lane) work(text []byte, dots int, began *sync.WaitGroup) error {
	for i := range dots {
		err := l.prepare(text)
		if i == 0 {
			began.Done()
		}
		if err == nil {
			err = l.prepared()
		}
		if err == nil {
			err = l.client.reply("250")
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.took = append(l.took, time.Since(l.since))
		l.mu.Unlock()
	}
	if dots == 0 {
		began.Done()
	}
	return nil
}

func (l *lane) prepare(text []byte) error {
	if err := l.client.beginAtOnce(); err != nil {
		return err
	}
	_, err := l.client.conn.Write(text)
	return err
}

// prepared sends the dot if one is owed, and else leaves that to due.
func (l *lane) prepared() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.owed) == 0 {
		l.ready = true
		return nil
	}
	l.since, l.owed = l.owed[0], l.owed[1:]
	return l.dot()
}

// due sends a dot if the lane is ready for it, and else has it owed.
func (l *lane) due(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ready {
		l.owed = append(l.owed, at)
		return nil
	}
	l.ready, l.since = false, at
	return l.dot()
}

func (l *lane) dot() error {
	_, err := l.client.conn.Write([]byte(".\r\n"))
	return err
}
