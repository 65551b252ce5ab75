package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// TestAFullDiskAnswers452AndMailGoesOnWhenThereIsSpace fills a small file system
// under the spool: what was accepted is delivered all the same, and nothing
// half written stays. Q02.
func TestAFullDiskAnswers452AndMailGoesOnWhenThereIsSpace(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	disk := smallDisk(t, "16m")
	site.Spool = filepath.Join(disk, "spool")
	d := site.Start(t, "--set", "limits.message_size=2MiB", "--http", "127.0.0.1:0")
	paused(t, site, "pause")
	send := func(size string) error {
		_, err := site.Tool(t, "send", "--server", d.Addr, "--to", "rcpt@example.org", "--size", size)
		return err
	}
	if err := send("1MiB"); err != nil {
		t.Fatal(err)
	}
	fill(t, disk)
	for _, size := range []string{"1KiB", "1MiB"} {
		if err := send(size); err == nil || !strings.Contains(err.Error(), "452 4.3.1 ") {
			t.Errorf("%s on a full disk: %v", size, err)
		}
	}
	if status, why := ready(t, d); status != http.StatusServiceUnavailable || !strings.Contains(why, "no space left") {
		t.Errorf("readiness on a full disk: %d %s", status, why)
	}
	paused(t, site, "resume") // deliveries free space, and need none
	site.Empty(t)
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	daemon.Within(t, 30*time.Second, "mail is accepted when there is space again", func() error { return send("1MiB") })
	site.Empty(t)
	d.Stop(t)
	if n := len(daemon.Entries(t, filepath.Join(site.Mail, "new"))); n != 2 {
		t.Errorf("%d messages arrived, and 2 were accepted", n)
	}
}

func paused(t *testing.T, s *daemon.Site, verb string) {
	t.Helper()
	if _, err := s.Tool(t, "queue", verb, "--spool", s.Spool); err != nil {
		t.Fatal(err)
	}
}

// smallDisk mounts a file system in memory; only root can.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no file system of its own: %v %s", err, out)
	}
	t.Cleanup(func() {
		// Lazily: the daemon may still be ending.
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// fill writes into a file on dir's file system until there is no space.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096} {
		block := make([]byte, size)
		for range 64 {
			if _, err = f.Write(block); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

// ready asks /readyz.
func ready(t *testing.T, d *daemon.Daemon) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.HTTP(t)+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := make([]byte, 1000)
	n, _ := resp.Body.Read(text) // the reason may be empty
	return resp.StatusCode, string(text[:n])
}

// TestASpoolThatCannotBeWrittenClosesTheDoorAndOpensItByItself: the daemon runs
// as nobody and its spool is taken from it. Q06.
func TestASpoolThatCannotBeWrittenClosesTheDoorAndOpensItByItself(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := daemon.NewSite(t)
	// Permissions are asked when a file is made, which the journal seldom does.
	d := site.StartAsNobody(t, "--http", "127.0.0.1:0", "--set", "queue.journal=false")
	send := func() error {
		_, err := site.Tool(t, "send", "--server", d.Addr, "--to", "rcpt@example.org")
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	site.Idle(t, time.Minute)
	modes(t, site.Spool, 0o555)
	if err := send(); err == nil || !strings.Contains(err.Error(), "451 4.3.0 ") {
		t.Errorf("a message for a spool that cannot be written: %v", err)
	}
	if err := send(); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
		t.Errorf("the one after it: %v", err)
	}
	if status, why := ready(t, d); status != http.StatusServiceUnavailable || !strings.Contains(why, "storage is failing") {
		t.Errorf("readiness: %d %s", status, why)
	}
	modes(t, site.Spool, 0o755)
	daemon.Within(t, time.Minute, "it is well again", func() error {
		if status, why := ready(t, d); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, why)
		}
		return nil
	})
	if err := send(); err != nil {
		t.Errorf("when the spool is well again: %v", err)
	}
	site.Empty(t)
	d.Stop(t)
}

// modes changes those of dir and of the directories in it.
func modes(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	for _, name := range []string{"", "incoming", "committed"} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}
