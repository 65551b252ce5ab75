package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
	"github.com/incoming-mx/incoming/queue/diskqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// daemon is the parts of a running "incoming serve".
type daemon struct {
	app   *app
	log   *slog.Logger
	level *slog.LevelVar
	load  func() (*config.Config, error) // reads file and flags again
	file  string                         // the configuration file, for reports

	hooks    telemetry.Hooks
	queue    *diskqueue.Queue
	server   *incoming.Server
	adapter  *switchable
	parts    *parts
	draining atomic.Bool

	control, http net.Listener
	stop          context.CancelFunc // of what serves on those two
	serving       sync.WaitGroup

	mu      sync.Mutex // guards a reload: running, parts
	running *config.Config
}

// newDaemon makes everything and listens on the control socket and for HTTP,
// but not yet for mail. When it fails, nothing of it is left.
func newDaemon(ctx context.Context, a *app, cfg *config.Config, load func() (*config.Config, error)) (_ *daemon, err error) {
	d := &daemon{app: a, load: load, running: cfg, level: new(slog.LevelVar), adapter: new(switchable)}
	d.log = newLogger(a.stderr, cfg, d.level)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.parts, err = newParts(cfg, nil, d.log); err != nil {
		return nil, err
	}
	var exporter http.Handler
	if d.hooks, exporter, err = newTelemetry(cfg, d.log); err != nil {
		return nil, err
	}
	d.parts.zones.trouble, d.parts.behind.decided = d.hooks.Trouble, d.hooks.PolicyDecision
	if d.queue, err = openSpool(cfg, d.hooks); err != nil {
		return nil, err
	}
	d.adapter.set(d.parts.adapter, acceptanceOf(cfg))
	c := d.composed(cfg, d.parts)
	if err = adopt(cfg, c.Listeners); err != nil {
		return nil, err
	}
	if d.server, err = incoming.New(c); err != nil {
		return nil, err
	}
	if d.control, err = control.Listen(ctx, d.queue.ControlSocket()); err != nil {
		return nil, err
	}
	if cfg.HTTP.Address.String() != "" {
		if d.http, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.HTTP.Address.String()); err != nil {
			return nil, fmt.Errorf("http.address: %w", err)
		}
	}
	d.serveTools(context.WithoutCancel(ctx), exporter)
	return d, nil
}

// serveTools begins to answer the operator's tools and probes; it goes on until
// close, so that a drain can be watched.
func (d *daemon) serveTools(ctx context.Context, exporter http.Handler) {
	ctx, d.stop = context.WithCancel(ctx)
	d.serving.Go(func() { d.failed(control.Serve(ctx, d.control, d.controlled())) })
	if l := d.http; l != nil {
		d.serving.Go(func() { d.failed(serveHTTP(ctx, l, d.probes(exporter))) })
	}
}

// failed tells of the end of what serves beside the mail, which goes on.
func (d *daemon) failed(err error) {
	if err != nil {
		d.log.Error("the operator's tools cannot be served any more; mail goes on", "error", err)
	}
}

// composed is cfg as the server takes it, with the daemon's queue and with an
// adapter that a reload can change.
func (d *daemon) composed(cfg *config.Config, p *parts) incoming.Config {
	c := serverConfig(cfg, p, d.hooks)
	c.Queue = d.queue
	if c.Adapter != nil {
		c.Adapter = d.adapter
	}
	return c
}

// close ends what newDaemon began, in the opposite order.
func (d *daemon) close() error {
	var errs []error
	if d.stop != nil {
		d.stop()
		d.serving.Wait()
	} else {
		for _, l := range []net.Listener{d.control, d.http} {
			if l != nil {
				errs = append(errs, l.Close())
			}
		}
	}
	if d.queue != nil {
		if err := d.queue.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the spool: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (d *daemon) drainTime() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running.Timeouts.Drain.String()
}

// controlled is what the control socket offers.
func (d *daemon) controlled() control.Daemon {
	return control.Daemon{Queue: operated{d.queue, d.log}, Stats: d.stats, Sessions: d.sessions, Busiest: d.busiest, Reload: d.reloadNow}
}

func (d *daemon) stats() control.Stats {
	st := control.Stats{Depth: d.queue.Depth(), Paused: d.queue.Paused()}
	if pool := d.server.Status().Delivery; pool != nil {
		st.Held = pool.Held
	} else {
		st.None = true
	}
	return st
}

func (d *daemon) sessions() []control.Session {
	sessions := []control.Session{}
	for s := range d.server.Sessions() {
		peer := ""
		if s.Peer.IsValid() {
			peer = s.Peer.String()
		}
		sessions = append(sessions, control.Session{ID: s.ID, Listener: s.Listener, Peer: peer, Hello: s.Hello, TLS: s.TLS,
			State: string(s.State), InState: s.InState, Since: s.Since, Messages: s.Messages, BytesIn: s.BytesIn, BytesOut: s.BytesOut})
	}
	return sessions
}

func (d *daemon) busiest() []control.Peer {
	peers := []control.Peer{}
	for p := range d.server.Busiest() {
		peers = append(peers, control.Peer{Peer: peerText(p.Peer), Sessions: p.Sessions, Refused: p.Refused, Messages: p.Messages,
			BytesIn: p.BytesIn, BytesOut: p.BytesOut, Since: p.Since})
	}
	return peers
}

// peerText is an address as such, and a network with its length.
func peerText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// openSpool opens the queue as cfg says. Its errors name the mend.
func openSpool(cfg *config.Config, hooks telemetry.Hooks) (*diskqueue.Queue, error) {
	path := cfg.Queue.Path
	q, err := diskqueue.Open(path, spoolOptions(cfg, hooks))
	switch {
	case errors.Is(err, diskqueue.ErrLocked):
		return nil, fmt.Errorf("spool %s: another process holds it, whose ID is in %s; stop that one, or give this one a spool of its own with --spool DIR", path, filepath.Join(path, "lock"))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("spool %s: %w; make it writable for user %d, or give another with --spool DIR", path, err, os.Getuid())
	case err != nil:
		return nil, fmt.Errorf("spool %s: %w", path, err)
	}
	return q, nil
}
