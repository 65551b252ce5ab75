package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
)

// hangup answers SIGHUP: the log is where it says what it did.
func (d *daemon) hangup(ctx context.Context) {
	if _, err := d.reloadNow(ctx); err != nil {
		return // logged there
	}
}

// reloadNow reads configuration, lists, secrets and certificates again. All of
// it comes into force, or, with the error, nothing. Sessions go on. Options
// that cannot be changed while running stay as they are and are reported.
func (d *daemon) reloadNow(ctx context.Context) (*control.Report, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.reloading()()
	r, err := d.reload(ctx)
	if err != nil {
		d.log.Error("reload failed; nothing was changed", "error", oneLine(err))
		return nil, plain{err}
	}
	for _, line := range reportLines(r) {
		d.log.Info("reload: " + line)
	}
	return r, nil
}

func (d *daemon) reload(context.Context) (*control.Report, error) {
	if d.draining.Load() {
		return nil, errors.New("it is draining")
	}
	wanted, err := d.load()
	if err != nil {
		return nil, err
	}
	next := config.Reloaded(d.running, wanted)
	if isNone(next) != isNone(d.running) {
		next.Delivery.To = d.running.Delivery.To // a server without workers cannot come by any
	}
	parts, err := newParts(next, d.parts, d.log)
	if err != nil {
		return nil, err
	}
	if err := d.server.Reload(d.composed(next, parts)); err != nil {
		return nil, err
	}
	d.adapter.set(parts.adapter, acceptanceOf(next))
	d.level.Set(levelOf(next))
	r := &control.Report{Reread: d.files(next)}
	for _, c := range config.Diff(d.running, wanted) {
		if c.Key == "delivery.to" && isNone(wanted) != isNone(next) {
			c.Restart = true
		}
		r.Changes = append(r.Changes, control.Change(c))
	}
	parts.zones.keep(next.DNSBLs)
	d.running, d.parts = next, parts
	return r, nil
}

// files is what a reload reads again.
func (d *daemon) files(cfg *config.Config) []string {
	var files []string
	add := func(name string) {
		if name != "" && !slices.Contains(files, name) {
			files = append(files, name)
		}
	}
	add(d.file)
	if slices.Contains(cfg.PolicyOrder(), "access_list") {
		add(cfg.AccessList.File)
	}
	_, lists, _ := cfg.KnownSources()
	for _, path := range lists {
		add(path)
	}
	targets := []config.Target{cfg.Delivery.To}
	for _, r := range cfg.Routes {
		targets = append(targets, r.To...)
	}
	for _, to := range targets {
		if to.Kind == config.ToWebhook || to.Kind == config.ToS3 && cfg.S3.Notify != "" {
			add(cfg.Webhook.SecretFile)
		}
		if to.Kind == config.ToS3 {
			add(cfg.S3.SecretKeyFile)
		}
		if to.Kind == config.ToSMTP || to.Kind == config.ToLMTP {
			add(cfg.Relay.TLSCA)
		}
	}
	if cfg.HTTPPolicy.URL != "" {
		add(cfg.HTTPPolicy.SecretFile)
	}
	if slices.Contains(cfg.PolicyOrder(), "minted") {
		add(cfg.Minted.KeyFile)
	}
	for _, l := range cfg.Listeners {
		add(l.Cert)
		add(l.Key)
		for _, c := range l.Certificates {
			add(c.Cert)
			add(c.Key)
		}
	}
	return files
}

func isNone(c *config.Config) bool { return c.Delivery.To.Kind == config.ToNone }

// reportLines says what a reload did, a fact a line.
func reportLines(r *control.Report) []string {
	var lines []string
	for _, f := range r.Reread {
		lines = append(lines, "read again: "+f)
	}
	restart := 0
	for _, c := range r.Changes {
		line := fmt.Sprintf("changed: %s from %s to %s", c.Key, c.Old, c.New)
		if c.Restart {
			restart++
			line = fmt.Sprintf("needs a restart: %s stays %s until then, and becomes %s", c.Key, c.Old, c.New)
		}
		lines = append(lines, line)
	}
	switch {
	case len(r.Changes) == 0:
		lines = append(lines, "no option has changed")
	case restart > 0:
		lines = append(lines, fmt.Sprintf("%s changed, %d of them only with a restart", plural(len(r.Changes), "option"), restart))
	default:
		lines = append(lines, plural(len(r.Changes), "option")+" changed")
	}
	return lines
}
