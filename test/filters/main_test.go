package filters

import (
	"os"
	"testing"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m, os.Getenv("INCOMING_FILTERS") == "1")) }
