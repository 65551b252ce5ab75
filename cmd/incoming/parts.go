package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/delivery/command"
	"github.com/incoming-mx/incoming/delivery/discard"
	"github.com/incoming-mx/incoming/delivery/maildir"
	"github.com/incoming-mx/incoming/delivery/relay"
	"github.com/incoming-mx/incoming/delivery/s3"
	"github.com/incoming-mx/incoming/delivery/webhook"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/mailauth"
	"github.com/incoming-mx/incoming/policy/minted"
	"github.com/incoming-mx/incoming/policy/recipients"
	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/incoming-mx/incoming/proxyproto"
	"github.com/incoming-mx/incoming/queue/diskqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// parts is what a configuration chooses and a reload makes anew.
type parts struct {
	adapter  incoming.Adapter // nil: messages stay in the queue
	policies []incoming.Policy
	limiter  *limiter
	dns      *asked  // nil: no policy wanted it yet
	dnsbl    *dnsbls // nil: none is asked
	zones    *zoneWatch
	behind   *behindWatch
}

// asked is the resolver that policies ask and what it was made from: a reload
// that does not change it keeps what it remembers.
type asked struct {
	servers []config.DNSServer
	cache   *resolver.Cache
}

// limiter is a rate limit and what it was made from: a reload that does not
// change it keeps what it has counted.
type limiter struct {
	made   config.RateLimit
	policy policy.Policy
}

// newParts makes what cfg chooses; old is what ran before, nil at the start.
// Nothing is changed by it.
func newParts(cfg *config.Config, old *parts, log *slog.Logger) (*parts, error) {
	p := &parts{zones: &zoneWatch{log: log}, behind: new(behindWatch)}
	if old != nil {
		p.zones, p.behind = old.zones, old.behind
	}
	var err error
	if p.adapter, err = newAdapter(cfg, log); err != nil {
		return nil, err
	}
	for _, name := range cfg.PolicyOrder() {
		made, err := p.named("policy", name, cfg, old, log)
		if err != nil {
			return nil, err
		}
		if domains := domainsOf(cfg); name == "recipients" && domains != nil {
			// Whoever is asked who exists is asked of our domains only.
			ours, err := policy.AcceptDomains(domains...)
			if err != nil {
				return nil, fmt.Errorf("domains: %w", err)
			}
			p.policies = append(p.policies, ours)
		}
		p.policies = append(p.policies, made...)
	}
	if p.adapter, err = p.filtered(p.adapter, cfg, old, log); err != nil {
		return nil, err
	}
	return p, nil
}

// newAdapter is where cfg delivers to: by its routes, or all to one place.
func newAdapter(cfg *config.Config, log *slog.Logger) (incoming.Adapter, error) {
	if len(cfg.Routes) == 0 {
		a, err := adapterTo(cfg.Delivery.To, cfg, log)
		if err != nil {
			return nil, fmt.Errorf("delivery.to: %w", err)
		}
		return a, nil
	}
	table, err := newTable(cfg, func(to config.Target) (incoming.Adapter, error) { return adapterTo(to, cfg, log) })
	if err != nil {
		return nil, err
	}
	return table, nil
}

// adapterTo is the adapter to one place; nil for none.
func adapterTo(to config.Target, cfg *config.Config, log *slog.Logger) (incoming.Adapter, error) {
	switch to.Kind {
	case config.ToMaildir:
		return maildir.New(to.Dir, nil)
	case config.ToCommand:
		return command.New(cfg.Argv(to), nil)
	case config.ToDiscard:
		return discard.New(), nil
	case config.ToSMTP, config.ToLMTP:
		conf, err := relayTLS(cfg.Relay)
		if err != nil {
			return nil, err
		}
		return relay.New(relay.Config{Address: to.Addr, LMTP: to.Kind == config.ToLMTP, Hello: cfg.Hostname.String(),
			TLS: relay.TLSMode(cfg.Relay.TLS.String()), TLSConfig: conf})
	case config.ToS3:
		return s3To(to, cfg, log)
	case config.ToWebhook:
		secrets, err := cfg.Secrets()
		if err != nil {
			return nil, err
		}
		return webhook.New(webhook.Config{URL: to.URL, Format: webhook.Format(cfg.Webhook.Format.String()), Secrets: secrets,
			PublicOnly: cfg.Webhook.PublicOnly, Logger: log})
	}
	return nil, nil
}

// s3To is the adapter to a bucket, with its notices.
func s3To(to config.Target, cfg *config.Config, log *slog.Logger) (incoming.Adapter, error) {
	c := s3.Config{Endpoint: cfg.S3.Endpoint, Region: cfg.S3.Region, Bucket: to.Bucket, Key: to.Key, AccessKey: cfg.S3.AccessKey}
	if file := cfg.S3.SecretKeyFile; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("s3.secret_key_file: %w", err)
		}
		if c.SecretKey = strings.TrimSpace(string(text)); c.SecretKey == "" {
			return nil, fmt.Errorf("s3.secret_key_file: %s is empty", file)
		}
	}
	if cfg.S3.Notify != "" {
		secrets, err := cfg.Secrets()
		if err != nil {
			return nil, err
		}
		hook, err := webhook.New(webhook.Config{URL: cfg.S3.Notify, Secrets: secrets, PublicOnly: cfg.Webhook.PublicOnly, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("s3.notify: %w", err)
		}
		c.Notify = func(ctx context.Context, m *incoming.Message, o s3.Object) error {
			return hook.Notify(ctx, m, "object", o)
		}
	}
	return s3.New(c)
}

// relayTLS is how a mail server that is delivered to is known.
func relayTLS(r config.Relay) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !r.TLSVerify}
	if r.TLSCA == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(r.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("relay.tls_ca: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("relay.tls_ca: %s holds no certificate; write it as PEM", r.TLSCA)
	}
	return conf, nil
}

// named is the policies of a name, only observed where that is asked for: one, or of
// milter each that there is. Errors begin with what names it.
func (p *parts) named(what, name string, cfg *config.Config, old *parts, log *slog.Logger) ([]policy.Policy, error) {
	if name == "milter" {
		return newMilters(cfg)
	}
	made, err := p.policy(name, cfg, old, log)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	return []policy.Policy{policyNamed(name, made, cfg.Observes(name))}, nil
}

func (p *parts) policy(name string, cfg *config.Config, old *parts, log *slog.Logger) (policy.Policy, error) {
	switch name {
	case "access_list":
		return policy.OpenAccessList(cfg.AccessList.File, &policy.AccessListOptions{OnReload: func(rules int, err error) {
			if err != nil {
				log.Error("access list: the rules before stay in force", "file", cfg.AccessList.File, "error", err)
				return
			}
			log.Info("access list read again", "file", cfg.AccessList.File, "rules", rules)
		}})
	case "rate_limit":
		p.limiter = newLimiter(cfg, old)
		return p.limiter.policy, nil
	case "rspamd":
		return newRspamd(cfg.Rspamd)
	case "http_policy":
		return newHTTPPolicy(cfg.HTTPPolicy)
	case "require_tls":
		return policy.RequireTLS(), nil
	case "require_hello":
		return policy.RequireHello(), nil
	case "minted":
		m, err := minted.Open(cfg.Minted.KeyFile)
		if err != nil {
			return nil, err
		}
		return m.Policy(cfg.Minted.Routes...)
	case "mailauth":
		return p.mailauth(cfg, old)
	case "max_size":
		return policy.MaxSize(cfg.MaxSize.Size.N), nil
	case "max_recipients":
		return policy.MaxRecipients(cfg.MaxRecipients.Count.N), nil
	case "dnsbl":
		var err error
		if p.dnsbl, err = p.newDNSBLs(cfg, old); err != nil {
			return nil, err
		}
		return p.dnsbl.policy, nil
	case "recipients":
		return recipientsOf(cfg, log)
	}
	return nil, fmt.Errorf("there is none by that name")
}

// recipientsOf is the policy of those who exist. What it remembers is forgotten at
// a reload: an operator who has just made a mailbox need not wait for it.
func recipientsOf(cfg *config.Config, log *slog.Logger) (policy.Policy, error) {
	addresses, files, urls := cfg.KnownSources()
	list, err := recipients.NewList(addresses...)
	if err != nil {
		return nil, err
	}
	sources := []recipients.Source{list}
	for _, path := range files {
		f, err := recipients.OpenFile(path, &recipients.FileOptions{OnReload: func(n int, err error) {
			if err != nil {
				log.Error("recipients: the list before stays in force", "file", path, "error", err)
				return
			}
			log.Info("recipients read again", "file", path, "entries", n)
		}})
		if err != nil {
			return nil, err
		}
		sources = append(sources, f)
	}
	for _, u := range urls {
		s, err := recipients.OpenURL(u, nil)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	o := &recipients.Options{Delimiters: cfg.Lookup.Delimiters.String(), Timeout: cfg.Lookup.Timeout.D,
		KnownFor: cfg.Lookup.KnownFor.D, UnknownFor: cfg.Lookup.UnknownFor.D}
	if o.Delimiters == "none" {
		o.Delimiters, o.NoDelimiters = "", true
	}
	return recipients.New(sources, o), nil
}

func (p *parts) mailauth(cfg *config.Config, old *parts) (policy.Policy, error) {
	dns, err := p.resolver(cfg, old)
	if err != nil {
		return nil, err
	}
	m := cfg.MailAuth
	o := mailauth.Options{Resolver: dns, AuthservID: m.AuthservID.String(), Budget: m.Budget.D, Enforce: m.Enforce,
		Forwarders: prefixes(m.Forwarders), DeferTemperror: m.Temperror.String() == "tempfail"}
	for _, d := range m.ForwarderDomains {
		o.ForwarderDomains = append(o.ForwarderDomains, d.String())
	}
	return mailauth.New(o)
}

// resolver is what policies ask the DNS by: one for all of them, made when the
// first of them wants it.
func (p *parts) resolver(cfg *config.Config, old *parts) (resolver.Resolver, error) {
	if p.dns == nil && old != nil && old.dns != nil && slices.Equal(old.dns.servers, cfg.DNS.Servers) {
		p.dns = old.dns
	}
	if p.dns != nil {
		return p.dns.cache, nil
	}
	var servers []string // nil: the system's
	if cfg.DNS.Servers != nil {
		servers = []string{}
	}
	for _, s := range cfg.DNS.Servers {
		servers = append(servers, s.String())
	}
	cache, err := resolver.New(&resolver.Options{Servers: servers})
	if err != nil {
		return nil, fmt.Errorf("dns.servers: %w", err)
	}
	p.dns = &asked{cfg.DNS.Servers, cache}
	return cache, nil
}

// newLimiter is the rate limit of cfg: the one before, when nothing of it has
// changed.
func newLimiter(cfg *config.Config, old *parts) *limiter {
	r := cfg.RateLimit
	if r.Count.N == 0 && !cfg.NamesPolicy("rate_limit") {
		r.Count.N = -1 // it is only asked for another count
	}
	if old != nil && old.limiter != nil && old.limiter.made == r {
		return old.limiter
	}
	return &limiter{made: r, policy: policy.RateLimit(&policy.RateLimitOptions{Count: r.Count.N, SenderCount: r.SenderCount.N,
		RecipientCount: r.RecipientCount.N, Window: r.Window.D, Entries: r.Entries.N})}
}

// serverConfig is cfg as the server takes it; the Queue is still to be set.
func serverConfig(cfg *config.Config, p *parts, hooks telemetry.Hooks) incoming.Config {
	c := incoming.Config{
		Hostname: cfg.Hostname.String(), Listeners: listenersOf(cfg), Domains: domainsOf(cfg),
		Policies: p.policies, Adapter: p.adapter, Hooks: hooks,
		Delivery: incoming.Delivery{
			Workers: cfg.Delivery.Workers.N, Deadline: cfg.Delivery.Deadline.D, Backoff: cfg.Delivery.Backoff.D,
			BackoffCap: cfg.Delivery.BackoffCap.D, GiveUp: cfg.Delivery.GiveUp.D, MaxAttempts: cfg.Delivery.MaxAttempts.N,
		},
		Limits: limitsOf(cfg.Limits),
		Timeouts: incoming.Timeouts{
			Command: cfg.Timeouts.Command.D, TLS: cfg.Timeouts.TLS.D, Proxy: cfg.Timeouts.Proxy.D, Data: cfg.Timeouts.Data.D, Write: cfg.Timeouts.Write.D,
			Session: cfg.Timeouts.Session.D, Policy: cfg.Timeouts.Policy.D, Drain: cfg.Timeouts.Drain.D,
		},
	}
	if cfg.BareNewline.String() == "reject" {
		c.RejectBareNewline = prefixes(cfg.BareFrom)
	}
	c.Lenient = prefixes(cfg.Lenient)
	return c
}

func limitsOf(l config.Limits) incoming.Limits {
	return incoming.Limits{
		Connections: l.Connections.N, ConnectionsPerIP: l.ConnectionsPerIP.N, Exempt: prefixes(l.Exempt),
		MessageSize: l.MessageSize.N, Recipients: l.Recipients.N, Commands: l.Commands.N, Errors: l.Errors.N,
		RefusedRecipients: l.RefusedRecipients.N, SessionSize: l.SessionSize.N, CommandLine: l.CommandLine.N, Header: l.Header.N,
		HeaderFields: l.HeaderFields.N, Received: l.Received.N, Handshakes: l.Handshakes.N,
	}
}

// socketMode is a mode that the configuration has checked.
func socketMode(octal string) fs.FileMode {
	mode, _ := strconv.ParseUint(octal, 8, 9) // "" is 0, the default
	return fs.FileMode(mode)
}

func listenersOf(cfg *config.Config) []incoming.Listener {
	modes := map[string]incoming.TLSMode{"disabled": incoming.TLSDisabled, "optional": incoming.TLSOptional,
		"required": incoming.TLSRequired, "implicit": incoming.TLSImplicit}
	versions := map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	var ls []incoming.Listener
	for _, l := range cfg.Listeners {
		made := incoming.Listener{Name: l.Label(), Address: l.Address.String(), SocketMode: socketMode(l.SocketMode.String()), LMTP: l.Protocol.String() == "lmtp", TLS: modes[l.TLS.String()], CertFile: l.Cert, KeyFile: l.Key,
			TLSMin: versions[l.TLSMin.String()], SessionTickets: l.SessionTickets}
		for _, c := range l.Certificates {
			made.Certificates = append(made.Certificates, incoming.CertificateFiles{CertFile: c.Cert, KeyFile: c.Key})
		}
		if strings.HasPrefix(made.Address, "systemd:") {
			made.Net = inherited{}
		}
		if mode := l.Proxy.String(); mode != "disabled" {
			made.Proxy = proxyproto.New(proxyproto.Options{Networks: prefixes(l.ProxyNetworks), Optional: mode == "optional"})
		}
		ls = append(ls, made)
	}
	return ls
}

// domainsOf keeps the difference between not given and empty.
func domainsOf(cfg *config.Config) []string {
	if cfg.Domains == nil {
		return nil
	}
	names := []string{}
	for _, d := range cfg.Domains {
		names = append(names, d.String())
	}
	return names
}

func prefixes(ns []config.Network) []netip.Prefix {
	ps := []netip.Prefix{}
	for _, n := range ns {
		ps = append(ps, n.Prefix)
	}
	return ps
}

// spoolOptions is the queue's part of cfg.
func spoolOptions(cfg *config.Config, hooks telemetry.Hooks) *diskqueue.Options {
	q := cfg.Queue
	return &diskqueue.Options{
		Depth: q.Depth.N, NoFsync: !q.Fsync, NoJournal: !q.Journal, DeadAge: q.DeadAge.D, DeadSpentAge: q.DeadSpentAge.D, DeadSweep: q.DeadSweep.D,
		DeadSweepMost: q.DeadSweepMost.N, Buffers: cfg.Limits.Buffers.N, MessageSize: cfg.Limits.MessageSize.N, Hooks: hooks,
	}
}
