package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/spf13/cobra"
)

func (a *app) checkCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration and print what would run",
		Long: `Check what "incoming serve" with the same flags would be given: the configuration, certificates, lists,
secrets, and where to deliver to. Print what would run. Nothing is changed, and no socket is opened.`,
		Args: args(0, 0, ""),
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.load(cmd)
		if err != nil {
			return err
		}
		status, err := dryRun(cfg)
		if err != nil {
			return err
		}
		return a.writePlan(cfg, status, f.file)
	}
	return cmd
}

// dryRun makes all that serve would make, with a queue in memory for the spool, and
// says how the server then stands.
func dryRun(cfg *config.Config) (status incoming.Status, err error) {
	log := slog.New(slog.DiscardHandler)
	p, err := newParts(cfg, nil, log)
	if err != nil {
		return status, err
	}
	hooks, _, err := newTelemetry(cfg, log)
	if err != nil {
		return status, err
	}
	c := serverConfig(cfg, p, hooks)
	c.Queue = memqueue.New(nil)
	defer c.Queue.Close()
	server, err := incoming.New(c)
	if err != nil {
		return status, err
	}
	return server.Status(), nil
}

func (a *app) writePlan(cfg *config.Config, status incoming.Status, file string) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s "+format+"\n", append([]any{name}, args...)...)
	}
	if file != "" {
		line("config", "%s", file)
	}
	for i, l := range cfg.Listeners {
		text := l.Address.String() + ", TLS " + l.TLS.String()
		if l.Name != "" {
			text = l.Name + ": " + text
		}
		if l.Protocol.String() == "lmtp" {
			text += ", LMTP"
		}
		if l.Proxy.String() != "disabled" {
			text += fmt.Sprintf(", PROXY %s from %s", l.Proxy, joined(l.ProxyNetworks))
		}
		line("listen", "%s", text)
		for _, c := range status.Listeners[i].Certificates {
			line("", "%s", certificateText(c, time.Now()))
		}
	}
	hostname := cfg.Hostname.String()
	if hostname == "" {
		hostname = "(the machine's)"
	}
	line("hostname", "%s", hostname)
	line("domains", "%s", domainsText(cfg))
	if cfg.Recipients != nil {
		line("recipients", "%s", recipientsText(cfg))
	}
	line("policies", "%s", policiesText(cfg))
	for _, text := range filtersText(cfg) {
		line("", "%s", text)
	}
	line("spool", "%s", cfg.Queue.Path)
	if !cfg.Queue.Fsync {
		line("", "without fsync: accepted mail is lost at a power cut")
	}
	line("deliver", "%s", targetText(cfg))
	if at := cfg.HTTP.Address.String(); at != "" {
		line("http", "%s", at)
	}
	line("log", "%s, addresses %s", cfg.Log.Format, cfg.Log.Addresses)
	for _, c := range config.Diff(config.Default(), cfg) {
		line("changed", "%s = %s", c.Key, c.New)
	}
	line("", "the configuration is good")
	_, err := a.stdout.Write([]byte(b.String()))
	return err
}

func joined[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, ", ")
}

// certificateText says what a certificate is for, and until when.
func certificateText(c incoming.CertificateStatus, now time.Time) string {
	names := strings.Join(c.Names, ", ")
	if names == "" {
		names = "no DNS name"
	}
	until := "valid until"
	if now.After(c.NotAfter) {
		until = "EXPIRED on"
	}
	return fmt.Sprintf("with %s for %s, %s %s", c.File, names, until, c.NotAfter.UTC().Format(time.DateOnly))
}

func recipientsText(cfg *config.Config) string {
	addresses, files, urls := cfg.KnownSources()
	texts := []string{fmt.Sprintf("%d known", len(addresses))}
	for _, path := range files {
		texts = append(texts, "those in "+path)
	}
	if len(urls) > 0 {
		texts = append(texts, "those "+plural(len(urls), "application")+" know of")
	}
	return strings.Join(texts, ", ")
}

// policiesText is the policies in the order in which they are asked.
func policiesText(cfg *config.Config) string {
	names := cfg.PolicyOrder()
	if len(names) == 0 {
		return "none"
	}
	for i, name := range names {
		if cfg.Observes(name) {
			names[i] += " (observed)"
		}
	}
	return strings.Join(names, ", ")
}

func domainsText(cfg *config.Config) string {
	names := domainsOf(cfg)
	switch {
	case names == nil:
		return "any"
	case len(names) == 0:
		return "none: only <postmaster> is accepted"
	}
	return strings.Join(names, ", ")
}
