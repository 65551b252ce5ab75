package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// absent skips what wants a client that is not there; a run in CI has them all.
func absent(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// TestWhatEveryClientSendsArrives sends every kind of message by every client in
// every way, and prints what came of it: Q09, a last line without an end too.
func TestWhatEveryClientSendsArrives(t *testing.T) {
	enabled(t)
	s, d := begin(t)
	sum := newSummary()
	t.Run("clients", func(t *testing.T) {
		for _, c := range clients() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if program := c.missing(); program != "" {
					sum.skip(c.name, program+" is not installed")
					absent(t, program+" is not installed")
				}
				send := c.ready(t, s)
				for _, k := range kinds() {
					for _, mode := range c.ways {
						t.Run(k.name+"/"+string(mode), func(t *testing.T) {
							defer func() { sum.note(c, k.name, !t.Failed()) }()
							try(t, s, c, send, k.make(), mode)
						})
					}
				}
			})
		}
	})
	s.site.Empty(t)
	if left := daemon.Entries(t, filepath.Join(s.site.Mail, "new")); len(left) > 0 {
		t.Errorf("%d messages arrived that nobody waits for", len(left))
	}
	d.Stop(t)
	t.Log(sum.table())
}

// try sends one message.
func try(t *testing.T, s *stage, c client, send sender, m message, mode security) {
	file := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(file, m.text, 0o600); err != nil {
		t.Fatal(err)
	}
	to := target{addr: s.addr[mode], mode: mode, stage: s}
	var wire *recorder
	if mode == clear && !c.chunks && c.onTop == nil { // a relay does not come by here
		wire = record(t, to.addr)
		to.addr = wire.addr
	}
	err := send(t, to, m, file)
	if why := c.cannot[m.name]; why != "" {
		reply, _, _ := strings.Cut(why, ":")
		if err == nil || !strings.Contains(err.Error(), reply) {
			t.Errorf("it should be refused by %s: %v", reply, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := envelope(t, s.arrived(t, m.token), m, mode)
	if c.onTop != nil {
		if got, err = c.onTop(got); err != nil {
			t.Fatal(err)
		}
	}
	want := m.ended()
	if c.chunks {
		want = m.text
	}
	same(t, "what arrived, against what the client was given", got, want)
	if wire != nil {
		texts := wire.texts()
		if len(texts) != 1 {
			t.Fatalf("the client sent %d texts", len(texts))
		}
		same(t, "what arrived, against what the client sent", got, texts[0])
	}
}

// summary is what came of each client's messages.
type summary struct {
	mu      sync.Mutex
	cells   map[[2]string]string
	remarks []string
}

func newSummary() *summary { return &summary{cells: make(map[[2]string]string)} }

func (s *summary) skip(client, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remarks = append(s.remarks, client+": not tried: "+why)
}

func (s *summary) note(c client, kind string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, word := [2]string{c.name, kind}, "ok"
	if why := c.cannot[kind]; why != "" {
		word, _, _ = strings.Cut(why, " ")
		if s.cells[at] == "" {
			s.remarks = append(s.remarks, c.name+", "+kind+": "+why)
		}
	}
	if !ok {
		word = "FAILED"
	}
	if s.cells[at] == "" || !ok {
		s.cells[at] = word
	}
}

// table is a row a client and a column a kind. A word stands for all its ways.
func (s *summary) table() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "each in clear, by STARTTLS and in TLS from the first octet, LMTP by TCP and by a unix socket:\n%-14s", "")
	for _, k := range kinds() {
		fmt.Fprintf(&b, "  %s", k.name)
	}
	for _, c := range clients() {
		fmt.Fprintf(&b, "\n%-14s", c.name)
		for _, k := range kinds() {
			word := s.cells[[2]string{c.name, k.name}]
			if word == "" {
				word = "-"
			}
			fmt.Fprintf(&b, "  %-*s", len([]rune(k.name)), word)
		}
	}
	for _, r := range s.remarks {
		b.WriteString("\n" + r)
	}
	return b.String()
}
