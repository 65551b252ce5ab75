package e2e

import (
	"os"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// enabled skips a test that nobody asked for.
func enabled(t *testing.T) {
	t.Helper()
	if os.Getenv("INCOMING_E2E") != "1" {
		t.Skip("set INCOMING_E2E=1 to build the daemon and send it real mail")
	}
}

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_E2E") == "1")) }
