package interop

import (
	"os"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// enabled skips a test that nobody asked for.
func enabled(t *testing.T) {
	t.Helper()
	if os.Getenv("INCOMING_INTEROP") != "1" {
		t.Skip("set INCOMING_INTEROP=1 to build the daemon and send it mail by swaks, curl, msmtp, Postfix, Python, nodemailer and Go")
	}
}

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_INTEROP") == "1")) }
