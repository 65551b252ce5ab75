// Package command delivers messages to a program: one run a message, the
// message on its standard input, the envelope in its environment.
//
// The program is run as it is named, never by a shell, and nothing of a message
// is in its arguments. Its exit status is the verdict: 0 is done; 65, 67, 68, 69
// and 77 (EX_DATAERR, EX_NOUSER, EX_NOHOST, EX_UNAVAILABLE and EX_NOPERM of
// sysexits.h) reject; any other, or a signal, is tried again. What it writes to
// standard error is kept as the reason; standard output is dropped. It need not
// read its input.
//
// The same message may come more than once (see delivery.Adapter): INCOMING_ID
// tells. Should this process die, the program finds its input ended early: a
// program that keeps what it read compares it with INCOMING_SIZE first.
package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// DefaultPath is where programs are looked for, and the PATH they are given,
// unless Options say otherwise.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Options is how a program is run. The zero value of a field is the default in
// parentheses.
type Options struct {
	// Path is the program's PATH (DefaultPath), where the program itself is
	// looked for when its name has no slash. No other variable of this
	// process's environment reaches the program.
	Path string
	// Dir is the program's working directory (this process's).
	Dir string
	// KillDelay is the time between SIGTERM and SIGKILL at the deadline (5 s).
	// At 10 s past the deadline a delivery is given up as abandoned: stay well
	// below.
	KillDelay time.Duration
}

// Adapter runs a program. It is safe for use by many goroutines; a run is for
// one message.
type Adapter struct {
	program string // absolute
	argv    []string
	opts    Options
}

var _ delivery.Adapter = (*Adapter)(nil)

// New returns an Adapter that runs argv[0] with the arguments argv[1:]. nil
// options are the defaults. It is an error when argv is empty, or argv[0] is not
// found or cannot be executed; nothing is run.
func New(argv []string, opts *Options) (*Adapter, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("command: no program: name one and its arguments, such as /usr/local/bin/ingest --fast")
	}
	for _, arg := range argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return nil, fmt.Errorf("command: the argument %q holds a NUL, which none may", arg)
		}
	}
	a := &Adapter{argv: slices.Clone(argv)}
	if opts != nil {
		a.opts = *opts
	}
	if a.opts.Path == "" {
		a.opts.Path = DefaultPath
	}
	if a.opts.KillDelay <= 0 {
		a.opts.KillDelay = 5 * time.Second
	}
	if a.opts.Dir != "" {
		if info, err := os.Stat(a.opts.Dir); err != nil {
			return nil, fmt.Errorf("command: working directory: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("command: working directory %s is not a directory", a.opts.Dir)
		}
	}
	program, err := find(argv[0], a.opts.Path)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	a.program = program
	return a, nil
}

// find is the file of a program, absolute. A name with a slash is a path from
// this process's working directory.
func find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		abs, err := filepath.Abs(name)
		if err == nil {
			err = executable(abs)
		}
		if err != nil {
			return "", fmt.Errorf("program %s: %w", name, err)
		}
		return abs, nil
	}
	var fault error
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // "" and "." would run whatever lies about
		}
		file := filepath.Join(dir, name)
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if fault == nil && !errors.Is(err, fs.ErrNotExist) {
			fault = fmt.Errorf("program %s: %w", file, err)
		}
	}
	if fault != nil {
		return "", fault
	}
	if strings.ContainsAny(name, " \t") {
		return "", fmt.Errorf("program %q is not found: give the arguments apart from the name, there is no shell", name)
	}
	return "", fmt.Errorf("program %q is not found in %s: give its whole path", name, path)
}

func executable(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err // the caller names the file
		}
		return err
	}
	if info.IsDir() {
		return errors.New("is a directory")
	}
	if !mayExecute(file) {
		return errors.New("may not be executed by this user: chmod +x it, or name its interpreter first")
	}
	return nil
}

// Deliver runs the program for m, and returns what its exit status says. At the
// end of ctx the program, and all it has started in its process group, is sent
// SIGTERM, and SIGKILL after Options.KillDelay; whatever it exits with then, the
// message is tried again. See delivery.Adapter.
func (a *Adapter) Deliver(ctx context.Context, m *queue.Message) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("command: %s: not begun: %w", a.program, err)
	}
	text, err := m.Open()
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	defer text.Close() // it was only read
	r := &run{cmd: exec.CommandContext(ctx, a.program)}
	r.cmd.WaitDelay = a.opts.KillDelay
	r.cmd.Args = a.argv
	r.cmd.Dir = a.opts.Dir
	r.cmd.Env = environment(m, a.opts.Path)
	if err := r.start(text); err != nil {
		return fmt.Errorf("command: %s: %w", a.program, err)
	}
	if err := r.wait(ctx); err != nil {
		return fmt.Errorf("command: %s: %w", a.program, err)
	}
	return nil
}
