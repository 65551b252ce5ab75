package main

import (
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

// withSocket runs "incoming serve" as systemd does: a listening socket is its
// descriptor 3, by that name.
func withSocket(t *testing.T, ln net.Listener, name, notify string, args ...string) *exec.Cmd {
	t.Helper()
	p := newPlace(t)
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	cmd := exec.Command("sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$0" serve "$@"`, p.bin, "--domain", "*", "--deliver", "none"}, args...)...)
	cmd.Dir, cmd.ExtraFiles = p.dir, []*os.File{file}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES="+name, "NOTIFY_SOCKET="+notify)
	return cmd
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestASocketOfSystemdIsServed(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := filepath.Join(dir, "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	if err := told.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		n, err := told.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Fatalf("told %q: %v, want %s", b[:n], err, want)
		}
	}
	ln := listenLoopback(t)
	cmd := withSocket(t, ln, "mx", at, "--listen", "systemd:mx")
	said := newOutput()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		if t.Failed() {
			t.Logf("it said:\n%s", said)
		}
	})
	hear("READY=1")
	if !said.wait(regexp.MustCompile("listening on " + regexp.QuoteMeta(ln.Addr().String()))) {
		t.Fatal("it does not say where it listens")
	}
	s, err := dialSession(t.Context(), ln.Addr().String(), "EHLO x")
	if err != nil {
		t.Fatal(err)
	}
	s.take(t)
	s.conn.Close()
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hear("RELOADING=1\n")
	hear("READY=1")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	hear("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestSocketsAndListenersMustFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another": {[]string{"--listen", "systemd:mx"}, "listener systemd:mx: systemd has handed over no socket of that name; set FileDescriptorName=mx"},
		"unused":  {[]string{"--listen", "127.0.0.1:0"}, "systemd has handed over the socket unused (127.0.0.1:"},
	} {
		out, err := withSocket(t, listenLoopback(t), name, "", c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	p := newPlace(t)
	p.tool(t, "check", "--listen", "systemd:mx", "--domain", "example.org")
}
