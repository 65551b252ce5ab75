package config

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// conflict is what keys say together and cannot mean. Its text names the key
// and the mend.
type conflict struct {
	text string
	// keys is where to point at, the first that is in the file; of them those
	// of a listener are the nth's.
	keys []string
	nth  int
}

func (c *conflict) Error() string { return c.text }

// at is a conflict in the values of keys.
func at(keys ...string) *conflict { return &conflict{keys: keys} }

func (c *conflict) says(format string, args ...any) *conflict {
	c.text = fmt.Sprintf(format, args...)
	return c
}

// each is the first conflict that check finds in tables of one list, each beside those
// before it.
func each[T any](tables []T, check func(one T, before []T) *conflict) error {
	for i, one := range tables {
		if err := check(one, tables[:i]); err != nil {
			err.nth = i
			return err
		}
	}
	return nil
}

// check finds what fits no single value: what two keys say together.
func (c *Config) check() error {
	if err := c.checkListeners(); err != nil {
		return err
	}
	if err := c.checkDelivery(); err != nil {
		return err
	}
	if err := each(c.Routes, c.checkRoute); err != nil {
		return err
	}
	if err := c.checkRecipients(); err != nil {
		return err
	}
	if err := c.checkFilters(); err != nil {
		return err
	}
	if err := each(c.DNSBLs, c.checkDNSBL); err != nil {
		return err
	}
	switch {
	case c.names("access_list") && c.AccessList.File == "":
		return at("access_list.file", "policies").says("access_list.file: not set, but the policy access_list is named; set it to the file of rules")
	case c.names("dnsbl") && len(c.DNSBLs) == 0:
		return at("policies").says("dnsbl: there is none, but the policy dnsbl is named; add a [[dnsbl]]")
	case c.names("recipients") && c.Recipients == nil:
		return at("recipients", "policies").says("recipients: not set, but the policy recipients is named; set it to who exists")
	case c.names("minted") && (c.Minted.KeyFile == "" || len(c.Minted.Routes) == 0):
		return at("minted.key_file", "minted.routes", "policies").says("minted: the policy wants key_file and routes; set both")
	case c.names("max_size") && c.MaxSize.Size.N <= 0:
		return at("max_size.size", "policies").says(`max_size.size: not set, but the policy max_size is named; set it, such as "10MiB"`)
	case c.names("max_recipients") && c.MaxRecipients.Count.N <= 0:
		return at("max_recipients.count", "policies").says("max_recipients.count: not set, but the policy max_recipients is named; set it, such as 100")
	case c.names("milter") && len(c.Milters) == 0:
		return at("policies").says("policies: milter is named, but there is none; add a [[milter]] with name and address")
	}
	for i, p := range c.Policies {
		if slices.Contains(c.Policies[:i], p) {
			return at("policies").says("policies: %s is named twice", p)
		}
	}
	for i, p := range c.Observe {
		switch {
		case !c.names(p.String()) && !c.Behind(p.String()):
			return at("observe").says("observe: %s is not asked; name it in policies too", p)
		case slices.Contains(c.Observe[:i], p):
			return at("observe").says("observe: %s is named twice", p)
		}
	}
	return nil
}

func (c *Config) checkListeners() error {
	if len(c.Listeners) == 0 {
		return at("listener").says("listener: there is none; add a [[listener]] or --listen ADDR")
	}
	return each(c.Listeners, c.checkListener)
}

func (c *Config) checkListener(l Listener, before []Listener) *conflict {
	switch name := l.Label(); {
	case slices.ContainsFunc(before, func(o Listener) bool { return o.Label() == name }):
		return at("listener.name", "listener.address").says("listener %s: there are two by that name; give each a name of its own", name)
	case !loopback(l.Address.String()) && c.Domains == nil:
		return at("listener.address").says("listener %s: it is not on loopback and no domains are set, so that mail for anyone would be accepted;"+
			" set domains (--domain example.org), or --domain '*' to accept any", name)
	case l.TLS.String() == "disabled" && (l.Cert != "" || l.Key != "" || len(l.Certificates) > 0):
		return at("listener.tls", "listener.cert", "listener.key", "listener.certificate.cert").says(`listener %s: a certificate is given but tls is disabled; set tls = "optional"`, name)
	case l.TLS.String() != "disabled" && (l.Cert == "" || l.Key == "") && (l.Cert != l.Key || len(l.Certificates) == 0):
		return at("listener.tls").says("listener %s: tls is %s, which wants cert and key; set both to PEM files", name, l.TLS)
	case l.Protocol.String() == "lmtp" && strings.HasSuffix(l.Address.String(), ":25"):
		return at("listener.protocol").says("listener %s: lmtp must not be spoken on port 25; give it another port, such as 24", name)
	case l.Proxy.String() == "disabled" && len(l.ProxyNetworks) > 0:
		return at("listener.proxy_networks").says(`listener %s: proxy_networks are given but proxy is disabled; set proxy = "required"`, name)
	case l.Proxy.String() != "disabled" && len(l.ProxyNetworks) == 0 && !l.Unix():
		return at("listener.proxy").says(`listener %s: proxy is %s, which wants proxy_networks; set them to where your balancers connect from, such as ["10.0.0.7"]`, name, l.Proxy)
	}
	for i, c := range l.Certificates {
		if c.Cert == "" || c.Key == "" {
			return at("listener.certificate.cert", "listener.certificate.key").says(
				"listener %s: certificate %d lacks its cert or its key; set both to PEM files", l.Label(), i+1)
		}
	}
	return nil
}

func (c *Config) checkDelivery() error {
	if err := c.checkTarget("delivery.to", c.Delivery.To); err != nil {
		return err
	}
	switch {
	case len(c.Webhook.Secrets) > 0 && c.Webhook.SecretFile != "":
		return at("webhook.secret_file").says("webhook.secret_file: webhook.secrets is set too; keep one")
	case c.Webhook.Format.String() == "mailgun" && len(c.Webhook.Secrets) == 0 && c.Webhook.SecretFile == "":
		return at("webhook.format").says("webhook.format: mailgun signs each request; set webhook.secrets, or webhook.secret_file, to the key with which your handler checks that")
	case (c.S3.AccessKey == "") != (c.S3.SecretKeyFile == ""):
		return at("s3.access_key", "s3.secret_key_file").says("s3: of access_key and secret_key_file one is set; set both, or none for the machine's role")
	case c.Delivery.Workers.N < 1:
		return at("delivery.workers").says(`delivery.workers: there must be one at least; to keep messages in the queue set delivery.to = "none"`)
	}
	return nil
}

// checkTarget finds a command without a program, or with two, and a bucket of no
// store.
func (c *Config) checkTarget(key string, to Target) *conflict {
	switch {
	case to.Kind == ToS3 && c.S3.Endpoint == "":
		return at("s3.endpoint", key).says("%s: %s wants s3.endpoint; set it, such as https://s3.eu-central-1.amazonaws.com", key, to)
	case to.Kind == ToCommand && len(to.Argv) == 0 && len(c.Command.Argv) == 0:
		return at("command.argv", key).says("%s: command has no program; write command:PROG ARGS, or set command.argv", key)
	case key == "delivery.to" && to.Kind == ToCommand && len(to.Argv) > 0 && len(c.Command.Argv) > 0:
		return at("command.argv").says(`command.argv: delivery.to names a program too; set delivery.to = "command"`)
	}
	return nil
}

// checkRecipients finds those that can never be accepted.
func (c *Config) checkRecipients() error {
	if c.Domains == nil {
		return nil
	}
	var names []string
	for _, d := range c.Domains {
		names = append(names, d.String())
	}
	ours, err := policy.AcceptDomains(names...)
	if err != nil {
		return at("domains").says("domains: %v", err)
	}
	addresses, _, _ := c.KnownSources()
	for _, r := range addresses {
		path := smtp.ParsePath(r)
		if ours.Check(context.Background(), policy.StageRcpt, &policy.Transaction{To: []policy.Recipient{{Path: path}}}) != nil {
			return at("recipients", "domains").says("recipients: %s is in none of the domains, so that it would never be accepted; add %s to domains", r, path.Domain)
		}
	}
	return nil
}

// Argv is the program and arguments of a target that is a command.
func (c *Config) Argv(to Target) []string {
	if len(to.Argv) > 0 {
		return to.Argv
	}
	return c.Command.Argv
}

// Secrets is the webhook's secrets, from the configuration or their file.
func (c *Config) Secrets() ([]string, error) {
	return secrets("webhook.secret_file", c.Webhook.Secrets, c.Webhook.SecretFile)
}

// AllSecrets is those of http_policy, likewise.
func (h HTTPPolicy) AllSecrets() ([]string, error) {
	return secrets("http_policy.secret_file", h.Secrets, h.SecretFile)
}

// secrets is those of a list, or of the file that a key names.
func secrets(key string, list []string, file string) ([]string, error) {
	if file == "" {
		return list, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	held := strings.Fields(string(text))
	if len(held) == 0 {
		return nil, fmt.Errorf("%s: %s holds no secret; write one a line", key, file)
	}
	return held, nil
}

func (c *Config) names(policy string) bool { return slices.Contains(c.PolicyOrder(), policy) }

// NamesPolicy reports whether policies has that name: not merely that its keys are
// set.
func (c *Config) NamesPolicy(name string) bool {
	return slices.ContainsFunc(c.Policies, func(p Policy) bool { return p.String() == name })
}

// Observes reports whether the policy of that name is only observed.
func (c *Config) Observes(name string) bool {
	return slices.ContainsFunc(c.Observe, func(p Policy) bool { return p.String() == name })
}

// PolicyOrder is the policies to ask, in order: those named, then those whose
// keys are set.
func (c *Config) PolicyOrder() []string {
	var order []string
	for _, p := range c.Policies {
		order = append(order, p.String())
	}
	configured := map[string]bool{
		"access_list":    c.AccessList.File != "",
		"rate_limit":     c.RateLimit.Limits(),
		"max_size":       c.MaxSize.Size.N > 0,
		"minted":         len(c.Minted.Routes) > 0,
		"max_recipients": c.MaxRecipients.Count.N > 0,
		"dnsbl":          len(c.DNSBLs) > 0,
		"recipients":     c.Recipients != nil,
		"mailauth":       c.MailAuth.Set(),
		"rspamd":         c.Rspamd.URL != "",
		"http_policy":    c.HTTPPolicy.URL != "",
		"milter":         len(c.Milters) > 0,
	}
	for _, name := range PolicyNames() {
		if configured[name] && !slices.Contains(order, name) && !c.Behind(name) {
			order = append(order, name)
		}
	}
	return order
}
