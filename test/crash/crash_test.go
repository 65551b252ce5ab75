package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
	"github.com/incoming-mx/incoming/test/internal/load"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_CRASH_KILLS") != "")) }

const (
	connections = 8
	largest     = 1e6
)

// TestWhatGotA250SurvivesKillNine kills the daemon again and again. Each of its
// lives delivers by another adapter, whichever is drawn, so that what one
// has accepted the next may deliver. In the end the account of all lives must
// come out. Q01, Q17.
func TestWhatGotA250SurvivesKillNine(t *testing.T) {
	kills := asked(t)
	seed := load.Seed(t)
	random := rand.New(rand.NewPCG(seed, 1))
	ledger := load.NewLedger(seed, func(r *rand.Rand) (int, bool) {
		return load.Spread(r, load.MinSize, largest), r.IntN(3) == 0
	})
	site := daemon.NewSite(t)
	all := newAdapters(t, site, ledger, seed)
	early := 0
	for n := range kills {
		before := ledger.Account().Accepted
		to := all[random.IntN(len(all))]
		d := site.Launch(t, options(to.to)...)
		how := "under load"
		if random.IntN(8) == 0 { // it has not yet said where it listens, or just
			early++
			how = "at its start"
			<-time.After(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
			d.Kill(t)
		} else {
			d.Await(t)
			killUnderLoad(t, d, ledger, all, random)
		}
		collect(t, all)
		t.Logf("kill %d, %s, delivering by %s: %d more got a 250", n+1, how, to.name, ledger.Account().Accepted-before)
		if t.Failed() {
			return
		}
	}
	for _, to := range all { // whatever is left, by each once
		d := site.Start(t, options(to.to)...)
		site.Idle(t, 5*time.Minute)
		d.Stop(t)
	}
	settle(t, all)
	collect(t, all)
	torn := site.OnlyTornIsDead(t)
	sum := ledger.Account()
	for _, m := range sum.Missing {
		t.Errorf("message %d of %d octets got a 250 and was not delivered", m.Number, m.Size)
	}
	t.Logf("%d kills, %d of them at the start: %s; %d torn messages set aside", kills, early, sum, torn)
	for _, to := range all {
		t.Logf("%s: %d attempts were told to come again", to.name, to.putOff(t))
	}
}

// options is what the daemon is started with besides.
func options(to string) []string {
	return []string{"--deliver", to, "--set", "webhook.format=raw", "--set", "delivery.backoff=50ms", "--set", "delivery.backoff_cap=1s"}
}

// killUnderLoad sends on many connections at once, reads what is delivered as it
// comes, and kills the daemon some time after the first message was accepted.
func killUnderLoad(t *testing.T, d *daemon.Daemon, ledger *load.Ledger, all []*adapter, random *rand.Rand) {
	t.Helper()
	var (
		senders sync.WaitGroup
		killed  atomic.Bool
		begun   = make(chan struct{}, 1)
		failed  = make(chan struct{}, connections)
		after   = time.Duration(random.Int64N(int64(time.Second)))
	)
	for range connections {
		own := rand.New(rand.NewPCG(random.Uint64(), 2))
		senders.Go(func() {
			err := sendTillKilled(t, d.Addr, ledger, own, begun)
			if !killed.Load() {
				t.Errorf("before it was killed: %v", err)
				failed <- struct{}{}
			}
		})
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	limit := time.After(time.Minute)
	var moment <-chan time.Time
	for alive := true; alive; {
		select {
		case <-look.C:
			collect(t, all)
		case <-begun:
			if moment == nil {
				moment, limit = time.After(after), nil
			}
		case <-moment:
			alive = false
		case <-failed:
			alive = false
		case <-limit:
			t.Error("nothing was accepted in a minute")
			alive = false
		}
	}
	killed.Store(true)
	d.Kill(t)
	senders.Wait()
}

// sendTillKilled sends one message after the other until the connection breaks,
// or a message is refused, and returns why it ended. It tells begun of those that
// are accepted, and waits for nobody to hear it.
func sendTillKilled(t *testing.T, addr string, ledger *load.Ledger, random *rand.Rand, begun chan<- struct{}) error {
	c, err := load.Connect(t.Context(), addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Banner(); err != nil {
		return err
	}
	if err := c.Hello(); err != nil {
		return err
	}
	for {
		m := ledger.Next()
		chunk := 0
		if m.Binary || random.IntN(2) == 0 {
			chunk = 1 + m.Size/4 + random.IntN(m.Size)
		}
		if err := c.Send(m, chunk); err != nil {
			return fmt.Errorf("message %d of %d octets, chunks of %d: %w", m.Number, m.Size, chunk, err)
		}
		ledger.Accepted(m)
		select {
		case begun <- struct{}{}:
		default:
		}
	}
}

// asked skips a test that nobody asked for.
func asked(t *testing.T) (kills int) {
	t.Helper()
	text := os.Getenv("INCOMING_CRASH_KILLS")
	if text == "" {
		t.Skip("set INCOMING_CRASH_KILLS=200 to build the daemon and kill it so often")
	}
	kills, err := strconv.Atoi(text)
	if err != nil || kills < 1 {
		t.Fatalf("INCOMING_CRASH_KILLS is %q", text)
	}
	return kills
}
