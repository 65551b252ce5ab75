package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// machine is what the figures depend on.
func (b *bench) machine(ctx context.Context) ([][2]string, error) {
	sync, err := syncTime(b.dir)
	if err != nil {
		return nil, err
	}
	facts := [][2]string{
		{"processor", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU())},
		{"system", runtime.GOOS + " " + firstLine("/proc/sys/kernel/osrelease")},
		{"file system", fileSystem(b.dir)},
		{"write 4 KiB, sync", fmt.Sprintf("%.2f ms", float64(sync.Microseconds())/1000)},
		{"load before the run", loadAverage()},
		{"Go", runtime.Version()},
	}
	if out, err := exec.CommandContext(ctx, "postconf", "-d", "-h", "mail_version").Output(); err == nil {
		facts = append(facts, [2]string{"Postfix", strings.TrimSpace(string(out))})
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/emersion/go-smtp" || m.Path == "github.com/mhale/smtpd" {
				facts = append(facts, [2]string{m.Path, m.Version})
			}
		}
	}
	return facts, nil
}

// syncTime is the median time to make 4 KiB at the end of a file durable.
func syncTime(dir string) (d time.Duration, err error) {
	name := filepath.Join(dir, "sync")
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if rerr := os.Remove(name); err == nil {
			err = rerr
		}
	}()
	took := make([]float64, 100)
	block := make([]byte, 4096)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(began))
	}
	return time.Duration(median(took)), nil
}

// fileSystem is the kind of file system that a directory is on.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "unknown: " + err.Error()
	}
	kind := mountedOn(string(text), dir)
	if kind == "tmpfs" {
		kind += " (keeps nothing over a power cut: durable figures mean nothing here)"
	}
	return kind
}

// mountedOn finds the innermost mount, and of several on one point the last:
// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS] - KIND SOURCE OPTIONS.
func mountedOn(mountinfo, dir string) string {
	kind, longest := "unknown", 0
	for line := range strings.Lines(mountinfo) {
		mount, system, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(mount), strings.Fields(system)
		if !ok || len(fields) < 5 || len(kinds) == 0 {
			continue
		}
		point := strings.TrimSuffix(fields[4], "/") + "/"
		if strings.HasPrefix(dir+"/", point) && len(point) >= longest {
			kind, longest = kinds[0], len(point)
		}
	}
	return kind
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// loadAverage is how many processes wanted a processor, over the last 1, 5 and
// 15 minutes: with more than a little the figures are of little worth.
func loadAverage() string {
	fields := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(fields[:min(len(fields), 3)], ", ")
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
