package incoming

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// childDescriptors is how many descriptors the child of
// TestWithoutDescriptorsClientsAreTold may have.
const childDescriptors = 48

// TestWithoutDescriptorsClientsAreTold: R10, with a process that has none left.
// Those who come are turned away with their one reply, those who are there are
// served on, the trouble is told once, and is over once some have left.
func TestWithoutDescriptorsClientsAreTold(t *testing.T) {
	t.Parallel()
	if os.Getenv("INCOMING_TEST_DESCRIPTORS") != "" {
		serveWithoutDescriptors(t)
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWithoutDescriptorsClientsAreTold$", "-test.v")
	child.Env = append(os.Environ(), "INCOMING_TEST_DESCRIPTORS=1")
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	var told []string
	next := func(word string) string {
		t.Helper()
		for lines.Scan() {
			if what, rest, _ := strings.Cut(lines.Text(), ": "); what == word {
				return rest
			} else if what == "trouble" || what == "refused" {
				told = append(told, lines.Text())
			}
		}
		t.Fatalf("the child ended without %q, after %q", word, told)
		return ""
	}
	addr := next("listening")

	var served []net.Conn
	refused := 0
	for refused < 20 {
		nc, banner := greeted(t, addr)
		switch {
		case strings.HasPrefix(banner, "220 "):
			if refused == 0 {
				served = append(served, nc)
				break
			}
			nc.Close() // the child had a descriptor to spare for a moment
		case banner == "421 4.3.2 Too many connections, try again later\r\n":
			refused++
			nc.Close()
		default:
			t.Fatalf("greeted with %q", banner)
		}
		if len(served) > childDescriptors {
			t.Fatal("more connections are served than there are descriptors")
		}
	}
	t.Logf("%d are served, then %d are turned away", len(served), refused)
	if _, err := io.WriteString(served[0], "NOOP\r\n"); err != nil {
		t.Fatal(err)
	}
	if reply, err := bufio.NewReader(served[0]).ReadString('\n'); err != nil || !strings.HasPrefix(reply, "250 ") {
		t.Errorf("who is served gets %q, %v", reply, err)
	}
	for _, nc := range served {
		nc.Close()
	}
	for banner := ""; !strings.HasPrefix(banner, "220 "); {
		var nc net.Conn
		nc, banner = greeted(t, addr)
		nc.Close()
	}
	if text := next("over"); text != "connections are accepted again" {
		t.Errorf("told %q", text)
	}
	stdin.Close()
	if why := next("ended"); why != "<nil>" {
		t.Errorf("Run returned %s", why)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	slices.Sort(told)
	told = slices.Compact(told)
	want := []string{"refused: 421 4.3.2 Too many connections, try again later, no file descriptor is left",
		"trouble: connections cannot be accepted for now, true"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// greeted connects and reads the first line.
func greeted(t *testing.T, addr string) (net.Conn, string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	banner, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return nc, banner
}

// serveWithoutDescriptors is the child: it serves until stdin ends, and prints
// what is told.
func serveWithoutDescriptors(t *testing.T) {
	limit := syscall.Rlimit{Cur: childDescriptors, Max: childDescriptors}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	troubles := 0
	q := memqueue.New(nil)
	s, err := New(Config{Queue: q, Listeners: []Listener{{Name: "mx", Address: "127.0.0.1:0"}}, Hooks: telemetry.Hooks{
		Trouble: func(e telemetry.Trouble) {
			switch troubles++; {
			case e.Over:
				fmt.Printf("over: %s\n", e.Text)
			case troubles > 1:
				fmt.Printf("trouble: told again\n")
			default:
				fmt.Printf("trouble: %s, %t\n", e.Text, errors.Is(e.Err, syscall.EMFILE))
			}
		},
		SessionRejected: func(e telemetry.SessionRejected) { fmt.Printf("refused: %s, %s\n", e.Reply, e.Reason) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	<-s.Ready()
	fmt.Printf("listening: %v\n", s.Addr(""))
	_, _ = io.Copy(io.Discard, os.Stdin) // it ends when the parent says so
	cancel()
	fmt.Printf("ended: %v\n", <-ran)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
