package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// load is one run of smtp-source.
type load struct {
	sessions int
	messages int
	size     int
}

// send runs smtp-source and returns how long it took. It ends with an error as
// soon as a reply is not the one expected, so that what it sent was accepted.
func (l load) send(ctx context.Context, addr string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "smtp-source", "-4", "-d", "-C", "100",
		"-s", strconv.Itoa(l.sessions), "-l", strconv.Itoa(l.size), "-m", strconv.Itoa(l.messages),
		"-M", "client.example.org", "-f", "sender@example.org", "-t", "rcpt@example.org", addr)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("smtp-source: %w\n%s", err, out)
	}
	return took, nil
}

// resident reads a field of /proc/PID/status that is in kilobytes: VmRSS is
// what is resident, VmHWM the most that ever was.
func resident(pid int, field string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != field {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", path, field, err)
		}
		return kb << 10, nil
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}

// busy is the time the processors have worked since the machine started, all
// processes together.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
