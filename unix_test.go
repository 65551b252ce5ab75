package incoming_test

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/proxyproto"
	"github.com/incoming-mx/incoming/queue/memqueue"
)

// socketPath is short enough for a socket, wherever tests have their directories.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func dialUnix(t *testing.T, path string) *incomingtest.Client {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return incomingtest.NewClient(t, nc)
}

// A client on a unix socket has no address: no limit by address holds for it,
// and Received names none, unless a balancer tells one.
func TestAUnixSocketIsAListener(t *testing.T) {
	t.Parallel()
	plain, proxied := socketPath(t), socketPath(t)
	srv := incomingtest.NewServer(t, incoming.Config{Limits: incoming.Limits{ConnectionsPerIP: 1}, Listeners: []incoming.Listener{
		{Name: "plain", Address: "unix:" + plain}, {Name: "proxied", Address: "unix:" + proxied, SocketMode: 0o600, Proxy: proxyproto.New(proxyproto.Options{})}}})
	for path, want := range map[string]fs.FileMode{plain: 0o660, proxied: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%v: %v", info, err)
		}
	}
	if got := srv.Server.Addr("plain").String(); got != plain {
		t.Errorf("address %q", got)
	}
	for range 2 {
		dialUnix(t, plain).Expect("220")
	}
	for path, from := range map[string]string{plain: "from c.example\r\n", proxied: "from c.example ([198.51.100.7])\r\n"} {
		client := dialUnix(t, path)
		if path == proxied {
			client.Write(proxyV2)
		}
		client.Play("S: 220\nC: EHLO c.example\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250")
		m := srv.Next(t)
		if (m.Peer == "") != (path == plain) || !strings.Contains(string(m.Raw), from) {
			t.Errorf("from %q:\n%s", m.Peer, m.Raw)
		}
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(plain); err == nil {
		t.Error("the socket is still there after the end")
	}
}

// What stands in a socket's way is removed when it is a socket on which nobody
// listens, and nothing else.
func TestOnlyAStaleSocketIsRemoved(t *testing.T) {
	t.Parallel()
	run := func(path string) error {
		ctx, cancel := context.WithCancel(t.Context())
		srv, err := incoming.New(incoming.Config{Queue: newQueue(t, &memqueue.Options{}), Listeners: []incoming.Listener{{Address: "unix:" + path}}})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		ran := make(chan error, 1)
		go func() { ran <- srv.Run(ctx) }()
		select {
		case <-srv.Ready():
			cancel()
			return <-ran
		case err := <-ran:
			return err
		}
	}
	listen := func(path string) *net.UnixListener {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln.(*net.UnixListener)
	}
	stale, used, file := socketPath(t), socketPath(t), socketPath(t)
	left := listen(stale)
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run(stale); err != nil {
		t.Errorf("a socket of a dead process: %v", err)
	}
	listen(used)
	if err := run(used); err == nil || !strings.Contains(err.Error(), ": another process listens on "+used) {
		t.Errorf("a socket in use: %v", err)
	}
	other := socketPath(t)
	datagrams, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", other)
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	if err := run(other); err == nil || !strings.Contains(err.Error(), "cannot be told") {
		t.Errorf("a socket of another kind: %v", err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(file); err == nil || !strings.Contains(err.Error(), file+" is in the way and no socket") {
		t.Errorf("a file: %v", err)
	}
	for _, path := range []string{used, other, file} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("what is not ours was removed: %v", err)
		}
	}
	if _, err := incoming.New(incoming.Config{Queue: newQueue(t, &memqueue.Options{}), Listeners: []incoming.Listener{{Address: "unix:"}}}); err == nil {
		t.Error("a socket without a path is taken")
	}
}
