package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestAProcessIsWokenAsLateAsAskedFor(t *testing.T) {
	t.Parallel()
	slack := func(late time.Duration) string {
		t.Helper()
		out, err := outputOf(exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns"), late)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if got := slack(3 * time.Millisecond); got != "3000000" {
		t.Errorf("timer slack %s ns, want 3000000", got)
	}
	if got := slack(0); got == "3000000" {
		t.Error("the slack of the one stuck to the next")
	}
}
