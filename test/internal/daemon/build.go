package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main is a TestMain: it builds the daemon once for all tests, if they were asked
// for, and returns the exit code.
func Main(m *testing.M, asked bool) int {
	if asked && os.Getenv("INCOMING_BIN") == "" {
		remove, err := build()
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the daemon:", err)
			return 1
		}
		defer remove()
	}
	return m.Run()
}

// build makes the daemon, in a directory that any user can look into.
func build() (remove func(), err error) {
	dir, err := os.MkdirTemp("", "incoming-test-")
	if err != nil {
		return nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // a test run leaves at worst one file
	bin := filepath.Join(dir, "incoming")
	if err = os.Chmod(dir, 0o755); err == nil {
		var out []byte
		if out, err = exec.Command("go", "build", "-o", bin, "github.com/incoming-mx/incoming/cmd/incoming").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err == nil {
		err = os.Setenv("INCOMING_BIN", bin)
	}
	if err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}
