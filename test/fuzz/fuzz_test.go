package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const module = "github.com/incoming-mx/incoming"

// target is a fuzz target.
type target struct {
	folder string // of its package, below the root of the module; "." is the root
	name   string
}

// TestEveryTarget says a line for each target and fails with the path of the
// input that broke it. -run picks targets, -parallel says how many processes
// each gets.
func TestEveryTarget(t *testing.T) {
	each := asked(t)
	out, err := command("test", "-list", "^Fuzz", "./...").Output()
	if err != nil {
		t.Fatalf("go test -list: %v\n%s%s", err, out, stderr(err))
	}
	for _, target := range listed(string(out)) {
		t.Run(path.Join(target.folder, target.name), func(t *testing.T) { run(t, target, each) })
	}
}

func asked(t *testing.T) time.Duration {
	value := os.Getenv("INCOMING_FUZZ")
	if value == "" {
		t.Skip("set INCOMING_FUZZ to how long each target is fuzzed, such as 10m")
	}
	each, err := time.ParseDuration(value)
	if err != nil || each <= 0 {
		t.Fatalf("INCOMING_FUZZ=%s: want a duration such as 10m", value)
	}
	return each
}

// command is the go command in the root of the module.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	return cmd
}

func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}

// listed is what go test -list says: names, and the package behind them.
func listed(out string) (all []target) {
	var names []string
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && strings.HasPrefix(words[0], "Fuzz"):
			names = append(names, words[0])
		case len(words) > 1 && words[0] == "ok":
			folder := strings.TrimPrefix(strings.TrimPrefix(words[1], module), "/")
			for _, name := range names {
				all = append(all, target{path.Clean(folder), name})
			}
			names = nil
		}
	}
	return all
}

// A target that finds its way out of none of this is stopped: building takes a
// while, and a single input is given up by go test itself.
const beside = 10 * time.Minute

func run(t *testing.T, target target, each time.Duration) {
	cmd := command("test", "-run=^$", "-fuzz=^"+target.name+"$", "-fuzztime="+each.String(),
		"-parallel="+flag.Lookup("test.parallel").Value.String(), "./"+target.folder)
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(each+beside, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	r, err := read(said)
	if failed := cmd.Wait(); failed != nil || err != nil {
		input := "none was written"
		if r.input != "" {
			input = filepath.Join(target.folder, r.input)
		}
		t.Fatalf("FAILED after %d executions: %v\ninput: %s\n%s", r.executions, errors.Join(failed, err), input, strings.Join(r.last, "\n"))
	}
	t.Logf("%s: %d executions, %d new interesting inputs", target.name, r.executions, r.interesting)
}

// result is what go test says while it fuzzes.
type result struct {
	executions, interesting int
	input                   string   // that failed, below the package's folder
	last                    []string // lines that are no progress
}

var (
	progress = regexp.MustCompile(`^fuzz: elapsed: .*execs: (\d+) .*new interesting: (\d+)`)
	failing  = regexp.MustCompile(`Failing input written to (\S+)`)
)

func read(from io.Reader) (r result, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		if found := progress.FindStringSubmatch(line); found != nil {
			if _, err := fmt.Sscan(found[1]+" "+found[2], &r.executions, &r.interesting); err != nil {
				return r, err
			}
			continue
		}
		if found := failing.FindStringSubmatch(line); found != nil {
			r.input = found[1]
		}
		if r.last = append(r.last, line); len(r.last) > 60 {
			r.last = slices.Delete(r.last, 0, 1)
		}
	}
	return r, lines.Err()
}

func TestTargetsAreFoundInWhatGoTestLists(t *testing.T) {
	t.Parallel()
	got := listed("FuzzOne\nok  \t" + module + "\t0.003s\n?   \t" + module + "/examples/minimal\t[no test files]\nok  \t" + module + "/header\t0.002s\n" +
		"FuzzTwo\nFuzzThree\nok  \t" + module + "/queue/diskqueue\t(cached)\n")
	want := []target{{".", "FuzzOne"}, {"queue/diskqueue", "FuzzTwo"}, {"queue/diskqueue", "FuzzThree"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWhatFailedIsFoundInWhatGoTestSays(t *testing.T) {
	t.Parallel()
	r, err := read(bytes.NewBufferString("fuzz: elapsed: 0s, gathering baseline coverage: 0/3 completed\n" +
		"fuzz: elapsed: 3s, execs: 2339 (779/sec), new interesting: 5 (total: 364)\n--- FAIL: FuzzOne (0.00s)\n    one_test.go:7: broken\n" +
		"    Failing input written to testdata/fuzz/FuzzOne/c337\nFAIL\n"))
	if err != nil || r.executions != 2339 || r.interesting != 5 || r.input != "testdata/fuzz/FuzzOne/c337" || !slices.Contains(r.last, "    one_test.go:7: broken") {
		t.Errorf("%+v, %v", r, err)
	}
}
