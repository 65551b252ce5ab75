package incoming_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The README's program is what most will begin with: it must compile as it
// stands, without a warning of go vet.
func TestTheREADMEsProgramCompiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(readme), "```")
	if len(parts)%2 == 0 {
		t.Fatal("a code block has no end")
	}
	programs := 0
	for i := 1; i < len(parts); i += 2 {
		program, ok := strings.CutPrefix(parts[i], "go\n")
		if !ok || !strings.HasPrefix(program, "package main\n") {
			continue
		}
		programs++
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		// Within this module, so that it is this source that is imported.
		for _, args := range [][]string{{"go", "vet", file}, {"gofmt", "-l", file}} {
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%s: %v\n%s", strings.Join(args[:2], " "), err, out)
			}
		}
	}
	if programs != 1 {
		t.Errorf("%d programs", programs)
	}
}
