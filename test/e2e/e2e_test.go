package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// TestEveryClientsMailArrivesByteForByte sends every kind of message by every
// client and reads it back from the Maildir. Q09.
func TestEveryClientsMailArrivesByteForByte(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	d := site.Start(t)
	sent := 0
	for _, c := range clients(site.Bin) {
		t.Run(c.name, func(t *testing.T) {
			c.available(t)
			for _, m := range messages() {
				t.Run(m.name, func(t *testing.T) {
					for _, name := range c.cannot {
						if name == m.name {
							t.Skipf("%s has no way to send it", c.name)
						}
					}
					sendAndRead(t, site, d, c, m)
					sent++
				})
			}
		})
	}
	site.Empty(t)
	if n := len(daemon.Entries(t, filepath.Join(site.Mail, "new"))); n != sent {
		t.Errorf("%d messages were sent and %d are in the Maildir", sent, n)
	}
	d.Stop(t)
}

// sendAndRead sends m and wants its text in the Maildir, once, with the
// envelope on top.
func sendAndRead(t *testing.T, s *daemon.Site, d *daemon.Daemon, c client, m message) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(file, m.text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.send(t, d, m, file); err != nil {
		t.Fatal(err)
	}
	var copies [][]byte
	daemon.Within(t, 30*time.Second, "the message arrives", func() error {
		copies = delivered(t, s)[token(m.text)]
		if len(copies) == 0 {
			return fmt.Errorf("%s is not in %s", token(m.text), s.Mail)
		}
		return nil
	})
	if len(copies) != 1 {
		t.Fatalf("it is there %d times", len(copies))
	}
	same(t, beneath(t, copies[0]), c.arrives(m))
	top := string(copies[0][:len(copies[0])-len(beneath(t, copies[0]))])
	if !strings.Contains(top, "Return-Path: <"+m.from+">\r\n") {
		t.Errorf("no Return-Path of %q on top:\n%s", m.from, top)
	}
	for _, to := range m.to {
		if !strings.Contains(top, "Delivered-To: "+to+"\r\n") {
			t.Errorf("no Delivered-To of %s on top:\n%s", to, top)
			break
		}
	}
	if !strings.Contains(top, "Received: from ") {
		t.Errorf("no Received on top:\n%s", top)
	}
}

// TestASecondDaemonOnTheSameSpoolRefusesToStart: a spool has one master. Q10.
func TestASecondDaemonOnTheSameSpoolRefusesToStart(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	d := site.Start(t)
	out, err := exec.CommandContext(t.Context(), site.Bin, site.Args()...).CombinedOutput()
	if err == nil {
		t.Errorf("it started:\n%s", out)
	}
	if !strings.Contains(string(out), site.Spool) {
		t.Errorf("it does not name the spool:\n%s", out)
	}
	if err := daemon.Greet(t.Context(), d.Addr); err != nil {
		t.Errorf("the first was hurt: %v", err)
	}
	d.Stop(t)
}

// TestWithoutDomainsItListensOnLoopbackOnly: nobody becomes an open
// mailbox of the world by leaving something out.
func TestWithoutDomainsItListensOnLoopbackOnly(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	out, err := exec.CommandContext(t.Context(), site.Bin, "serve", "--listen", "0.0.0.0:0", "--spool", site.Spool).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "domain") {
		t.Errorf("err = %v, and it said:\n%s", err, out)
	}
}
