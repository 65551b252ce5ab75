// Command bench measures Incoming beside its peers: all in one run, in turns,
// with the same client for each, so that the figures may be compared. It prints a
// page of Markdown. It builds the daemon that it measures; Debian's package
// postfix brings a client and two of the peers.
//
//	go run .                        from this folder
//	go run . -quick                 within two minutes
//	go run . -write                 also into docs/benchmarks.md and docs/benchmarks.svg
//	go run . -only throughput,latency
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

	"github.com/incoming-mx/incoming/internal/sched"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case peerCommand:
			stop() // a signal ends it
			exit(servePeer(os.Args[2:]))
		case dotsCommand:
			exit(sendDots(ctx, os.Args[2:], os.Stdout))
		case spoolCommand:
			if err := sched.Batch(); err != nil { // as the daemon does
				exit(err)
			}
			exit(workSpool(ctx, os.Args[2:], os.Stdout))
		}
	}
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
	options
	root   string // the repository's
	dir    string // everything the servers write
	daemon string // the built daemon
	before string // that of an earlier commit; "" where none is asked for
	self   string // this program, which is also the Go peers
	cert   certificate

	turns results // of the throughput, which other measurements start from
}

// measurement is one section of the page. To measure more, add one to the list.
type measurement struct {
	name string
	run  func(context.Context, *bench) (section, error)
}

// measurements are in the order of the page. Depth is last: the many files that
// it removes make ext4 slow for a while.
func measurements() []measurement {
	return []measurement{
		{"throughput", throughput},
		{"guards", guarding},
		{"latency", latency},
		{"costs", costs},
		{"modes", modes},
		{"idle", idleMemory},
		{"receiving", receivingMemory},
		{"depth", depths},
	}
}

func names(of []measurement) []string {
	var all []string
	for _, m := range of {
		all = append(all, m.name)
	}
	return all
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
	p, err := b.measure(ctx)
	if len(p.sections) > 0 {
		fmt.Print(p.markdown())
	}
	if err == nil && o.write {
		err = p.write(filepath.Join(b.root, "docs"))
	}
	return err
}

// prepare builds the daemon and makes the directory that the servers share.
func prepare(ctx context.Context, o options) (_ *bench, cleanup func(), err error) {
	if _, err := exec.LookPath("smtp-source"); err != nil {
		return nil, nil, errors.New("smtp-source is missing: it comes with Debian's package postfix")
	}
	b := &bench{options: o, turns: make(results)}
	if b.root, err = repository(ctx); err != nil {
		return nil, nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, nil, err
	}
	if err := raiseFileLimit(uint64(2*o.idle + 1000)); err != nil {
		return nil, nil, err
	}
	if b.dir, err = os.MkdirTemp(o.dir, "incoming-bench-"); err != nil {
		return nil, nil, err
	}
	cleanup = func() {
		if err := os.RemoveAll(b.dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}
	defer func() {
		if err != nil {
			cleanup()
		}
	}()
	// Postfix's processes run as another user and have to get in.
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return nil, nil, err
	}
	if b.cert, err = newCertificate(b.dir); err != nil {
		return nil, nil, err
	}
	b.daemon = filepath.Join(b.dir, "incoming")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.daemon, "./cmd/incoming")
	build.Dir = b.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	if b.against != "" {
		if b.before, err = b.buildEarlier(ctx); err != nil {
			return nil, nil, err
		}
	}
	return b, cleanup, nil
}

// buildEarlier builds the daemon of the commit b.against from a work tree of its own.
func (b *bench) buildEarlier(ctx context.Context) (daemon string, err error) {
	tree, daemon := filepath.Join(b.dir, "earlier"), filepath.Join(b.dir, "incoming-earlier")
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", b.root, "worktree"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git worktree: %w\n%s", err, out)
		}
		return nil
	}
	if err := git("add", "--detach", tree, b.against); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, git("remove", "--force", tree)) }()
	build := exec.CommandContext(ctx, "go", "build", "-o", daemon, "./cmd/incoming")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon of %s: %w\n%s", b.against, err, out)
	}
	return daemon, nil
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

// measure makes the measurements that were asked for. The page has those that
// came to an end, when one does not too.
func (b *bench) measure(ctx context.Context) (*page, error) {
	p := &page{note: b.note}
	var err error
	if p.facts, err = b.machine(ctx); err != nil {
		return p, err
	}
	err = b.make(ctx, p, slices.DeleteFunc(measurements(), func(m measurement) bool {
		return b.only != nil && !slices.Contains(b.only, m.name)
	}))
	p.chart = b.chart()
	return p, err
}

// make makes measurements, one after the other, until one fails or the time is over.
func (b *bench) make(ctx context.Context, p *page, wanted []measurement) error {
	for i, m := range wanted {
		began := time.Now()
		s, err := m.run(ctx, b)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.Join(context.Cause(ctx), err)
			}
			p.missing = names(wanted[i:])
			return fmt.Errorf("%s: %w", m.name, err)
		}
		b.progress("%s: done in %.0f s", m.name, time.Since(began).Seconds())
		p.sections = append(p.sections, s)
	}
	return nil
}

// progress tells whoever waits how far it is.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
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
