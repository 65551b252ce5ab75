package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// check finds what fits no single value: what two keys say together. Each error
// names the key and the mend.
func (c *Config) check() error {
	if err := c.checkListeners(); err != nil {
		return err
	}
	if err := c.checkDelivery(); err != nil {
		return err
	}
	for _, r := range c.Recipients {
		if at := strings.LastIndexByte(r, '@'); at < 0 || at == len(r)-1 {
			return fmt.Errorf("recipients: %q is no address; write name@example.org, or @example.org for all of a domain", r)
		}
	}
	switch {
	case c.Queue.Journal:
		return errors.New("queue.journal: this version has no journal; leave it false")
	case c.names("access_list") && c.AccessList.File == "":
		return errors.New("access_list.file: not set, but the policy access_list is named; set it to the file of rules")
	case c.names("max_size") && c.MaxSize.Size.N <= 0:
		return errors.New(`max_size.size: not set, but the policy max_size is named; set it, such as "10MiB"`)
	case c.names("max_recipients") && c.MaxRecipients.Count.N <= 0:
		return errors.New("max_recipients.count: not set, but the policy max_recipients is named; set it, such as 100")
	}
	for i, p := range c.Policies {
		if slices.Contains(c.Policies[:i], p) {
			return fmt.Errorf("policies: %s is named twice", p)
		}
	}
	return nil
}

func (c *Config) checkListeners() error {
	if len(c.Listeners) == 0 {
		return errors.New("listener: there is none; add a [[listener]] or --listen ADDR")
	}
	for i, l := range c.Listeners {
		for _, o := range c.Listeners[:i] {
			if o.Label() == l.Label() {
				return fmt.Errorf("listener %s: there are two by that name; give each a name of its own", l.Label())
			}
		}
		if !loopback(l.Address.String()) && c.Domains == nil {
			return fmt.Errorf("listener %s: it is not on loopback and no domains are set, so that mail for anyone would be accepted;"+
				" set domains (--domain example.org), or --domain '*' to accept any", l.Label())
		}
		switch {
		case l.TLS.String() == "disabled" && (l.Cert != "" || l.Key != ""):
			return fmt.Errorf(`listener %s: a certificate is given but tls is disabled; set tls = "optional"`, l.Label())
		case l.TLS.String() != "disabled" && (l.Cert == "" || l.Key == ""):
			return fmt.Errorf("listener %s: tls is %s, which wants cert and key; set both to PEM files", l.Label(), l.TLS)
		}
	}
	return nil
}

func (c *Config) checkDelivery() error {
	to := c.Delivery.To
	switch {
	case to.Kind == ToCommand && len(to.Argv) == 0 && len(c.Command.Argv) == 0:
		return errors.New("delivery.to: command has no program; write command:PROG ARGS, or set command.argv")
	case to.Kind == ToCommand && len(to.Argv) > 0 && len(c.Command.Argv) > 0:
		return errors.New(`command.argv: delivery.to names a program too; set delivery.to = "command"`)
	case len(c.Webhook.Secrets) > 0 && c.Webhook.SecretFile != "":
		return errors.New("webhook.secret_file: webhook.secrets is set too; keep one")
	}
	return nil
}

// Argv is the program and arguments of a command delivery.
func (c *Config) Argv() []string {
	if len(c.Delivery.To.Argv) > 0 {
		return c.Delivery.To.Argv
	}
	return c.Command.Argv
}

// Secrets is the webhook's secrets, from the configuration or their file.
func (c *Config) Secrets() ([]string, error) {
	if c.Webhook.SecretFile == "" {
		return c.Webhook.Secrets, nil
	}
	text, err := os.ReadFile(c.Webhook.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("webhook.secret_file: %w", err)
	}
	secrets := strings.Fields(string(text))
	if len(secrets) == 0 {
		return nil, fmt.Errorf("webhook.secret_file: %s holds no secret; write one a line", c.Webhook.SecretFile)
	}
	return secrets, nil
}

func (c *Config) names(policy string) bool { return slices.Contains(c.PolicyOrder(), policy) }

// PolicyOrder is the policies to ask, in order: those named, then those whose
// keys are set.
func (c *Config) PolicyOrder() []string {
	var order []string
	for _, p := range c.Policies {
		order = append(order, p.String())
	}
	configured := map[string]bool{
		"access_list":    c.AccessList.File != "",
		"rate_limit":     c.RateLimit.Count.N > 0,
		"max_size":       c.MaxSize.Size.N > 0,
		"max_recipients": c.MaxRecipients.Count.N > 0,
	}
	for _, name := range PolicyNames() {
		if configured[name] && !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	return order
}
