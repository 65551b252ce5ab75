package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// TestSystemdStartsItWithTheFirstConnection has systemd-socket-activate hold a TCP
// and a unix socket, and start the daemon when somebody connects: who did is served,
// and so are the others, on both.
func TestSystemdStartsItWithTheFirstConnection(t *testing.T) {
	enabled(t)
	const activate = "systemd-socket-activate"
	if _, err := exec.LookPath(activate); err != nil {
		absent(t, activate+" is not installed")
	}
	s := newStage(t)
	socket := filepath.Join(s.dir, "lmtp.sock")
	s.addr = map[security]string{clear: free(t), lmtpUnix: socket}
	s.addr[starttls] = s.addr[clear]
	conf := s.write(t, "incoming.toml", domains+
		s.listener("systemd:mx", "optional", `name = "mx"`)+
		s.listener("systemd:lmtp", "disabled", "name = \"lmtp\"\nprotocol = \"lmtp\""))
	args := []string{"--listen", s.addr[clear], "--listen", socket, "--fdname", "mx:lmtp", s.site.Bin}
	cmd := exec.Command(activate, append(args, s.site.Args("--config", conf)...)...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, if all is well
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			t.Logf("it said (%v):\n%s", err, text)
		}
	})
	daemon.Within(t, 30*time.Second, "systemd listens", func() error {
		_, err := os.Stat(socket) // made last; a connection would start the daemon
		return err
	})
	if entries, err := os.ReadDir(s.site.Spool); err == nil {
		t.Errorf("it runs before anybody has connected: %d entries in its spool", len(entries))
	}
	send := func(mode security, by sender) {
		t.Helper()
		m := kinds()[0].make()
		file := s.write(t, "message.eml", string(m.text))
		if err := by(t, target{addr: s.addr[mode], mode: mode, stage: s}, m, file); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		same(t, fmt.Sprintf("what arrived by %s, against what the client sent", mode), envelope(t, s.arrived(t, m.token), m, mode), m.ended())
	}
	send(clear, netSMTP)
	send(starttls, netSMTP)
	send(lmtpUnix, ours)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(40 * time.Second):
		t.Fatal("it does not end")
	}
	var gone net.Dialer
	if nc, err := gone.DialContext(t.Context(), "tcp", s.addr[clear]); err == nil {
		nc.Close()
		t.Error("somebody still listens")
	}
}
