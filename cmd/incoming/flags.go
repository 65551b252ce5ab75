package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/spf13/cobra"
)

// configFlags is the flags that say what the daemon should do: over the file
// that --config names come the named flags, and over those --set.
type configFlags struct {
	file                                 string
	listen, domains, set                 []string
	hostname, spool, deliver, http, logs string
}

func (f *configFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.file, "config", "", "TOML `FILE` to read; flags win over it")
	fs.StringArrayVar(&f.listen, "listen", nil, "`ADDR` to listen on, or unix:PATH or systemd:NAME, repeatable; in place of all listeners of the file, and without TLS (default 127.0.0.1:2525)")
	fs.StringVar(&f.hostname, "hostname", "", "our `NAME` in the banner and in Received (default: the machine's)")
	fs.StringVar(&f.spool, "spool", "", "`DIR` of the spool (default incoming-data/spool)")
	fs.StringVar(&f.deliver, "deliver", "", "`WHERE` to: maildir:DIR, https://…, http://…, command:PROG ARGS, lmtp:HOST:PORT, smtp:HOST:PORT, s3:BUCKET, discard, none (default maildir:incoming-data/mail)")
	fs.StringArrayVar(&f.domains, "domain", nil, "`DOMAIN` to accept mail for, repeatable; '*' is any")
	fs.StringVar(&f.http, "http", "", "`ADDR` for /metrics, /healthz, /readyz")
	fs.StringVar(&f.logs, "log", "", "`FORMAT` of the log, text or json (default text)")
	fs.StringArrayVar(&f.set, "set", nil, "`KEY=VALUE`: any option of \"incoming config\", repeatable")
}

// load is the configuration that file and flags say.
func (f *configFlags) load(cmd *cobra.Command) (*config.Config, error) {
	return config.Load(f.file, func(c *config.Config) error {
		if err := f.override(cmd, c); err != nil {
			return usagef(cmd, "%w", err)
		}
		return nil
	})
}

func (f *configFlags) override(cmd *cobra.Command, c *config.Config) error {
	fs := cmd.Flags()
	if fs.Changed("listen") {
		if slices.Contains(f.listen, "") {
			return errors.New("--listen: it is empty; leave it out for the default")
		}
		if err := c.Listen(f.listen); err != nil {
			return err
		}
	}
	if fs.Changed("domain") {
		if err := c.AcceptDomains(f.domains); err != nil {
			return err
		}
	}
	for _, s := range []struct{ flag, key, value string }{
		{"hostname", "hostname", f.hostname},
		{"spool", "queue.path", f.spool},
		{"deliver", "delivery.to", f.deliver},
		{"http", "http.address", f.http},
		{"log", "log.format", f.logs},
	} {
		if fs.Changed(s.flag) {
			if s.value == "" && s.flag != "http" { // an unset variable of a script, most likely
				return fmt.Errorf("--%s: it is empty; leave it out for the default", s.flag)
			}
			if err := c.SetKey("--"+s.flag, s.key, s.value); err != nil {
				return err
			}
		}
	}
	for _, s := range f.set {
		if err := c.Set(s); err != nil {
			return err
		}
	}
	return nil
}
