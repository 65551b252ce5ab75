package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
	"github.com/incoming-mx/incoming/telemetry"
	"github.com/spf13/cobra"
)

// spoolFlags says which spool, and so which daemon, a tool is for.
type spoolFlags struct {
	dir, file string
	json      bool
}

func (f *spoolFlags) register(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.StringVar(&f.dir, "spool", "", "`DIR` of the spool (default: as --config says, else incoming-data/spool)")
	fs.StringVar(&f.file, "config", "", "the daemon's configuration `FILE`, for where its spool is")
	fs.BoolVar(&f.json, "json", false, "print one JSON object a line")
}

// path is the spool's directory.
func (f *spoolFlags) path() (string, error) {
	if f.dir != "" {
		return f.dir, nil
	}
	c, err := config.Load(f.file, nil)
	if err != nil {
		return "", err
	}
	return c.Queue.Path, nil
}

// view is a queue to look at: a running daemon's by its control socket, or a
// stopped one's under the lock of its directory. It changes nothing, not even
// what a crash has left.
type view interface {
	List(context.Context, queue.Filter) iter.Seq2[queue.Entry, error]
	Get(context.Context, queue.ID) (queue.Entry, error)
	Open(context.Context, queue.ID) (io.ReadCloser, error)
	Paused() bool
	Close() error
}

// spool is a queue to work on. A stopped one is opened as the daemon would.
type spool interface {
	queue.Inspector
	Close() error
}

// daemon connects to the daemon that runs on the spool.
func (f *spoolFlags) daemon(ctx context.Context) (*control.Client, error) {
	dir, err := f.path()
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, dir, diskqueue.ControlSocket(dir))
	if errors.Is(err, control.ErrSilent) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("no daemon answers for the spool %s (%w); start it, or name its spool with --spool DIR or --config FILE", dir, reason(err))
	}
	return c, nil
}

// view opens the spool for looking.
func (f *spoolFlags) view(ctx context.Context) (view, error) {
	return open(ctx, f, func(c *control.Client) view { return c }, func(dir string) (view, error) {
		i, err := diskqueue.Inspect(dir)
		if err != nil {
			return nil, err
		}
		return i, nil
	})
}

// spool opens the spool for work. What opening sets aside is said, and no dead
// letter is removed for its age: that is the daemon's, which knows how long they
// are kept.
func (f *spoolFlags) spool(ctx context.Context, note func(string, ...any)) (spool, error) {
	return open(ctx, f, func(c *control.Client) spool { return c }, func(dir string) (spool, error) {
		q, err := diskqueue.Open(dir, &diskqueue.Options{DeadSweep: -1, Hooks: telemetry.Hooks{
			SpoolError: func(e telemetry.SpoolError) { note("%v", e.Err) },
		}})
		if err != nil {
			return nil, err
		}
		return q, nil
	})
}

// open asks the daemon first; when none answers, the directory itself is taken,
// which fails while another process has its lock.
func open[S any](ctx context.Context, f *spoolFlags, running func(*control.Client) S, stopped func(dir string) (S, error)) (none S, err error) {
	dir, err := f.path()
	if err != nil {
		return none, err
	}
	if err := checkSpool(dir); err != nil {
		return none, err
	}
	socket := diskqueue.ControlSocket(dir)
	client, dialErr := dial(ctx, dir, socket)
	if dialErr == nil {
		return running(client), nil
	}
	if errors.Is(dialErr, control.ErrSilent) {
		return none, dialErr
	}
	if errors.Is(dialErr, fs.ErrPermission) {
		return none, fmt.Errorf("control socket %s: permission denied; run this as the user the daemon runs as", socket)
	}
	s, err := stopped(dir)
	if errors.Is(err, diskqueue.ErrLocked) {
		return none, fmt.Errorf("spool %s: another process holds it, and none answers on its control socket %s (%w); try again, or stop that process", dir, socket, reason(dialErr))
	}
	if err != nil {
		return none, fmt.Errorf("spool %s: %w", dir, err)
	}
	return s, nil
}

// checkSpool wants dir to be a spool that a daemon has made, so that a name
// mistyped is not one made new.
func checkSpool(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no spool at %s; name one with --spool DIR or --config FILE", dir)
	}
	if info, err := os.Stat(filepath.Join(dir, "committed")); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no spool: it has no directory committed; name one with --spool DIR or --config FILE", dir)
	}
	return nil
}

// dial connects to the socket, if it is the spool's owner's or ours. It may lie in
// a directory where anybody could have put it.
func dial(ctx context.Context, dir, socket string) (*control.Client, error) {
	owner, err := ownerOf(socket)
	if err != nil {
		return nil, err
	}
	if theirs, err := ownerOf(dir); owner != os.Geteuid() && (err != nil || owner != theirs) {
		return nil, fmt.Errorf("%s belongs to user %d, who does not own the spool", socket, owner)
	}
	return control.Dial(ctx, socket)
}

func ownerOf(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), nil
	}
	return 0, fmt.Errorf("%s: its owner is not known", path)
}

// reason is the system's word for why a dial failed, without addresses.
func reason(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// stats counts the messages of a spool.
func stats(ctx context.Context, v view) (control.Stats, error) {
	if c, ok := v.(*control.Client); ok {
		return c.Stats(ctx)
	}
	st := control.Stats{Paused: v.Paused(), Down: true}
	var err error
	if i, ok := v.(*diskqueue.Inspection); ok {
		st.Depth, err = i.Depth()
	}
	return st, err
}

// since is how long ago t was, at now; 0 for no time.
func since(now, t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return now.Sub(t)
}
