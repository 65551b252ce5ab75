package incoming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// Reload makes new sessions go by cfg: its Hostname, Domains, Recipient,
// Policies, Limits, Timeouts, RejectBareNewline, Lenient, and of its Listeners
// Proxy, TLSMin, SessionTickets and the certificates, whose files are read again.
// It is all or nothing: an error leaves everything as it was. Running sessions
// keep what they began with; the limits of connections count for whoever comes
// next.
//
// Listeners nil stays as it is, certificates read again. Otherwise they must be
// the running ones by name, address, protocol and TLS mode: what differs is in the error
// and needs a restart. Queue, Adapter, OnDead, Delivery and Hooks are not looked
// at: they last as long as the Server.
func (s *Server) Reload(cfg Config) error {
	s.reload.Lock()
	defer s.reload.Unlock()
	cfg.Queue = s.cfg.Queue
	if cfg.Listeners == nil {
		for _, ep := range s.endpoints {
			cfg.Listeners = append(cfg.Listeners, ep.conf)
		}
	}
	if err := cfg.check(); err != nil {
		return fmt.Errorf("incoming: reload: %w", err)
	}
	if err := s.sameListeners(cfg.named()); err != nil {
		return fmt.Errorf("incoming: reload: %w", err)
	}
	fresh, err := s.freshTLS(cfg.named())
	if err != nil {
		return fmt.Errorf("incoming: reload: %w", err)
	}
	return s.swap(cfg, fresh)
}

// sameListeners tells what about the listeners needs a restart.
func (s *Server) sameListeners(now []Listener) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	given := make(map[string]Listener)
	for _, l := range now {
		given[l.Name] = l
	}
	for _, ep := range s.endpoints {
		l, ok := given[ep.name]
		delete(given, ep.name)
		switch {
		case !ok:
			bad("listener %q cannot be removed without a restart", ep.name)
		case l.Address != ep.conf.Address:
			bad("listener %q: its address cannot be changed to %q without a restart", ep.name, l.Address)
		case l.SocketMode != ep.conf.SocketMode:
			bad("listener %q: its socket's mode cannot be changed without a restart", ep.name)
		case l.LMTP != ep.conf.LMTP:
			bad("listener %q: its protocol cannot be changed without a restart", ep.name)
		case l.TLS != ep.conf.TLS:
			bad("listener %q: its TLS mode cannot be changed without a restart", ep.name)
		}
	}
	for _, l := range now {
		if _, ok := given[l.Name]; ok {
			bad("listener %q cannot be added without a restart", l.Name)
		}
	}
	return errors.Join(errs...)
}

// freshTLS is what an endpoint is to use from now on.
type freshTLS struct {
	conf  Listener
	tls   *tls.Config
	certs *certificates
	files []*certFile // for certs; nil when there are none
}

func (s *Server) freshTLS(now []Listener) (map[*endpoint]freshTLS, error) {
	fresh := make(map[*endpoint]freshTLS)
	var errs []error
	for _, l := range now {
		for _, ep := range s.endpoints {
			if ep.name != l.Name || l.TLS == TLSDisabled {
				continue
			}
			f, err := s.freshFor(ep, l)
			if err != nil {
				errs = append(errs, fmt.Errorf("listener %q: %w", l.Name, err))
			}
			fresh[ep] = f
		}
	}
	return fresh, errors.Join(errs...)
}

func (s *Server) freshFor(ep *endpoint, l Listener) (freshTLS, error) {
	if l.TLSConfig != nil {
		conf, err := l.givenTLSConfig()
		return freshTLS{conf: l, tls: conf}, err
	}
	files, err := readCertificates(l.certificates())
	if err != nil {
		return freshTLS{}, err
	}
	f := freshTLS{conf: l, tls: ep.tls, certs: ep.certs, files: files}
	if f.certs == nil {
		f.certs = s.newCertificates(ep.name)
	}
	// As long as it is the same one, tickets of before are good.
	if f.certs != ep.certs || l.TLSMin != ep.conf.TLSMin || l.SessionTickets != ep.conf.SessionTickets {
		f.tls = l.tlsConfig(f.certs)
	}
	return f, nil
}

// swap puts it all into force.
func (s *Server) swap(cfg Config, fresh map[*endpoint]freshTLS) error {
	before := make(map[*endpoint]*tls.Config)
	for ep, f := range fresh {
		before[ep], ep.tls = ep.tls, f.tls
	}
	set, err := s.newSettings(cfg)
	if err != nil {
		for ep, conf := range before {
			ep.tls = conf
		}
		return fmt.Errorf("incoming: reload: %w", err)
	}
	for ep, f := range fresh {
		switch {
		case f.files != nil:
			f.certs.replace(f.files)
			if f.certs != ep.certs {
				f.certs.begin()
			}
		case ep.certs != nil:
			ep.certs.end()
		}
	}
	s.admission.setLimits(set.limits)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ep := range s.endpoints {
		ep.conf.Proxy = set.proxy[ep.name]
	}
	for ep, f := range fresh {
		ep.conf.CertFile, ep.conf.KeyFile, ep.conf.Certificates = f.conf.CertFile, f.conf.KeyFile, f.conf.Certificates
		ep.conf.TLSMin, ep.conf.SessionTickets, ep.conf.TLSConfig = f.conf.TLSMin, f.conf.SessionTickets, f.conf.TLSConfig
		ep.certs = f.certs
	}
	s.old = append(inUse(s.old), s.set)
	s.set = set
	return nil
}

// inUse is those settings that a session goes by or a policy is at work for.
func inUse(old []*settings) (left []*settings) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for _, set := range old {
		if set.users > 0 || set.chain.Wait(now) != nil {
			left = append(left, set)
		}
	}
	return left
}
