package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

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
