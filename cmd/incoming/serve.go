package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/internal/sched"
	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Receive mail: run the daemon",
		Long: `Receive mail: listen, keep what comes in the spool, and deliver it. Without any argument it listens on
127.0.0.1:2525, keeps its spool in ./incoming-data/spool and delivers into the Maildir ./incoming-data/mail.

Flags win over the file of --config, and --set over the other flags. SIGTERM and SIGINT drain and end it, a
second one ends it by force; SIGHUP, like "incoming reload", reads configuration, lists and certificates again.`,
		Example: `  incoming serve
  incoming serve --listen :25 --domain example.org --deliver https://app.example/mail
  incoming serve --config /etc/incoming.toml --set limits.message_size=20MiB`,
		Args: args(0, 0, ""),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, &f) }
	return cmd
}

// serve runs the daemon until a signal, or until it fails.
func (a *app) serve(cmd *cobra.Command, f *configFlags) error {
	// Each has a channel of its own, for what finds one full is lost: a storm of
	// hangups must not cost the signal to end. Of hangups one that waits says it
	// all; of the others the second means force.
	hangups, endings := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(hangups, syscall.SIGHUP)
	signal.Notify(endings, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(hangups)
	defer signal.Stop(endings)

	unscheduled := sched.Batch() // while there are few threads; told when there is a log
	load := func() (*config.Config, error) { return f.load(cmd) }
	cfg, err := load()
	if err != nil {
		return err
	}
	d, err := newDaemon(cmd.Context(), a, cfg, load)
	if err != nil {
		return err
	}
	d.file = f.file
	if unscheduled != nil {
		d.log.Info("threads are scheduled as they come", "error", unscheduled)
	}
	return errors.Join(d.run(cmd.Context(), hangups, endings), d.close())
}

// run serves until a signal that ends it, and reads the configuration again at those
// that do not.
func (d *daemon) run(ctx context.Context, hangups, endings <-chan os.Signal) error {
	ctx, drain := context.WithCancel(ctx)
	defer drain()
	ended := make(chan error, 1)
	go func() { ended <- d.server.Run(ctx) }()

	ready := d.server.Ready()
	ending := false
	for {
		select {
		case <-ready:
			ready = nil
			d.announce()
			d.notify(sd.SdNotifyReady)
			for _, why := range d.server.Status().NotReady {
				d.log.Warn("not ready", "reason", why)
			}
			if why := fewDescriptors(d.running.Limits.Connections.N); why != "" {
				d.log.Warn("few file descriptors", "reason", why)
			}
			if d.queue.Paused() {
				d.log.Warn(pausedText)
			}
		case <-hangups:
			d.hangup(ctx)
		case s := <-endings:
			if ending {
				d.log.Warn("ending by force", "signal", s.String())
				d.server.ForceClose()
				continue
			}
			ending = true
			d.log.Info("draining", "signal", s.String(), "at_most", d.drainTime())
			d.draining.Store(true)
			d.notify(sd.SdNotifyStopping)
			drain()
		case err := <-ended:
			if err != nil {
				return err
			}
			d.log.Info("ended")
			return nil
		}
	}
}

// announce says in three lines what runs: where it listens, where it keeps
// messages, where it delivers them.
func (d *daemon) announce() {
	var listeners []string
	for _, l := range d.running.Listeners {
		at := l.Address.String()
		if addr := d.server.Addr(l.Label()); addr != nil && !l.Unix() {
			at = addr.String()
		}
		if l.TLS.String() != "disabled" {
			at += " (TLS " + l.TLS.String() + ")"
		}
		if l.Protocol.String() == "lmtp" {
			at += " (LMTP)"
		}
		if l.Proxy.String() != "disabled" {
			at += " (PROXY " + l.Proxy.String() + ")"
		}
		listeners = append(listeners, at)
	}
	where := strings.Join(listeners, ", ")
	if d.http != nil {
		where += "; http on " + d.http.Addr().String()
	}
	to := targetText(d.running)
	if d.running.Log.Format.String() == "json" {
		d.log.Info("listening", "on", where)
		d.log.Info("keeping messages", "path", d.running.Queue.Path)
		d.log.Info("delivering", "to", to)
		return
	}
	d.app.note("listening on %s", where)
	d.app.note("keeping messages in the spool %s", d.running.Queue.Path)
	d.app.note("delivering %s", to)
}

// targetText says where messages go, without secrets.
func targetText(c *config.Config) string {
	if n := len(c.Routes); n > 0 {
		return fmt.Sprintf("by %s, the rest %s", plural(n, "route"), placeText(c, c.Delivery.To))
	}
	return placeText(c, c.Delivery.To)
}

func placeText(c *config.Config, to config.Target) string {
	switch to.Kind {
	case config.ToMaildir:
		return "into the Maildir " + to.Dir
	case config.ToWebhook:
		return "to " + to.Redacted()
	case config.ToCommand:
		return "to the command " + strings.Join(c.Argv(to), " ")
	case config.ToSMTP, config.ToLMTP:
		return "to " + to.Addr + " by " + strings.ToUpper(string(to.Kind))
	case config.ToS3:
		return "into the bucket " + to.Bucket + " at " + c.S3.Endpoint
	case config.ToDiscard:
		return "nowhere: messages are acknowledged and discarded"
	}
	return "nothing: messages stay in the queue"
}
