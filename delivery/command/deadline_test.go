package command

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

var errLate = errors.New("too late")

// underWay starts a delivery to a script, which is given a pipe as its
// descriptor 3, and waits for it to say "ready" there. rest is what comes by the
// pipe until the last process that has it is gone.
func underWay(t *testing.T, opts *Options, script string) (cancel func(), verdict <-chan error, rest func() string) {
	t.Helper()
	fifo := mkfifo(t, "alive")
	a := shell(t, opts, `exec 3>"$1"; `+script, "sh", fifo)
	ctx, cancelCause := context.WithCancelCause(context.Background())
	result := make(chan error, 1)
	go func() { result <- a.Deliver(ctx, bigMessage(1<<20)) }()
	f, err := os.Open(fifo) // waits for the script to open it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r := bufio.NewReader(f)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the script said %q, %v", line, err)
	}
	return func() { cancelCause(errLate) }, result, func() string {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

func TestAtTheDeadlineTheWholeGroupIsEnded(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"all heed SIGTERM":              `sleep 1000 & echo ready >&3; wait`,
		"the program ignores it":        `trap "" TERM; sleep 1000 & echo ready >&3; sleep 1000; sleep 1000`,
		"only what it started ignores":  `(trap "" TERM; echo ready >&3; sleep 1000; sleep 1000) & wait`,
		"it reads nothing and says one": `trap "" TERM; echo reason >&2; echo ready >&3; sleep 1000`,
	} {
		cancel, verdict, rest := underWay(t, &Options{KillDelay: 50 * time.Millisecond}, script)
		cancel()
		err := <-verdict
		if !errors.Is(err, errLate) || isRejected(err) {
			t.Errorf("%s: Deliver returned %v, want the cause", name, err)
		}
		if strings.Contains(script, "reason") && !strings.Contains(err.Error(), `"reason"`) {
			t.Errorf("%s: Deliver returned %v, want what the program said", name, err)
		}
		rest() // comes to its end when nobody is left
	}
}

func TestAProgramThatEndsWellOnSIGTERMHasNotDelivered(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"0", "65"} {
		cancel, verdict, rest := underWay(t, nil, `trap "echo termed >&3; exit `+code+`" TERM; echo ready >&3; while :; do sleep 0.01; done`)
		cancel()
		if err := <-verdict; !errors.Is(err, errLate) || isRejected(err) {
			t.Errorf("exit status %s: Deliver returned %v, want a retry", code, err)
		}
		if got := rest(); got != "termed\n" {
			t.Errorf("exit status %s: it was not asked to end before it was killed: %q", code, got)
		}
	}
}

// A program may leave something running, which keeps the pipes it was given.
func TestWhatAProgramLeavesRunningIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for code, rejects := range map[string]bool{"0": false, "69": true} {
		gate := mkfifo(t, "gate")
		_, verdict, rest := underWay(t, &Options{Path: DefaultPath}, `exec 4<&0; (read line <'`+gate+`'; echo late >&3) &
echo reason >&2; echo ready >&3; exit `+code)
		err := <-verdict
		if (err == nil) == rejects || isRejected(err) != rejects || rejects && !strings.Contains(err.Error(), "reason") {
			t.Errorf("exit status %s: Deliver returned %v", code, err)
		}
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
		if got := rest(); got != "late\n" {
			t.Errorf("exit status %s: what was left running was ended: %q", code, got)
		}
	}
}

func TestNothingIsRunPastTheDeadline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errLate)
	err := shell(t, &Options{Dir: dir}, "touch RUN").Deliver(ctx, someMessage())
	if _, serr := os.Stat(dir + "/RUN"); !errors.Is(err, errLate) || !errors.Is(serr, os.ErrNotExist) {
		t.Errorf("Deliver returned %v; the program's file: %v", err, serr)
	}
}
