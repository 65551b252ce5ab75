package incoming

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// settings is what a session goes by from its first octet to its last. New and
// Reload make them whole; they are not changed, but for the count of users.
type settings struct {
	hostname string
	limits   Limits   // with defaults
	timeouts Timeouts // with defaults
	chain    *policy.Chain
	ours     *domains
	wire     map[string]*smtp.Config // by the listener's name
	proxy    map[string]proxyFunc    // of the listeners behind a balancer

	handshakes chan struct{} // a place for each that may compute at once; nil: no bound

	users int // sessions that go by these; guarded by Server.mu
}

// newSettings makes the settings of a checked cfg.
func (s *Server) newSettings(cfg Config) (*settings, error) {
	set := &settings{limits: cfg.Limits.withDefaults(), timeouts: cfg.Timeouts.withDefaults()}
	var err error
	if set.hostname, err = hostnameOf(cfg.Hostname); err != nil {
		return nil, err
	}
	if set.ours, err = newDomains(cfg.Domains); err != nil {
		return nil, err
	}
	set.chain = policy.NewChain(chainOf(cfg, set.ours), &policy.ChainOptions{
		Timeout: cfg.Timeouts.Policy, OnDecision: s.decided, OnPanic: s.policyPanicked,
	})
	set.handshakes = s.handshakePlaces(set.limits.Handshakes)
	set.proxy = make(map[string]proxyFunc)
	for _, l := range cfg.named() {
		if l.Proxy != nil {
			set.proxy[l.Name] = l.Proxy
		}
	}
	set.wire = make(map[string]*smtp.Config, len(s.endpoints))
	for _, ep := range s.endpoints {
		set.wire[ep.name] = s.wireConfig(set, ep, cfg.RejectBareNewline, cfg.Lenient)
	}
	return set, nil
}

// handshakePlaces is most places, those of before when they are as many: sessions
// that began before a Reload still use them.
func (s *Server) handshakePlaces(most int) chan struct{} {
	switch {
	case most < 0:
		return nil
	case s.set != nil && cap(s.set.handshakes) == most:
		return s.set.handshakes
	}
	return make(chan struct{}, most)
}

// chainOf is the policies in the order they are asked: the application's, then
// the two that Config has fields for.
func chainOf(cfg Config, ours *domains) []Policy {
	ps := append([]Policy(nil), cfg.Policies...)
	if p := ours.policy; p != nil {
		ps = append(ps, p)
	}
	if f := cfg.Recipient; f != nil {
		ps = append(ps, policy.Named("recipient", policy.OnRcpt(
			func(ctx context.Context, to smtp.Path, _ *policy.Transaction) error { return f(ctx, to) })))
	}
	return ps
}

// wireConfig is the engine's configuration for the sessions of one listener.
func (s *Server) wireConfig(set *settings, ep *endpoint, rejectBare, lenient []netip.Prefix) *smtp.Config {
	c := &smtp.Config{
		Hostname: set.hostname,
		LMTP:     ep.conf.LMTP,
		TLSMode:  ep.conf.TLS,
		TLS:      ep.tls,

		SessionTickets: ep.conf.SessionTickets,
		Handshakes:     set.handshakes,
		Limits: smtp.Limits{
			MessageSize:       set.limits.MessageSize,
			Recipients:        set.limits.Recipients,
			Commands:          set.limits.Commands,
			Errors:            set.limits.Errors,
			RefusedRecipients: set.limits.RefusedRecipients,
			SessionSize:       set.limits.SessionSize,
			CommandLine:       set.limits.CommandLine,
		},
		Timeouts: smtp.Timeouts{
			Command: set.timeouts.Command,
			TLS:     set.timeouts.TLS,
			Data:    set.timeouts.Data,
			Write:   set.timeouts.Write,
			Session: set.timeouts.Session,
		},
		Busy: s.admission.busy,
	}
	if len(rejectBare) > 0 {
		c.RejectBareNewline = func(peer netip.AddrPort) bool { return contains(rejectBare, peer.Addr()) }
	}
	if len(lenient) > 0 {
		c.Lenient = func(peer netip.AddrPort) bool { return contains(lenient, peer.Addr()) }
	}
	s.listen(c, ep.name, set.proxy[ep.name] != nil)
	return c
}

func hostnameOf(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return os.Hostname()
}

// or is v, or def when v is zero.
func or[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (l Limits) withDefaults() Limits {
	if l.Exempt == nil {
		l.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return Limits{
		Connections:       or(l.Connections, 1000),
		ConnectionsPerIP:  or(l.ConnectionsPerIP, 50),
		Exempt:            l.Exempt,
		MessageSize:       or(l.MessageSize, 50<<20),
		Recipients:        or(l.Recipients, 1000),
		Commands:          or(l.Commands, 1000),
		Errors:            or(l.Errors, 10),
		RefusedRecipients: or(l.RefusedRecipients, 100),
		SessionSize:       or(l.SessionSize, 4<<30),
		CommandLine:       or(l.CommandLine, 4096),
		Header:            or(l.Header, 256<<10),
		HeaderFields:      or(l.HeaderFields, 1000),
		Received:          or(l.Received, 100),
		Handshakes:        or(l.Handshakes, runtime.GOMAXPROCS(0)),
	}
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Command: or(t.Command, 5*time.Minute),
		TLS:     or(t.TLS, 30*time.Second),
		Proxy:   or(t.Proxy, 5*time.Second),
		Data:    or(t.Data, 3*time.Minute),
		Write:   or(t.Write, 5*time.Minute),
		Session: or(t.Session, time.Hour),
		Policy:  or(t.Policy, policy.DefaultTimeout),
		Drain:   or(t.Drain, 25*time.Second),
	}
}
