package interop

import (
	"bytes"
	"errors"
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

// The other way round: the daemon hands mail on, and another server takes it.
func TestAnotherServerGetsWhatWasSent(t *testing.T) {
	t.Parallel()
	enabled(t)
	sink, err := exec.LookPath("smtp-sink")
	if err != nil {
		sink = "/usr/sbin/smtp-sink"
	}
	if _, err := os.Stat(sink); err != nil {
		absent(t, "smtp-sink is missing; it comes with postfix")
		return
	}
	for _, protocol := range []string{"smtp", "lmtp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			dumps, addr := t.TempDir(), free(t)
			startSink(t, sink, protocol, addr, dumps)
			site := daemon.NewSite(t)
			d := site.Start(t, "--deliver", protocol+":"+addr)
			for _, k := range kinds() {
				m := k.make()
				file := filepath.Join(t.TempDir(), "m.eml")
				if err := os.WriteFile(file, m.text, 0o600); err != nil {
					t.Fatal(err)
				}
				args := []string{"send", "--server", d.Addr, "--from", orNull(m.from)}
				for _, rcpt := range m.to {
					args = append(args, "--to", rcpt)
				}
				if out, err := site.Tool(t, append(args, file)...); err != nil {
					t.Fatalf("%s: %v\n%s", k.name, err, out)
				}
				if k.utf8 { // which the sink does not offer
					daemon.Within(t, time.Minute, k.name, func() error {
						if !strings.Contains(d.Said(t), "does not offer SMTPUTF8") {
							return errors.New("it was not rejected")
						}
						return nil
					})
					continue
				}
				daemon.Within(t, time.Minute, k.name, func() error { return dumped(dumps, m) })
			}
			site.Idle(t, time.Minute)
			d.Stop(t)
		})
	}
}

// startSink runs a server that writes each message into a file of its own.
func startSink(t *testing.T, program, protocol, addr, dumps string) {
	t.Helper()
	args := []string{"-d", filepath.Join(dumps, "%M."), addr, "100"}
	if protocol == "lmtp" {
		args = append([]string{"-L"}, args...)
	}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // by that signal
	})
	daemon.Within(t, time.Minute, "smtp-sink listens", func() error {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return nc.Close()
	})
}

// dumped finds m among the dumps, whole, and its envelope. The sink writes what it
// was told on top, then the text, with LF for each line end, and an empty line.
func dumped(dir string, m message) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	want := bytes.ReplaceAll(append(m.ended(), '\n'), []byte("\r\n"), []byte("\n"))
	for _, file := range files {
		got, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.Contains(got, []byte(m.token)) {
			continue
		}
		if !bytes.HasSuffix(got, want) {
			return fmt.Errorf("%s does not end with the text: it has %d octets, the text %d", file, len(got), len(want))
		}
		if !bytes.Contains(got, fmt.Appendf(nil, "X-Mail-Args: <%s>", m.from)) {
			return fmt.Errorf("%s came from another sender", file)
		}
		for _, rcpt := range m.to {
			if !bytes.Contains(got, fmt.Appendf(nil, "X-Rcpt-Args: <%s>", rcpt)) {
				return fmt.Errorf("%s did not come for %s", file, rcpt)
			}
		}
		return nil
	}
	return errors.New("it has not come")
}
