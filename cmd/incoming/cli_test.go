package main

import (
	"bytes"
	"context"
	"flag"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var updateScripts = flag.Bool("update", false, "write the goldens within the scripts anew")

func TestVersionTellsOnlyWhatTheBuildKnows(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}}
	if got := version(info); !strings.HasPrefix(got, "incoming v1.2.3 go1.26.8 ") {
		t.Error(got)
	}
	info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}
	if got := version(info); !strings.HasPrefix(got, "incoming v1.2.3 revision abc of 2026-01-02T03:04:05Z, modified go1.26.8 ") {
		t.Error(got)
	}
	if got := version(nil); !strings.HasPrefix(got, "incoming (unknown) ") {
		t.Error(got)
	}
}

func TestAPeersTextIsSafeToShow(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a@x.example":           "a@x.example",
		"jörg@x.example":        "jörg@x.example",
		"a\x1b[2Jb":             `a\x1b[2Jb`,
		"a\r\nb":                `a\x0d\x0ab`,
		"a\xffb":                `a\xffb`,
		"a\u202eb":              `a\u202eb`,
		"a\u0085b":              `a\x85b`,
		"back\\slash and \"q\"": "back\\slash and \"q\"",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestSpansAndOctets(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s",
		time.Hour: "1h0m", 47 * time.Hour: "47h0m", 49 * time.Hour: "2d1h"} {
		if got := span(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.0KiB", 1536: "1.5KiB", 50 << 20: "50MiB", 3 << 40: "3.0TiB"} {
		if got := octets(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestConfirmAsksAndTakesOnlyYes(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "n\n": false, "": false, "yep\n": false, "y": true} {
		var asked bytes.Buffer
		a := &app{stdin: strings.NewReader(answer), stderr: &asked, interactive: func() bool { return true }}
		if err := a.confirm("delete 3 messages"); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
		if asked.String() != "delete 3 messages? [y/N] " {
			t.Errorf("asked %q", asked.String())
		}
	}
}

func TestTheBarIsOneLineThatEndsFull(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	b := &bar{w: &w, total: 10, began: time.Now()}
	b.show(5, "0 failed")
	b.show(10, "1 failed")
	b.clear()
	if got := w.String(); strings.Contains(got, "\n") || !strings.Contains(got, "\r[##############################] 10/10 1 failed") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
}

// runHere runs the program within the test.
func runHere(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.WithoutCancel(t.Context()), args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestEachCommandHasHelpAndRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"serve", "check", "config", "queue list", "queue show", "queue cat", "queue stats", "queue retry", "queue requeue",
		"queue delete", "queue pause", "queue resume", "sessions", "reload", "route test", "send", "version", "man"} {
		args := strings.Fields(name)
		if code, out, stderr := runHere(t, append(args, "--help")...); code != exitOK || !strings.Contains(out, "Usage:") || stderr != "" {
			t.Errorf("%s --help: %d %q %q", name, code, out, stderr)
		}
		code, out, stderr := runHere(t, append(args, "--frob")...)
		if code != exitUsage || out != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "incoming: unknown flag: --frob; see incoming "+name+" --help") {
			t.Errorf("%s --frob: %d %q %q", name, code, out, stderr)
		}
	}
}
