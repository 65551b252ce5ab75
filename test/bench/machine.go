package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// machine is what the figures depend on.
func (b *bench) machine(ctx context.Context) ([][2]string, error) {
	syncs, err := syncTimes(b.dir, 500, 0)
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, b.daemon, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("incoming version: %w", err)
	}
	commit := ""
	if out, err := exec.CommandContext(ctx, "git", "-C", b.root, "rev-parse", "--short", "HEAD").Output(); err == nil {
		commit = ", commit " + strings.TrimSpace(string(out)) // a copy without git has none
	}
	facts := [][2]string{
		{"processor", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU())},
		{"memory", memoryTotal()},
		{"system", runtime.GOOS + " " + firstLine("/proc/sys/kernel/osrelease")},
		{"file system", fileSystem(b.dir)},
		{"one sync (fdatasync of 4 KiB written into a full file)", fmt.Sprintf("%.0f µs, p99 %.0f µs", median(syncs)/1e3, quantile(syncs, 0.99)/1e3)},
		{"load before the run", loadAverage()},
		{"Incoming", strings.TrimSpace(strings.TrimPrefix(string(version), "incoming ")) + commit},
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

// syncTimes is how long each of n writes of 4 KiB took to be durable, in a file that
// is there and full: all that a sync then has to do is to write them. They follow
// one another at once, or, with a rate, each has a time when it is due, and took
// counts from then.
func syncTimes(dir string, n int, rate float64) (took []float64, err error) {
	name := filepath.Join(dir, "sync")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if rerr := os.Remove(name); err == nil {
			err = rerr
		}
	}()
	block := make([]byte, 4096)
	if _, err := f.Write(make([]byte, n*len(block))); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	err = wokenWithin(time.Nanosecond, func() error {
		start := time.Now()
		for i := range n {
			began := time.Now()
			if rate > 0 {
				began = start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if err := sleepUntil(began); err != nil {
					return err
				}
			}
			if _, err := f.WriteAt(block, int64(i*len(block))); err != nil {
				return err
			}
			if err := fdatasync(f); err != nil {
				return err
			}
			took = append(took, float64(time.Since(began)))
		}
		return nil
	})
	return took, err
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

func cpuModel() string { return cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH) }

func memoryTotal() string {
	kb, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GiB", float64(kb)/(1<<20))
}

// field is what stands behind a name and a colon in a file; "" when nothing does.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
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
