package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestAProcessIsWokenAsLateAsAskedFor(t *testing.T) {
	t.Parallel()
	out, err := outputOf(exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns"), 3*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "3000000" {
		t.Errorf("timer slack %s ns, want 3000000", got)
	}
}

// A server that was started from a thread whose slack had been left at a nanosecond
// woke three times as often.
func TestNoServerInheritsHowExactlyTheDiskWasTimed(t *testing.T) {
	runtime.LockOSThread() // so that all of it is of one thread
	defer runtime.UnlockOSThread()
	slack := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	before := slack()
	if _, err := syncTimes(t.TempDir(), 2, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := outputOf(exec.CommandContext(t.Context(), "true"), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := (openLoop{Rate: 1}).dispatch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after := slack(); after != before {
		t.Errorf("timer slack %s ns, was %s", after, before)
	}
}
