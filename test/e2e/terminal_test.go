package e2e

import (
	"context"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// onTerminal runs the program on a terminal that script(1) makes, with answer
// typed in, and returns what is on the screen.
func onTerminal(t *testing.T, s *daemon.Site, answer string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("script"); err != nil || runtime.GOOS != "linux" {
		t.Skip("script of util-linux is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	line := s.Bin
	for _, a := range args {
		line += " '" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	cmd := exec.CommandContext(ctx, "script", "--quiet", "--return", "--command", line, "/dev/null")
	cmd.Stdin = strings.NewReader(answer)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestOnATerminalItAsksAndShowsHowFarItIs: what scripts do not see.
func TestOnATerminalItAsksAndShowsHowFarItIs(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	d := site.Start(t, "--deliver", "none")
	screen, err := onTerminal(t, site, "", "send", "--server", d.Addr, "--count", "200", "--connections", "4")
	if err != nil || !strings.Contains(screen, "\r[") || !strings.Contains(screen, "] 200/200 0 failed") || !strings.Contains(screen, "200 sent, 0 failed in ") {
		t.Errorf("send: %v\n%q", err, screen)
	}
	screen, err = onTerminal(t, site, "n\n", "queue", "delete", "--spool", site.Spool, "--all")
	if err == nil || !strings.Contains(screen, "delete 200 messages (200 ready)? [y/N] ") || !strings.Contains(screen, "nothing was changed") {
		t.Errorf("delete, no: %v\n%q", err, screen)
	}
	screen, err = onTerminal(t, site, "y\n", "queue", "delete", "--spool", site.Spool, "--older", "0s", "--rcpt", "postmaster@mx.example.org")
	if err != nil || !strings.Contains(screen, "200 messages deleted") {
		t.Errorf("delete, yes: %v\n%q", err, screen)
	}
	site.Empty(t)
	d.Stop(t)
}
