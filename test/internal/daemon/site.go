package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Site is where a daemon lives: it may be started there again and again.
type Site struct {
	Bin, Spool, Mail string
	// Listen is the addresses to listen on, by flags; none where a file of
	// configuration says it.
	Listen []string

	log   string // what all its daemons have written
	lives int    // how many there have been
}

// NewSite is a place with nothing in it. What its daemons said last is shown when
// the test fails.
func NewSite(t *testing.T) *Site {
	t.Helper()
	dir := t.TempDir()
	s := &Site{
		Bin:    os.Getenv("INCOMING_BIN"),
		Spool:  filepath.Join(dir, "spool"),
		Mail:   filepath.Join(dir, "mail"),
		Listen: []string{"127.0.0.1:0"},
		log:    filepath.Join(dir, "log"),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon said:\n%s", s.said(t, 0))
		}
	})
	return s
}

// Args is what the daemon is started with. Of a flag that is given twice the last
// one counts.
func (s *Site) Args(more ...string) []string {
	args := []string{"serve", "--hostname", Hostname, "--spool", s.Spool, "--deliver", "maildir:" + s.Mail}
	for _, addr := range s.Listen {
		args = append(args, "--listen", addr)
	}
	switch journal := os.Getenv("INCOMING_JOURNAL"); journal {
	case "":
	case "turns":
		args = append(args, "--set", fmt.Sprint("queue.journal=", s.lives%2 == 0))
	default:
		args = append(args, "--set", "queue.journal="+journal)
	}
	return append(args, more...)
}

// Start runs the daemon and waits for its banner.
func (s *Site) Start(t *testing.T, more ...string) *Daemon {
	t.Helper()
	d := s.Launch(t, more...)
	d.Await(t)
	return d
}

// StartAsNobody runs it as a user to whom a mode says something; when the test is
// one itself, as that.
func (s *Site) StartAsNobody(t *testing.T, more ...string) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		return s.Start(t, more...)
	}
	const nobody = 65534
	for _, dir := range []string{filepath.Dir(s.Spool), filepath.Dir(filepath.Dir(s.Spool))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{s.Spool, s.Mail} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
	d := s.launch(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, more...)
	d.Await(t)
	return d
}

// Launch runs the daemon and waits for nothing.
func (s *Site) Launch(t *testing.T, more ...string) *Daemon {
	t.Helper()
	return s.launch(t, nil, more...)
}

func (s *Site) launch(t *testing.T, who *syscall.SysProcAttr, more ...string) *Daemon {
	t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	info, err := log.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{site: s, cmd: exec.Command(s.Bin, s.Args(more...)...), from: info.Size(), ended: make(chan error, 1)}
	s.lives++
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
	})
	return d
}

// Tool runs one of the daemon's tools, at most two minutes, and returns what it
// printed.
func (s *Site) Tool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.Bin, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("incoming %s: %w\n%.4000s", args[0], err, out)
	}
	return string(out), err
}

// said is what is in the log from an offset on, but not more than the start's
// announcement and the last lines.
func (s *Site) said(t *testing.T, from int64) string {
	t.Helper()
	const head, tail = 4 << 10, 16 << 10
	f, err := os.Open(s.log)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	part := func(from, to int64) string {
		text := make([]byte, to-from)
		n, err := f.ReadAt(text, from)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	if size-from <= head+tail {
		return part(from, size)
	}
	return part(from, from+head) + "\n…\n" + part(size-tail, size)
}
