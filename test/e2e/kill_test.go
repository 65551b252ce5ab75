package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/smtp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWhatWasAcceptedSurvivesKillNine kills the daemon in the middle of a stream
// of messages, starts it again on the same spool, and wants every message that
// got a 250, byte for byte and once.
func TestWhatWasAcceptedSurvivesKillNine(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := newSite(t)
	accepted := make(map[string][]byte)
	for round := range kills(t) {
		d := site.start(t)
		got := stream(t, d)
		t.Logf("round %d: killed after %d messages were accepted", round+1, len(got))
		for own, text := range got {
			accepted[own] = text
		}
	}
	d := site.start(t)
	site.idle(t)
	site.onlyTornIsDead(t)
	found := site.delivered(t)
	for own, text := range accepted {
		copies := found[own]
		if len(copies) != 1 {
			t.Errorf("%s got a 250 and is there %d times", own, len(copies))
			continue
		}
		same(t, beneath(t, copies[0]), text)
	}
	for own, copies := range found {
		// Committed, and killed before its 250 went out: it may be there,
		// but whole.
		if _, ok := accepted[own]; !ok && !strings.HasSuffix(string(copies[0]), "\r\nend "+own+"\r\n") {
			t.Errorf("%s got no 250 and is there torn", own)
		}
	}
	t.Logf("%d messages got a 250; %d are there", len(accepted), len(found))
	d.stop(t)
}

// onlyTornIsDead wants every dead letter to be what a kill tore as it came in:
// it never had a 250, and is kept for whoever wants to look.
func (s site) onlyTornIsDead(t *testing.T) {
	t.Helper()
	dir := filepath.Join(s.spool, "dead")
	for _, name := range entries(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name, "dead.json"))
		if err != nil {
			t.Fatal(err)
		}
		var note struct{ Kind, Reason string }
		if err := json.Unmarshal(text, &note); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if note.Kind != "corrupt" || note.Reason != "incomplete" {
			t.Errorf("%s is dead: %s", name, text)
		}
	}
}

// kills is how often to kill.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("INCOMING_E2E_KILLS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 10000 {
		t.Fatalf("INCOMING_E2E_KILLS is %q", text)
	}
	return n
}

// stream sends on eight connections at once until the daemon is killed, which
// is done in the middle, and returns what got a 250.
func stream(t *testing.T, d *daemon) map[string][]byte {
	t.Helper()
	var (
		mu       sync.Mutex
		accepted = make(map[string][]byte)
		enough   = make(chan struct{})
		limit    = 50 + rand.IntN(300)
		senders  sync.WaitGroup
	)
	for range 8 {
		senders.Go(func() {
			err := sendUntilItDies(d.addr, func(own string, text []byte) {
				mu.Lock()
				defer mu.Unlock()
				accepted[own] = text
				if len(accepted) == limit {
					close(enough)
				}
			})
			if errors.Is(err, errRefused) {
				t.Errorf("a message was refused: %v", err)
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(2 * time.Minute):
		t.Error("too few messages were accepted in two minutes")
	}
	d.kill(t)
	senders.Wait()
	if len(accepted) < limit {
		t.Fatalf("%d messages were accepted before the kill, %d were wanted", len(accepted), limit)
	}
	return accepted
}

// errRefused is a reply that is no 250: the daemon lives and said no.
var errRefused = errors.New("refused")

// sendUntilItDies sends one message after the other, at most 100000, until the
// connection breaks.
func sendUntilItDies(addr string, accepted func(own string, text []byte)) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Hello("client.example.net"); err != nil {
		return err
	}
	for range 100000 {
		message := text(strings.Repeat("A line of the body.\r\n", rand.IntN(3000)))
		own := token(message)
		message = fmt.Appendf(message, "end %s\r\n", own)
		if err := sendOne(c, message); err != nil {
			return err
		}
		accepted(own, message)
	}
	return nil
}

func sendOne(c *smtp.Client, message []byte) error {
	if err := c.Mail("sender@client.example.net"); err != nil {
		return refusal(err)
	}
	if err := c.Rcpt("rcpt@example.org"); err != nil {
		return refusal(err)
	}
	w, err := c.Data()
	if err != nil {
		return refusal(err)
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	return refusal(w.Close()) // sends the last dot and reads the reply to it
}

// refusal marks an error that is a reply.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); len(text) > 3 && (text[0] == '4' || text[0] == '5') && text[3] == ' ' {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}
