package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// place is a directory for a daemon, which may be started there again and again.
type place struct {
	dir string
	bin string
}

func newPlace(t *testing.T) place {
	t.Helper()
	bin, err := exec.LookPath("incoming")
	if err != nil {
		t.Fatal(err)
	}
	return place{dir: t.TempDir(), bin: bin}
}

// start runs "incoming serve" in the place until the test ends.
func (p place) start(t *testing.T, args ...string) *process {
	t.Helper()
	d, err := startProcess(p.bin, p.dir, os.Environ(), append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("the daemon said:\n%s", d.err)
		}
	})
	return d
}

// tool runs the program in the place and wants it to succeed.
func (p place) tool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.bin, args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("incoming %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p place) names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(p.dir, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// arrive waits until each of ids is the beginning of exactly one file's name.
func (p place) arrive(t *testing.T, dir string, ids []string) {
	t.Helper()
	err := eventually(func() error {
		names := strings.Join(p.names(t, dir), "\n")
		for _, id := range ids {
			if n := strings.Count(names, id); n != 1 {
				return fmt.Errorf("message %s is %d times in %s", id, n, dir)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// take sends a message and returns its ID.
func (s *session) take(t *testing.T) string {
	t.Helper()
	for _, line := range []string{"MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"} {
		if r, err := s.say(line); err != nil || r[0] > '3' {
			t.Fatalf("%s: %s %v", line, r, err)
		}
	}
	r, err := s.say("Subject: x\r\n\r\nbody\r\n.")
	_, id, ok := strings.Cut(r, "queued as ")
	if err != nil || !ok {
		t.Fatalf("end of data: %s %v", r, err)
	}
	return id
}

func dialed(t *testing.T, d *process, lines ...string) *session {
	t.Helper()
	s, err := dialSession(context.WithoutCancel(t.Context()), d.addr(), append([]string{"EHLO [127.0.0.1]"}, lines...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return s
}

func TestWhatHadA250IsThereAfterAKill(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t, "--deliver", "none")
	s := dialed(t, d)
	var ids []string
	for range 30 {
		ids = append(ids, s.take(t))
	}
	// Another is in the middle of its text, and has no 250.
	half := dialed(t, d, "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
	if _, err := io.WriteString(half.conn, "Subject: half\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	d.kill()
	if _, err := os.Lstat(filepath.Join(p.dir, "incoming-data/spool/control.sock")); err != nil {
		t.Errorf("a kill leaves the control socket behind, and this one did not: %v", err)
	}
	p.start(t)
	p.arrive(t, "incoming-data/mail/new", ids)
	if n := len(p.names(t, "incoming-data/mail/new")); n != len(ids) {
		t.Errorf("%d messages arrived, and %d had a 250", n, len(ids))
	}
	p.tool(t, "queue", "stats") // by the socket that took the place of the stale one
	if _, err := os.Lstat(filepath.Join(p.dir, "incoming-data/spool/control.sock")); err != nil {
		t.Error(err)
	}
}

// Q20.
func TestADrainLetsAMessageInHandFinish(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t)
	s := dialed(t, d, "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
	signalTo(t, d, syscall.SIGTERM)
	said(t, d, "draining")
	r, err := s.say("Subject: x\r\n\r\nbody\r\n.")
	if err != nil || !strings.HasPrefix(r, "250 ") {
		t.Errorf("the message in hand: %s %v", r, err)
	}
	if code, err := d.end(); err != nil || code != exitOK {
		t.Errorf("exit code %d, %v", code, err)
	}
	p.start(t)
	_, id, _ := strings.Cut(r, "queued as ")
	p.arrive(t, "incoming-data/mail/new", []string{id})
}

func TestASecondSignalEndsItByForce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t)
	s := dialed(t, d, "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
	signalTo(t, d, syscall.SIGTERM)
	said(t, d, "draining")
	signalTo(t, d, syscall.SIGTERM)
	if code, err := d.end(); err != nil || code != exitFailure {
		t.Errorf("exit code %d, %v", code, err)
	}
	said(t, d, "ending by force")
	if _, err := io.ReadAll(s.in); err == nil {
		// closed: with or without an error, it is over
		t.Log("closed without a reset")
	}
}

func signalTo(t *testing.T, d *process, s syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func said(t *testing.T, d *process, what string) {
	t.Helper()
	if !d.err.wait(regexp.MustCompile(what)) {
		t.Fatalf("it did not say %q but:\n%s", what, d.err)
	}
}

func TestAMaildirThatCannotBeWrittenLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t, "--deliver", "maildir:mail", "--set", "delivery.backoff=1h", "--set", "delivery.backoff_cap=1h")
	if err := os.WriteFile(filepath.Join(p.dir, "mail"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := dialed(t, d).take(t)
	err := eventually(func() error {
		if out := p.tool(t, "queue", "list", "--state", "waiting", "--reason", "mail"); !strings.Contains(out, id) {
			return fmt.Errorf("not waiting: %s", p.tool(t, "queue", "list"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.dir, "mail")); err != nil {
		t.Fatal(err)
	}
	p.tool(t, "queue", "retry", "--all", "--yes")
	p.arrive(t, "mail/new", []string{id})
}

// Q22.
func TestASpoolThatCannotBeMadeIsNamed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.dir, "spool"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := startProcess(p.bin, p.dir, os.Environ(), "--listen", "127.0.0.1:0", "--spool", "spool")
	if err == nil || !strings.Contains(err.Error(), "incoming: spool spool: ") {
		t.Errorf("got %v", err)
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	t.Parallel()
	p, q := newPlace(t), newPlace(t)
	d := p.start(t)
	_, err := startProcess(q.bin, q.dir, os.Environ(), "--listen", d.addr())
	if err == nil || !strings.Contains(err.Error(), d.addr()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	if len(q.names(t, "incoming-data/spool")) == 0 {
		t.Error("it did not come as far as the spool")
	}
	if _, err := os.Lstat(filepath.Join(q.dir, "incoming-data/spool/control.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket was left behind: %v", err)
	}
}

func TestProbesAndMetrics(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t, "--http", "127.0.0.1:0", "--set", "metrics.prefix=mx")
	base := "http://" + httpSaid.FindStringSubmatch(d.err.String())[1]
	dialed(t, d).take(t)
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		if status, body := get(t, base+path); status != http.StatusOK || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, body := get(t, base+"/metrics"); status != http.StatusOK || !regexp.MustCompile(`(?m)^mx_message_queued_total\S* 1$`).MatchString(body) {
		t.Errorf("/metrics: %d\n%s", status, body)
	}
	if status, _ := get(t, base+"/other"); status != http.StatusNotFound {
		t.Errorf("/other: %d", status)
	}

	// While it drains it says no, and says so until the end.
	s := dialed(t, d, "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
	signalTo(t, d, syscall.SIGTERM)
	said(t, d, "draining")
	err := eventually(func() error {
		if status, body := get(t, base+"/readyz"); status != http.StatusServiceUnavailable {
			return fmt.Errorf("/readyz: %d %q", status, body)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := s.say("x\r\n."); err != nil {
		t.Error(err)
	}
	if code, err := d.end(); err != nil || code != exitOK {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestASpoolFarDownHasItsToolsToo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	spool := filepath.Join(p.dir, strings.Repeat("deep/", 30), "spool") // longer than a socket's path may be
	d := p.start(t, "--spool", spool, "--deliver", "none")
	id := dialed(t, d).take(t)
	if out := p.tool(t, "queue", "list", "--spool", spool); !strings.Contains(out, id) {
		t.Error(out)
	}
	signalTo(t, d, syscall.SIGTERM)
	if _, err := d.end(); err != nil {
		t.Fatal(err)
	}
	if out := p.tool(t, "queue", "list", "--spool", spool); !strings.Contains(out, id) {
		t.Error(out)
	}
}
