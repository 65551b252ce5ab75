package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAFullDiskAnswers452AndMailGoesOnWhenThereIsSpace fills a small file system
// under the spool: what was accepted is delivered all the same, and nothing
// half written stays.
func TestAFullDiskAnswers452AndMailGoesOnWhenThereIsSpace(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := newSite(t)
	disk := smallDisk(t, "16m")
	site.spool = filepath.Join(disk, "spool")
	d := site.start(t, "--set", "limits.message_size=2MiB", "--http", "127.0.0.1:0")
	paused(t, site, "pause")
	send := func(size string) error {
		return command(t, site.bin, "send", "--server", d.addr, "--to", "rcpt@example.org", "--size", size)
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
	site.empty(t)
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "mail is accepted when there is space again", func() error { return send("1MiB") })
	site.empty(t)
	d.stop(t)
	if n := len(entries(t, filepath.Join(site.mail, "new"))); n != 2 {
		t.Errorf("%d messages arrived, and 2 were accepted", n)
	}
}

func paused(t *testing.T, s site, verb string) {
	t.Helper()
	if err := command(t, s.bin, "queue", verb, "--spool", s.spool); err != nil {
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

var httpAt = regexp.MustCompile(`http on (127\.0\.0\.1:[0-9]+)`)

// ready asks /readyz.
func ready(t *testing.T, d *daemon) (int, string) {
	t.Helper()
	m := httpAt.FindStringSubmatch(d.said(t))
	if m == nil {
		t.Fatal("it does not say where it serves HTTP")
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m[1]+"/readyz", nil)
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
// as nobody and its spool is taken from it.
func TestASpoolThatCannotBeWrittenClosesTheDoorAndOpensItByItself(t *testing.T) {
	enabled(t)
	t.Parallel()
	site := newSite(t)
	d := site.startAsNobody(t, "--http", "127.0.0.1:0")
	send := func() error {
		return command(t, site.bin, "send", "--server", d.addr, "--to", "rcpt@example.org")
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	site.idle(t)
	modes(t, site.spool, 0o555)
	if err := send(); err == nil || !strings.Contains(err.Error(), "451 4.3.0 ") {
		t.Errorf("a message for a spool that cannot be written: %v", err)
	}
	if err := send(); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
		t.Errorf("the one after it: %v", err)
	}
	if status, why := ready(t, d); status != http.StatusServiceUnavailable || !strings.Contains(why, "storage is failing") {
		t.Errorf("readiness: %d %s", status, why)
	}
	modes(t, site.spool, 0o755)
	within(t, time.Minute, "it is well again", func() error {
		if status, why := ready(t, d); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, why)
		}
		return nil
	})
	if err := send(); err != nil {
		t.Errorf("when the spool is well again: %v", err)
	}
	site.empty(t)
	d.stop(t)
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
