package filters

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// GTUBE and what rspamd makes of it with another first letter.
const (
	rejected = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	marked   = "YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	renamed  = "ZJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

// needs finds a program, and skips the test when nobody asked or it is not there.
func needs(t *testing.T, program string) string {
	t.Helper()
	if os.Getenv("INCOMING_FILTERS") != "1" {
		t.Skip("set INCOMING_FILTERS=1 to have the daemon ask rspamd and OpenDKIM")
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// run starts a program that ends with the test, and shows what it said when the
// test fails.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
}

// free is an address on which nobody listened a moment ago.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// startRspamd runs rspamd with no rules but its test patterns, and is where it
// answers as a milter and over HTTP.
func startRspamd(t *testing.T) (milter, url string) {
	t.Helper()
	program := needs(t, "rspamd")
	dir := t.TempDir()
	milter, normal := free(t), free(t)
	conf := write(t, filepath.Join(dir, "rspamd.conf"), fmt.Sprintf(`
options { pidfile = "%[1]s/pid"; filters = ""; enable_test_patterns = true; dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }
  hs_cache_dir = "%[1]s"; url_tld = "%[1]s/tld"; control_socket = "%[1]s/control.sock mode=0600"; }
logging { type = "console"; level = "notice"; }
actions { reject = 15; "add header" = 6; }
worker "normal" { bind_socket = "%[3]s"; count = 1; }
worker "rspamd_proxy" { bind_socket = "%[2]s"; count = 1; milter = yes; timeout = 10s; upstream "local" { default = yes; self_scan = yes; } }
`, dir, milter, normal))
	write(t, filepath.Join(dir, "tld"), "example\norg\n")
	run(t, program, "-f", "-i", "-u", "root", "-c", conf)
	daemon.Within(t, time.Minute, "rspamd answers", func() error {
		resp, err := http.Get("http://" + normal + "/ping")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		nc, err := net.Dial("tcp", milter)
		if err != nil {
			return err
		}
		return nc.Close()
	})
	return milter, "http://" + normal
}

// site is a daemon with a configuration.
func site(t *testing.T, conf string) (*daemon.Site, string) {
	t.Helper()
	s := daemon.NewSite(t)
	d := s.Start(t, "--config", write(t, filepath.Join(t.TempDir(), "incoming.toml"), "domains = [\"example.org\"]\n"+conf))
	return s, d.Listening(t)[0]
}

// send sends a message of that body, and is the error of it.
func send(addr, body string) error {
	return smtp.SendMail(addr, nil, "a@x.example", []string{"b@example.org"},
		[]byte("From: a@x.example\r\nTo: b@example.org\r\nSubject: hi\r\nX-Spam: no\r\nDate: Sat, 28 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@x.example>\r\n\r\n"+body+"\r\n"))
}

// arrived is the next message of the Maildir, which is taken out of it.
func arrived(t *testing.T, s *daemon.Site) string {
	t.Helper()
	dir := filepath.Join(s.Mail, "new")
	var file string
	daemon.Within(t, time.Minute, "the message arrives", func() error {
		names := daemon.Entries(t, dir)
		if len(names) != 1 {
			return fmt.Errorf("%d messages", len(names))
		}
		file = filepath.Join(dir, names[0])
		return nil
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// D21, D22: what rspamd refuses is refused, and what it marks is marked, whether it
// is asked as a milter or over HTTP.
func TestRspamdIsHeardByBothRoads(t *testing.T) {
	milter, url := startRspamd(t)
	for road, conf := range map[string]string{
		"milter": fmt.Sprintf("[[milter]]\nname = \"rspamd\"\naddress = \"inet:%s\"\n", milter),
		"HTTP":   fmt.Sprintf("[rspamd]\nurl = %q\n", url),
	} {
		t.Run(road, func(t *testing.T) {
			s, addr := site(t, conf)
			if err := send(addr, rejected); err == nil || !strings.HasPrefix(err.Error(), "55") || !strings.Contains(err.Error(), "5.7.1 Gtube pattern (ref ") {
				t.Errorf("GTUBE: %v", err)
			}
			if err := send(addr, marked); err != nil {
				t.Fatal(err)
			}
			if text := arrived(t, s); !strings.Contains(text, "\r\nX-Spam: Yes\r\n") || strings.Contains(text, "X-Spam: no") {
				t.Errorf("marked as spam arrived\n%s", text)
			}
			if err := send(addr, renamed); err != nil {
				t.Fatal(err)
			}
			if text := arrived(t, s); !strings.Contains(text, "\r\nSubject: *** SPAM *** hi\r\n") || strings.Contains(text, "Subject: hi") {
				t.Errorf("with a new subject arrived\n%s", text)
			}
			if err := send(addr, strings.Repeat("a line of no harm\r\n", 200_000)); err != nil {
				t.Fatal(err)
			}
			if text := arrived(t, s); len(text) < 3_000_000 || strings.Contains(text, "X-Spam: Yes") {
				t.Errorf("of a harmless message of 3.8 MB %d octets arrived", len(text))
			}
		})
	}
}

// D19: without rspamd mail waits for it, and nothing passes.
func TestMailWaitsForAnRspamdThatIsNotThere(t *testing.T) {
	needs(t, "rspamd")
	_, addr := site(t, fmt.Sprintf("[[milter]]\nname = \"rspamd\"\naddress = \"inet:%s\"\n", free(t)))
	if err := send(addr, "hello"); err == nil || !strings.HasPrefix(err.Error(), "451") || !strings.Contains(err.Error(), "4.3.0 Local problem") {
		t.Errorf("answered %v", err)
	}
}

// D22: OpenDKIM asks for macros and for the space behind the colon, and says of a
// message without a signature that it has none.
func TestOpenDKIMSaysWhatItFound(t *testing.T) {
	program := needs(t, "opendkim")
	dir := t.TempDir()
	addr := free(t)
	host, port, _ := net.SplitHostPort(addr)
	conf := write(t, filepath.Join(dir, "opendkim.conf"), fmt.Sprintf(
		"Mode v\nSocket inet:%s@%s\nAlwaysAddARHeader yes\nAuthservID mx.example.org\nSyslog no\nPidFile %s/pid\nNameservers 127.0.0.1\n", port, host, dir))
	run(t, program, "-f", "-x", conf)
	daemon.Within(t, time.Minute, "OpenDKIM listens", func() error {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return nc.Close()
	})
	s, at := site(t, fmt.Sprintf("[[milter]]\nname = \"opendkim\"\naddress = \"inet:%s\"\n", addr))
	if err := send(at, "hello"); err != nil {
		t.Fatal(err)
	}
	text := arrived(t, s)
	_, behind, _ := strings.Cut(text, "\r\nReceived: ")
	if !strings.Contains(behind, "\r\nAuthentication-Results: mx.example.org; dkim=none") {
		t.Errorf("arrived\n%s", text)
	}
}
