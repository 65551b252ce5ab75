package hostile

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_HOSTILE") != "")) }

// asked is how much of it there is to be.
type asked struct {
	slow     int           // connections
	every    time.Duration // each sends an octet
	rate     int           // connections a second in the flood
	measured time.Duration
	strict   bool // how long mail takes is compared
}

func ask(t *testing.T) asked {
	t.Helper()
	switch how := os.Getenv("INCOMING_HOSTILE"); how {
	case "":
		t.Skip("INCOMING_HOSTILE is not set: full, or short")
	case "full":
		return asked{slow: 10_000, every: 20 * time.Second, rate: 1000, measured: 20 * time.Second, strict: true}
	case "short":
		return asked{slow: 400, every: time.Second, rate: 200, measured: 2 * time.Second}
	default:
		t.Fatalf("INCOMING_HOSTILE is %q; set it to full or short", how)
	}
	return asked{}
}

// latencies is how long messages took, each from connecting to QUIT.
type latencies []time.Duration

func (l latencies) quantile(q float64) time.Duration {
	s := slices.Sorted(slices.Values(l))
	return s[int(q*float64(len(s)-1))]
}

func (l latencies) String() string {
	return fmt.Sprintf("%d messages, median %v, p99 %v, longest %v", len(l), l.quantile(0.5).Round(10*time.Microsecond),
		l.quantile(0.99).Round(10*time.Microsecond), l.quantile(1).Round(10*time.Microsecond))
}

// behave sends messages one after the other, fifty a second at most, a
// connection each, as a well-behaved client does, until the time is over. Each
// must be accepted.
func behave(t *testing.T, addr string, d time.Duration) (took latencies) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	text := []byte("Subject: well-behaved\r\n\r\n" + strings.Repeat("All is as it should be here.\r\n", 60))
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		began := time.Now()
		if err := smtp.SendMail(addr, nil, "a@example.net", []string{"b@example.org"}, text); err != nil {
			t.Fatalf("a well-behaved client, after %d messages: %v", len(took), err)
		}
		took = append(took, time.Since(began))
	}
	return took
}

// crawl opens connections and has each send an octet now and then, half of them
// within a command, half within a text, until ctx ends.
func crawl(ctx context.Context, t *testing.T, addr string, a asked) (stop func()) {
	t.Helper()
	conns := make([]net.Conn, a.slow)
	for i := range conns {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("slow connection %d: %v", i+1, err)
		}
		conns[i] = nc
		r := bufio.NewReaderSize(nc, 256)
		expect := func(say, code string) {
			t.Helper()
			if _, err := io.WriteString(nc, say); err != nil {
				t.Fatal(err)
			}
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, code) {
				t.Fatalf("slow connection %d: %q, %v", i+1, line, err)
			}
		}
		expect("", "220")
		if i%2 == 1 {
			expect("HELO slow.example\r\n", "250")
			expect("MAIL FROM:<slow@example.net>\r\n", "250")
			expect("RCPT TO:<b@example.org>\r\n", "250")
			expect("DATA\r\n", "354")
		}
	}
	var crawling sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	crawling.Go(func() {
		each := a.every / time.Duration(len(conns))
		began := time.Now()
		for n := 0; ; n++ {
			if wait := time.Until(began.Add(time.Duration(n) * each)); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if _, err := io.WriteString(conns[n%len(conns)], "N"); err != nil {
				t.Errorf("slow connection %d is gone: %v", n%len(conns)+1, err)
				return
			}
		}
	})
	return func() {
		cancel()
		crawling.Wait()
		for _, nc := range conns {
			nc.Close()
		}
	}
}

// R06: many connections that hardly do anything cost those who do hardly
// anything.
func TestSlowConnectionsLeaveOthersServed(t *testing.T) {
	a := ask(t)
	d := daemon.NewSite(t).Start(t, "--deliver", "discard", "--set", "limits.connections=20000")
	quiet := behave(t, d.Addr, a.measured)
	t.Logf("quiet: %s", quiet)
	stop := crawl(t.Context(), t, d.Addr, a)
	slow := behave(t, d.Addr, max(a.measured, a.every+5*time.Second))
	stop()
	t.Logf("with %d connections that send an octet each %v: %s", a.slow, a.every, slow)
	if q, s := quiet.quantile(0.99), slow.quantile(0.99); a.strict && s > 2*q {
		t.Errorf("p99 went from %v to %v", q, s)
	}
	d.Stop(t)
}

// flood connects from one address at a rate, reads what it is told, and comes
// again, until stop. It first takes as many connections as one address may have.
func flood(t *testing.T, addr, from string, rate int) (stop func() (served, turnedAway, failed int64)) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	var held []net.Conn
	var served, turnedAway, failed atomic.Int64
	come := func() (net.Conn, string) {
		nc, err := dialer.Dial("tcp", addr)
		if err != nil {
			return nil, ""
		}
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second)) // it fails with the read
		line, err := bufio.NewReaderSize(nc, 256).ReadString('\n')
		if err != nil {
			line = ""
		}
		return nc, line
	}
	for {
		nc, line := come()
		if nc == nil {
			t.Fatal("the flood cannot connect")
		}
		held = append(held, nc)
		if !strings.HasPrefix(line, "220 ") {
			break
		}
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		began := time.Now()
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
			}
			all.Go(func() {
				nc, line := come()
				switch {
				case strings.HasPrefix(line, "220 "):
					served.Add(1)
				case strings.HasPrefix(line, "421 4.7.0 "):
					turnedAway.Add(1)
				default:
					failed.Add(1)
				}
				if nc != nil {
					nc.Close()
				}
			})
		}
	})
	return func() (int64, int64, int64) {
		close(over)
		all.Wait()
		for _, nc := range held {
			nc.Close()
		}
		return served.Load(), turnedAway.Load(), failed.Load()
	}
}

// R08: one address that connects without end leaves the others served.
func TestFloodFromOneAddressLeavesOthersServed(t *testing.T) {
	a := ask(t)
	if nc, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("udp", "127.0.0.1:9"); err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	} else {
		nc.Close()
	}
	d := daemon.NewSite(t).Start(t, "--deliver", "discard", "--set", "limits.exempt=[]")
	quiet := behave(t, d.Addr, a.measured)
	t.Logf("quiet: %s", quiet)
	began := time.Now()
	stop := flood(t, d.Addr, "127.0.0.2", a.rate)
	flooded := behave(t, d.Addr, a.measured)
	served, turnedAway, failed := stop()
	rate := float64(served+turnedAway+failed) / time.Since(began).Seconds()
	t.Logf("in a flood of %.0f connections a second, of which %d were served, %d turned away and %d got no reply: %s",
		rate, served, turnedAway, failed, flooded)
	if served > 0 || turnedAway == 0 {
		t.Errorf("%d of the flood were served, %d turned away", served, turnedAway)
	}
	if a.strict && rate < 0.9*float64(a.rate) {
		t.Errorf("the flood came at %.0f a second, not at %d", rate, a.rate)
	}
	if p := flooded.quantile(0.99); a.strict && p > time.Second {
		t.Errorf("p99 is %v", p)
	}
	d.Stop(t)
}
