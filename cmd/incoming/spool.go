package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
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

// spool is a queue to look at and to work on: a running daemon's by its control
// socket, or a stopped one's under the lock of its directory.
type spool interface {
	queue.Inspector
	Close() error
}

// access says what a tool is about to do with a spool.
type access int

const (
	look   access = iota // changes nothing, also not by recovering what a crash left
	change               // a stopped spool is opened as the daemon would open it
)

// daemon connects to the daemon that runs on the spool.
func (f *spoolFlags) daemon(ctx context.Context) (*control.Client, error) {
	dir, err := f.path()
	if err != nil {
		return nil, err
	}
	c, err := control.Dial(ctx, diskqueue.ControlSocket(dir))
	if err != nil {
		return nil, fmt.Errorf("no daemon answers for the spool %s (%w); start it, or name its spool with --spool DIR or --config FILE", dir, reason(err))
	}
	return c, nil
}

// open opens the spool. The daemon is asked first; when none answers, the
// directory itself is taken, which fails while another process has its lock.
func (f *spoolFlags) open(ctx context.Context, how access) (spool, error) {
	dir, err := f.path()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no spool at %s; name one with --spool DIR or --config FILE", dir)
	}
	socket := diskqueue.ControlSocket(dir)
	client, dialErr := control.Dial(ctx, socket)
	if dialErr == nil {
		return client, nil
	}
	if errors.Is(dialErr, fs.ErrPermission) {
		return nil, fmt.Errorf("control socket %s: permission denied; run this as the user the daemon runs as", socket)
	}
	s, err := openStopped(dir, how)
	if errors.Is(err, diskqueue.ErrLocked) {
		return nil, fmt.Errorf("spool %s: another process holds it, and none answers on its control socket %s (%w); try again, or stop that process", dir, socket, reason(dialErr))
	}
	return s, err
}

func openStopped(dir string, how access) (spool, error) {
	if how == look {
		return diskqueue.Inspect(dir)
	}
	return diskqueue.Open(dir, nil)
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
func stats(ctx context.Context, s spool) (control.Stats, error) {
	if c, ok := s.(*control.Client); ok {
		return c.Stats(ctx)
	}
	st := control.Stats{Paused: s.Paused()}
	var broken error
	for e, err := range s.List(ctx, queue.Filter{}) {
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		count(&st.Depth, e)
	}
	return st, broken
}

func count(d *queue.Depth, e queue.Entry) {
	switch e.State {
	case queue.StateDead:
		d.Dead++
		return
	case queue.StateLeased:
		d.Leased++
	case queue.StateWaiting:
		d.Waiting++
	default:
		d.Ready++
	}
	if d.Oldest.IsZero() || e.ReceivedAt.Before(d.Oldest) {
		d.Oldest = e.ReceivedAt
	}
}

// since is how long ago t was, at now; 0 for no time.
func since(now, t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return now.Sub(t)
}
