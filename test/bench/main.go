// Command bench measures Incoming beside its peers: all in one run, in turns,
// with Postfix's smtp-source as the client of each, so that the figures may be
// compared. It prints a page of Markdown. It builds the daemon that it measures;
// Debian's package postfix brings the client and two of the peers.
//
//	go run .                        from this folder
//	go run . -quick                 within two minutes
//	go run . -write                 also into docs/benchmarks.md
//	go run . -only throughput
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		exit(servePeer(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, os.Args[1:]))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench is one run: what was asked for, and where things are.
type bench struct {
	root     string // the repository's
	dir      string // everything the servers write
	daemon   string // the built daemon
	self     string // this program, which is also the Go peers
	rounds   int
	budget   time.Duration // no round is begun that would end later; 0 is none
	messages int
	idle     int
	large    int // connections that send a large message at once
}

// measurement is one section of the page. To measure more, add one to the list.
type measurement struct {
	name string
	run  func(context.Context, *bench) (section, error)
}

func measurements() []measurement {
	return []measurement{
		{"throughput", throughput},
		{"idle", idleMemory},
		{"large", largeMemory},
	}
}

type options struct {
	quick, write   bool
	only, dir      string
	note           string
	timeout        time.Duration
	budget         time.Duration
	rounds         int
	messages, idle int
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&o.quick, "quick", false, "few messages, and as many rounds as fit: ends within two minutes")
	fs.BoolVar(&o.write, "write", false, "write docs/benchmarks.md too")
	fs.StringVar(&o.only, "only", "", "the measurements to make, with commas between: "+names())
	fs.StringVar(&o.dir, "dir", "", "where the servers keep their messages (default: a temporary directory)")
	fs.StringVar(&o.note, "note", "", "what a reader of the page should know of this run")
	fs.DurationVar(&o.timeout, "timeout", 30*time.Minute, "give up after this time")
	fs.IntVar(&o.rounds, "rounds", 5, "how often each server has its turn")
	fs.IntVar(&o.messages, "messages", 10000, "messages a turn for a server that stores; three times as many for one that does not")
	fs.IntVar(&o.idle, "idle", 5000, "idle connections")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.quick {
		o.rounds, o.messages, o.timeout, o.budget = 3, 1000, 2*time.Minute, 70*time.Second
	}
	if o.rounds < 1 || o.messages < 20 || o.idle < 1 {
		return o, errors.New("-rounds and -idle want 1 or more, -messages 20 or more")
	}
	return o, nil
}

func names() string {
	var all []string
	for _, m := range measurements() {
		all = append(all, m.name)
	}
	return strings.Join(all, ",")
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %s", o.timeout))
	defer cancel()
	b, cleanup, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer cleanup()
	page, err := b.measure(ctx, o.only, o.note)
	if err != nil {
		return err
	}
	fmt.Print(page)
	if o.write {
		return os.WriteFile(filepath.Join(b.root, "docs", "benchmarks.md"), []byte(page), 0o644)
	}
	return nil
}

// prepare builds the daemon and makes the directory that the servers share.
func prepare(ctx context.Context, o options) (*bench, func(), error) {
	if _, err := exec.LookPath("smtp-source"); err != nil {
		return nil, nil, errors.New("smtp-source is missing: it comes with Debian's package postfix")
	}
	root, err := repository(ctx)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if err := raiseFileLimit(uint64(2*o.idle + 1000)); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(o.dir, "incoming-bench-")
	if err != nil {
		return nil, nil, err
	}
	cleanup := func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}
	// Postfix's processes run as another user and have to get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		cleanup()
		return nil, nil, err
	}
	b := &bench{
		root: root, dir: dir, daemon: filepath.Join(dir, "incoming"), self: self,
		rounds: o.rounds, budget: o.budget, messages: o.messages, idle: o.idle, large: 50,
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.daemon, "./cmd/incoming")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		cleanup()
		return nil, nil, fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return b, cleanup, nil
}

// repository is two folders above this module.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(filepath.Dir(mod)) != "bench" {
		return "", errors.New("not in test/bench: go -C test/bench run . goes there")
	}
	return filepath.Join(filepath.Dir(mod), "..", ".."), nil
}

func (b *bench) measure(ctx context.Context, only, note string) (string, error) {
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if name != "" && !slices.Contains(strings.Split(names(), ","), name) {
			return "", fmt.Errorf("no measurement %q; there are %s", name, names())
		}
	}
	page := newPage()
	facts, err := b.machine(ctx)
	if err != nil {
		return "", err
	}
	if note != "" {
		facts = append(facts, [2]string{"of this run", note})
	}
	page.facts(facts)
	for _, m := range measurements() {
		if only != "" && !slices.Contains(wanted, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", m.name)
		s, err := m.run(ctx, b)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = errors.Join(cause, err)
			}
			return "", fmt.Errorf("%s: %w", m.name, err)
		}
		page.section(s)
	}
	return page.String(), nil
}

// raiseFileLimit lets this process and its children open n files.
func raiseFileLimit(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	want := syscall.Rlimit{Cur: max(n, limit.Cur), Max: max(n, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", n, err)
	}
	return nil
}
