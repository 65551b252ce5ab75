package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// enabled skips a test that nobody asked for.
func enabled(t *testing.T) {
	t.Helper()
	if os.Getenv("INCOMING_E2E") != "1" {
		t.Skip("set INCOMING_E2E=1 to build the daemon and send it real mail")
	}
}

// TestMain builds the daemon once for all, unless INCOMING_E2E_BIN names one.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv("INCOMING_E2E") == "1" && os.Getenv("INCOMING_E2E_BIN") == "" {
			remove, err := build()
			if err != nil {
				fmt.Fprintln(os.Stderr, "build the daemon:", err)
				return 1
			}
			defer remove()
		}
		return m.Run()
	}())
}

// build makes the daemon, in a directory that any user can look into.
func build() (remove func(), err error) {
	dir, err := os.MkdirTemp("", "incoming-e2e-")
	if err != nil {
		return nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // a test run leaves at worst one file
	bin := filepath.Join(dir, "incoming")
	if err = os.Chmod(dir, 0o755); err == nil {
		var out []byte
		if out, err = exec.Command("go", "build", "-o", bin, "../../cmd/incoming").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err == nil {
		err = os.Setenv("INCOMING_E2E_BIN", bin)
	}
	if err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

// site is where a daemon lives: it may be started there again and again.
type site struct {
	bin, spool, mail string
}

func newSite(t *testing.T) site {
	t.Helper()
	dir := t.TempDir()
	return site{bin: os.Getenv("INCOMING_E2E_BIN"), spool: filepath.Join(dir, "spool"), mail: filepath.Join(dir, "mail")}
}

// args is what the daemon is started with.
func (s site) args(more ...string) []string {
	return append([]string{"serve", "--listen", "127.0.0.1:0", "--hostname", "mx.example.org",
		"--spool", s.spool, "--deliver", "maildir:" + s.mail}, more...)
}

// daemon is one running.
type daemon struct {
	addr   string
	cmd    *exec.Cmd
	stderr string // a file
	ended  chan error
}

// start runs the daemon and waits for its banner. What it said is shown when
// the test fails.
func (s site) start(t *testing.T, more ...string) *daemon {
	t.Helper()
	return s.startBy(t, nil, more...)
}

// startAsNobody runs it as a user to whom a mode says something; when the test
// is one itself, as that.
func (s site) startAsNobody(t *testing.T, more ...string) *daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		return s.start(t, more...)
	}
	const nobody = 65534
	for _, dir := range []string{filepath.Dir(s.spool), filepath.Dir(filepath.Dir(s.spool))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{s.spool, s.mail} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
	return s.startBy(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, more...)
}

func (s site) startBy(t *testing.T, who *syscall.SysProcAttr, more ...string) *daemon {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cmd: exec.Command(s.bin, s.args(more...)...), stderr: log.Name(), ended: make(chan error, 1)}
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.SysProcAttr = log, log, who
	err = d.cmd.Start()
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatalf("start the daemon: %v", err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(func() {
		// A test that ended well has stopped it: then this finds nobody.
		if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill the daemon: %v", err)
		}
		if t.Failed() {
			t.Logf("the daemon said:\n%s", d.said(t))
		}
	})
	within(t, 30*time.Second, "the daemon answers", func() error {
		select {
		case err := <-d.ended:
			t.Fatalf("the daemon ended at its start: %v\n%s", err, d.said(t))
		default:
		}
		if d.addr == "" {
			d.addr = listening(d.said(t))
		}
		return greet(t.Context(), d.addr)
	})
	return d
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[1-9][0-9]*`)

// listening finds the address in what the daemon says when it starts.
func listening(said string) string { return loopback.FindString(said) }

func greet(ctx context.Context, addr string) error {
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
	if !strings.HasPrefix(line, "220 mx.example.org ") {
		return fmt.Errorf("its banner is %q", line)
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// said is all that the daemon wrote, or the end of it.
func (d *daemon) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.stderr)
	if err != nil {
		t.Fatal(err)
	}
	if cut := len(text) - 16<<10; cut > 0 {
		return "…" + string(text[cut:])
	}
	return string(text)
}

// stop ends the daemon as systemd does, and wants it to end well.
func (d *daemon) stop(t *testing.T) {
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

// kill ends the daemon as a crash does.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatalf("SIGKILL: %v", err)
	}
	<-d.ended
}

// within looks again and again, for at most limit, until check has no error.
func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// entries is the names in a directory, none when it is not there.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names
}

// empty wants that nothing is left in the spool: all was delivered, nothing is
// dead, nothing was left behind half done.
func (s site) empty(t *testing.T) {
	t.Helper()
	s.idle(t)
	if dead := entries(t, filepath.Join(s.spool, "dead")); len(dead) > 0 {
		t.Errorf("dead letters: %v", dead)
	}
}

// idle wants that all was delivered and nothing is in the middle of anything.
func (s site) idle(t *testing.T) {
	t.Helper()
	within(t, 60*time.Second, "the spool is empty", func() error {
		for _, state := range []string{"incoming", "committed", "processing"} {
			if left := entries(t, filepath.Join(s.spool, state)); len(left) > 0 {
				return fmt.Errorf("%s has %d entries, the first is %s", state, len(left), left[0])
			}
		}
		return nil
	})
}
