package interop

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// TestWhatComesByHAProxyIsTheClients sends mail through a real HAProxy that tells by
// PROXY headers of version 1 and of version 2 who the client is: C01. What arrives
// is compared, the client's address is what Received says, and HAProxy's own looking
// whether we are there is nobody's session: C03.
func TestWhatComesByHAProxyIsTheClients(t *testing.T) {
	enabled(t)
	if _, err := exec.LookPath("haproxy"); err != nil {
		absent(t, "haproxy is not installed")
	}
	s := newStage(t)
	const behind = "proxy = \"required\"\nproxy_networks = [\"127.0.0.1\"]"
	d := s.site.Launch(t, "--config", s.write(t, "incoming.toml", domains+
		s.listener("127.0.0.1:0", "optional", "name = \"mx\"\n"+behind)+
		s.listener("127.0.0.1:0", "implicit", "name = \"mxs\"\n"+behind)))
	var at []string
	daemon.Within(t, 30*time.Second, "it listens", func() error {
		if at = d.Listening(t); len(at) != 2 {
			return fmt.Errorf("it listens on %q", at)
		}
		return nil
	})
	versions := map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"}
	front := make(map[string]map[security]string)
	conf := haproxyConf
	for version, send := range versions {
		front[version] = map[security]string{clear: free(t), implicit: free(t)}
		for i, mode := range []security{clear, implicit} {
			conf += fmt.Sprintf("listen %s-%s\n  bind %s\n  server mx %s %s check check-send-proxy inter 200ms\n", version, mode, front[version][mode], at[i], send)
		}
		front[version][starttls] = front[version][clear]
	}
	haproxy(t, s.write(t, "haproxy.cfg", conf))
	for version, addr := range front {
		daemon.Within(t, 30*time.Second, "HAProxy answers", func() error { return daemon.Greet(t.Context(), addr[clear]) })
		for i, mode := range ways {
			for _, k := range kinds() {
				t.Run(fmt.Sprintf("%s/%s/%s", version, mode, k.name), func(t *testing.T) {
					client := net.IPv4(127, 0, byte(len(version)+i), 7) // not HAProxy's own
					m := k.make()
					to := target{addr: addr[mode], mode: mode, from: &net.TCPAddr{IP: client}, stage: s}
					if err := netSMTP(t, to, m, ""); err != nil {
						t.Fatal(err)
					}
					whole := s.arrived(t, m.token)
					if !bytes.Contains(whole, []byte("(["+client.String()+"])")) {
						t.Errorf("Received does not say that it came from %s: %.400q", client, whole)
					}
					same(t, "what arrived, against what the client sent", envelope(t, whole, m, mode), m.ended())
				})
			}
		}
	}
	for line := range strings.Lines(d.Said(t)) {
		if strings.Contains(line, "peer=127.0.0.1:") && !strings.Contains(line, "helo") { // Greet says no hello
			t.Errorf("it takes HAProxy's look for a client: %s", line)
		}
	}
	d.Stop(t)
}

// haproxyConf passes octets through, whatever they are.
const haproxyConf = `defaults
  mode tcp
  timeout connect 10s
  timeout client 2m
  timeout server 2m
`

// haproxy runs one in the foreground until the test is over.
func haproxy(t *testing.T, conf string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "haproxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-db", "-f", conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("haproxy: %v", err)
		}
		_ = cmd.Wait() // how it ends says nothing
		log.Close()
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			t.Logf("HAProxy said (%v):\n%s", err, text)
		}
	})
}
