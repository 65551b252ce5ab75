// Package send sends messages over SMTP or LMTP and measures how that went: a client
// for trying a server out and for loading it. It delivers nothing to the world:
// it looks up no MX and retries nothing.
package send

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// The ways to use TLS.
const (
	TLSNone     = "none"
	TLSStart    = "starttls"
	TLSImplicit = "implicit"
)

// maxFailedConnections in a row make one connection's worker give up.
const maxFailedConnections = 3

// Options says what to send where. Server, To and Message are required.
type Options struct {
	Server   string // host:port, or unix:/path
	LMTP     bool   // in place of SMTP
	Hello    string // "" is our address literal
	From     string // "" is the null sender
	To       []string
	TLS      string
	Insecure bool // any certificate will do
	Count    int  // messages; 0 is 1
	// Connections is how many are open at once; 0 is 1.
	Connections int
	Timeout     time.Duration // for each exchange; 0 is none
	// Message is the text of the nth message, from 0.
	Message func(n int) []byte
	// Progress, if set, is called after each message, by one caller at a time.
	Progress func(sent, failed int)
}

func (o *Options) tlsConfig() *tls.Config {
	host, _, err := net.SplitHostPort(o.Server)
	if err != nil {
		host = o.Server
	}
	return &tls.Config{ServerName: host, InsecureSkipVerify: o.Insecure, MinVersion: tls.VersionTLS12}
}

// Summary is how it went.
type Summary struct {
	Sent    int // accepted by a reply of 250
	Failed  int // refused, broken off, or not even tried
	Refused int // recipients refused of messages that were sent
	Octets  int64
	Elapsed time.Duration
	P50     time.Duration // from MAIL to the last reply, of those sent
	P99     time.Duration
	Reply   string   // to the last message that was sent
	Errors  []Reason // the most frequent first
}

// Reason is an error and how often it was met.
type Reason struct {
	Text  string `json:"text"`
	Times int    `json:"times"`
}

// maxReasons is the most different errors that are kept apart.
const maxReasons = 20

// tally gathers what the workers saw.
type tally struct {
	mu        sync.Mutex
	next      int
	sum       Summary
	latencies []time.Duration
	reasons   map[string]int
}

// Run sends. Its error is that nothing could be sent at all, for the server
// cannot be reached; everything else is in the Summary. When ctx ends, it stops
// between two messages.
func Run(ctx context.Context, o Options) (*Summary, error) {
	o.Count, o.Connections = max(o.Count, 1), max(o.Connections, 1)
	first, err := dial(ctx, &o)
	if err != nil {
		return nil, err
	}
	t := &tally{reasons: make(map[string]int)}
	began := time.Now()
	var workers sync.WaitGroup
	for i := range min(o.Connections, o.Count) {
		c := first
		if i > 0 {
			c = nil
		}
		workers.Go(func() { t.work(ctx, &o, c) })
	}
	workers.Wait()
	return t.summary(o.Count, time.Since(began)), nil
}

// work sends messages over one connection until none is left. c may be nil.
func (t *tally) work(ctx context.Context, o *Options, c *client) {
	defer func() {
		if c != nil {
			c.quit()
		}
	}()
	for broken := 0; broken < maxFailedConnections && ctx.Err() == nil; {
		n, ok := t.take(o.Count)
		if !ok {
			return
		}
		if c == nil {
			var err error
			if c, err = dial(ctx, o); err != nil {
				t.fail(o, err)
				broken++
				continue
			}
		}
		if !t.one(o, c, n) {
			c.close()
			c = nil
			broken++
			continue
		}
		broken = 0
	}
}

// one sends the nth message; false when the connection is of no use any more.
func (t *tally) one(o *Options, c *client, n int) bool {
	text := o.Message(n)
	began := time.Now()
	reply, refused, err := c.message(o.From, o.To, text)
	if err == nil {
		t.sent(o, len(text), time.Since(began), reply, refused)
		return true
	}
	t.fail(o, err)
	for _, e := range refused {
		t.reason(e)
	}
	var answer *refusal
	return errors.As(err, &answer) && answer.code != 421 && c.reset() == nil
}

func (t *tally) take(count int) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next == count {
		return 0, false
	}
	t.next++
	return t.next - 1, true
}

func (t *tally) sent(o *Options, octets int, took time.Duration, reply string, refused []error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Sent++
	t.sum.Octets += int64(octets)
	t.sum.Reply = reply
	t.sum.Refused += len(refused)
	t.latencies = append(t.latencies, took)
	for _, e := range refused {
		t.count(e)
	}
	t.progress(o)
}

func (t *tally) fail(o *Options, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Failed++
	t.count(err)
	t.progress(o)
}

func (t *tally) reason(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(err)
}

func (t *tally) count(err error) {
	text := err.Error()
	if _, known := t.reasons[text]; !known && len(t.reasons) >= maxReasons {
		text = "other errors"
	}
	t.reasons[text]++
}

func (t *tally) progress(o *Options) {
	if o.Progress != nil {
		o.Progress(t.sum.Sent, t.sum.Failed)
	}
}

func (t *tally) summary(count int, elapsed time.Duration) *Summary {
	s := t.sum
	s.Elapsed = elapsed
	if left := count - s.Sent - s.Failed; left > 0 {
		s.Failed += left
		t.reasons["not tried"] += left
	}
	slices.Sort(t.latencies)
	s.P50, s.P99 = quantile(t.latencies, 50), quantile(t.latencies, 99)
	for text, n := range t.reasons {
		s.Errors = append(s.Errors, Reason{Text: text, Times: n})
	}
	slices.SortFunc(s.Errors, func(a, b Reason) int {
		if a.Times != b.Times {
			return b.Times - a.Times
		}
		if a.Text < b.Text {
			return -1
		}
		return 1
	})
	return &s
}

// quantile is the percentth of sorted, by the nearest rank; 0 of none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(rank, 1)-1]
}

// Rate is the messages sent a second.
func (s *Summary) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Sent) / s.Elapsed.Seconds()
}

// String is the summary in one line.
func (s *Summary) String() string {
	text := fmt.Sprintf("%d sent, %d failed in %s: %.1f a second, latency p50 %s, p99 %s",
		s.Sent, s.Failed, round(s.Elapsed), s.Rate(), round(s.P50), round(s.P99))
	if s.Refused > 0 {
		text += fmt.Sprintf("; recipients refused: %d", s.Refused)
	}
	return text
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	for unit := time.Duration(1); unit < time.Second; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(10 * time.Millisecond)
}
