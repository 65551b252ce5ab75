package soak

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/test/internal/daemon"
	"github.com/incoming-mx/incoming/test/internal/load"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_SOAK") != "")) }

const (
	connections = 12
	largest     = 20e6
)

// R16.
func TestAfterMixedLoadTheDaemonIsWhereItBegan(t *testing.T) {
	duration := asked(t)
	seed := load.Seed(t)
	warm, first := false, true
	ledger := load.NewLedger(seed, func(r *rand.Rand) (size int, binary bool) {
		size = load.Spread(r, load.MinSize, largest>>(8*r.IntN(2))) // one half is up to 78 KB
		if !warm {
			return load.MinSize, false
		}
		if first {
			size, first = largest, false
		}
		return size, r.IntN(3) == 0
	})
	hook := load.NewWebhook(t, ledger, seed)
	site := daemon.NewSite(t)
	site.Listen = nil
	s := &stage{ledger: ledger}
	conf := configure(t, s)
	d := site.Start(t, "--config", conf, "--http", "127.0.0.1:0", "--deliver", hook.URL, "--set", "webhook.format=raw",
		"--set", "delivery.backoff=50ms", "--set", "delivery.backoff_cap=1s")
	at := d.Listening(t)
	if len(at) != 2 {
		t.Fatalf("it listens on %v", at)
	}
	s.addr = map[security]string{plain: at[0], starttls: at[0], implicit: at[1]}
	http := d.HTTP(t)
	// The first messages have the journal open a segment, which it then keeps
	// open, and the daemon connect to the webhook.
	if err := s.play(t.Context(), act{plain, never, false}, rand.New(rand.NewPCG(seed, 1<<60))); err != nil {
		t.Fatal(err)
	}
	site.Empty(t)
	hook.CloseClientConnections()
	warm = true
	before := settled(t, http, nil)
	t.Logf("at the start: %s", before)

	played, most := s.soak(t, seed, duration, func() vitals { return measure(t, http) })
	t.Logf("%d connections in %s; the most: %s", played, duration, most)

	site.Empty(t)
	hook.CloseClientConnections() // they are the daemon's as long as we keep them
	after := settled(t, http, before)
	t.Logf("in the end: %s", after)
	sum := ledger.Account()
	t.Logf("%s; %d attempts were told to come again", sum, hook.PutOff())
	for _, m := range sum.Missing {
		t.Errorf("message %d of %d octets got a 250 and was not delivered", m.Number, m.Size)
	}
	if sum.Twice > 0 {
		t.Errorf("nobody was killed, and %d messages were delivered twice", sum.Twice)
	}
	for _, name := range []string{"incoming_panic_total", "incoming_spool_error_total", "incoming_delivery_dead_total", "incoming_message_enqueue_error_total"} {
		if after[name] > 0 {
			t.Errorf("%s is %v", name, after[name])
		}
	}
	d.Stop(t)
}

// soak plays every act again and again for a time, and each once at least. It
// returns how many it played, and the greatest of each measure meanwhile.
func (s *stage) soak(t *testing.T, seed uint64, duration time.Duration, measure func() vitals) (int, vitals) {
	t.Helper()
	acts := make(chan act)
	var players sync.WaitGroup
	for i := range connections {
		random := rand.New(rand.NewPCG(seed, 1<<62+uint64(i)))
		players.Go(func() {
			for a := range acts {
				if err := s.play(t.Context(), a, random); err != nil {
					t.Errorf("%s: %v", a, err)
				}
			}
		})
	}
	var (
		played int
		most   = make(vitals)
		random = rand.New(rand.NewPCG(seed, 1<<61))
		end    = time.After(duration)
		look   = time.NewTicker(100 * time.Millisecond)
	)
	defer look.Stop()
	for over := false; !over && !t.Failed(); {
		all := cycle()
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for len(all) > 0 && (!over || played < len(cycle())) {
			select {
			case acts <- all[0]:
				all = all[1:]
				played++
			case <-look.C:
				for name, n := range measure() {
					most[name] = max(most[name], n)
				}
			case <-end:
				over = true
			}
		}
	}
	close(acts)
	players.Wait()
	return played, most
}

// settled waits until the daemon is at rest: no session, and no more of anything
// than before. Where nothing was before, it waits for ten measures alike.
func settled(t *testing.T, addr string, before vitals) (now vitals) {
	t.Helper()
	var last vitals
	alike := 0
	daemon.Within(t, 3*time.Minute, "the daemon is at rest", func() error {
		last, now = now, measure(t, addr)
		if n := now["incoming_session_open"]; n > 0 {
			return fmt.Errorf("%v sessions are open", n)
		}
		if before == nil {
			if last != nil && last.goroutines() == now.goroutines() && last.descriptors() == now.descriptors() {
				alike++
			} else {
				alike = 0
			}
			if alike < 10 {
				return errors.New("it has just started")
			}
			return nil
		}
		return now.beyond(before)
	})
	return now
}

// configure writes a configuration with a listener for each way to speak.
func configure(t *testing.T, s *stage) (file string) {
	t.Helper()
	dir := t.TempDir()
	ca := testcert.NewCA(t)
	s.conf = ca.ClientConfig(daemon.Hostname)
	cert, key := ca.Issue(t, testcert.Options{Names: []string{daemon.Hostname}}).WriteFiles(t, dir)
	var text string
	for _, mode := range []string{"optional", "implicit"} {
		text += fmt.Sprintf("[[listener]]\nname = %q\naddress = \"127.0.0.1:0\"\ntls = %q\ncert = %q\nkey = %q\n", mode, mode, cert, key)
	}
	file = filepath.Join(dir, "incoming.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// asked skips a test that nobody asked for.
func asked(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("INCOMING_SOAK")
	if text == "" {
		t.Skip("set INCOMING_SOAK=20s to build the daemon and load it for so long")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("INCOMING_SOAK: %v", err)
	}
	return d
}
