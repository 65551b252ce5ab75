// Package daemon runs the built daemon as its users do: as a process with flags,
// a spool of its own and a log. It is for the slow tests. It knows no mail.
//
// The environment says what is run: INCOMING_BIN names a daemon to run in place
// of one that is built, and INCOMING_JOURNAL=true or false is handed on as
// queue.journal; INCOMING_JOURNAL=turns has it on and off in turns, from one start
// on a site to the next.
package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Hostname is what each daemon calls itself.
const Hostname = "mx.example.org"

// Daemon is one running, or one that has been.
type Daemon struct {
	// Addr is the first listener's address; "" before it is known.
	Addr string

	site  *Site
	cmd   *exec.Cmd
	from  int64 // where in the log its words begin
	ended chan error
}

// Await waits for the daemon's banner. One that ends in place of it fails the
// test.
func (d *Daemon) Await(t *testing.T) {
	t.Helper()
	Within(t, 30*time.Second, "the daemon answers", func() error {
		select {
		case err := <-d.ended:
			t.Fatalf("the daemon ended at its start: %v", err)
		default:
		}
		if d.Addr == "" {
			if at := d.Listening(t); len(at) > 0 {
				d.Addr = at[0]
			}
		}
		return Greet(t.Context(), d.Addr)
	})
}

var (
	loopback = regexp.MustCompile(`127\.0\.0\.1:[1-9][0-9]*`)
	announce = regexp.MustCompile(`(?m)^incoming: listening on ([^;\n]*)(?:; http on (.*))?\n`)
)

// Listening is where the daemon says that its listeners are, in the order of
// their configuration; none as long as it has said nothing.
func (d *Daemon) Listening(t *testing.T) []string {
	t.Helper()
	m := announce.FindStringSubmatch(d.Said(t))
	if m == nil {
		return nil
	}
	return loopback.FindAllString(m[1], -1)
}

// HTTP is where it serves HTTP, as it was told to by --http.
func (d *Daemon) HTTP(t *testing.T) string {
	t.Helper()
	m := announce.FindStringSubmatch(d.Said(t))
	if m == nil || m[2] == "" {
		t.Fatal("it does not say where it serves HTTP")
	}
	return m[2]
}

// Greet wants the daemon's banner at addr.
func Greet(ctx context.Context, addr string) error {
	if addr == "" {
		return errors.New("it has not said where it listens")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "220 "+Hostname+" ") {
		return fmt.Errorf("its banner is %q", line)
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// Stop ends the daemon as systemd does, and wants it to end well.
func (d *Daemon) Stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
	select {
	case err := <-d.ended:
		if err != nil {
			t.Errorf("after SIGTERM the daemon ended with %v", err)
		}
	case <-time.After(40 * time.Second):
		t.Fatal("the daemon does not end after SIGTERM")
	}
}

// Kill ends the daemon as a crash does. One that has ended by itself fails the
// test.
func (d *Daemon) Kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatalf("SIGKILL: %v", err)
	}
	err := <-d.ended
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it was to be killed, and had ended by itself: %v", err)
	}
}

// Said is what the daemon wrote, and the site's later ones; of much, its end.
func (d *Daemon) Said(t *testing.T) string {
	t.Helper()
	return d.site.said(t, d.from)
}
