package incoming

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// defaultAddress is where a Config without Listeners listens.
const defaultAddress = "127.0.0.1:2525"

// named is the listeners of a Config with defaults and names filled in.
func (cfg Config) named() []Listener {
	if cfg.Listeners == nil {
		return []Listener{{Name: defaultAddress, Address: defaultAddress}}
	}
	ls := make([]Listener, len(cfg.Listeners))
	for i, l := range cfg.Listeners {
		if l.Name == "" {
			l.Name = l.Address
		}
		if l.Name == "" && l.Net != nil {
			l.Name = l.Net.Addr().String()
		}
		ls[i] = l
	}
	return ls
}

// check finds what is wrong with a Config without touching a file or a socket.
// All that is wrong is in the error, not only the first.
func (cfg Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Queue == nil {
		bad("Queue is nil: there is nowhere to keep messages")
	}
	if h, err := hostnameOf(cfg.Hostname); err != nil {
		bad("hostname: %w", err)
	} else if !plainWord(h) {
		bad("hostname %q is no domain", h)
	}
	if _, err := newDomains(cfg.Domains); err != nil {
		errs = append(errs, err)
	}
	for i, p := range cfg.Policies {
		if p == nil {
			bad("policy %d is nil", i+1)
		}
	}
	checkNetworks("Limits.Exempt", cfg.Limits.Exempt, bad)
	checkNetworks("RejectBareNewline", cfg.RejectBareNewline, bad)
	checkNetworks("Lenient", cfg.Lenient, bad)
	if cfg.Listeners != nil && len(cfg.Listeners) == 0 {
		bad("Listeners is empty: nil is the default, one or more listen")
	}
	seen := make(map[string]bool)
	for _, l := range cfg.named() {
		if seen[l.Name] {
			bad("listener %q: another one has that name", l.Name)
		}
		seen[l.Name] = true
		if err := l.check(); err != nil {
			bad("listener %q: %w", l.Name, err)
		}
	}
	return errors.Join(errs...)
}

func (l Listener) check() error {
	if path, is := unixPath(l.Address); is {
		if path == "" {
			return errors.New("address unix: has no path")
		}
	} else if l.Net == nil {
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			return fmt.Errorf("address %q is not host:port: %w", l.Address, err)
		}
	}
	if _, port, _ := net.SplitHostPort(l.Address); l.LMTP && port == "25" {
		return errors.New("LMTP must not be spoken on port 25 (RFC 2033 §5)")
	}
	files := len(l.certificates()) > 0
	switch {
	case l.TLS < TLSDisabled || l.TLS > TLSImplicit:
		return fmt.Errorf("unknown TLS mode %d", l.TLS)
	case l.TLS == TLSDisabled && (files || l.TLSConfig != nil):
		return errors.New("there is a certificate, but TLS is disabled")
	case l.TLSConfig != nil && l.TLSMin != 0:
		return errors.New("both TLSConfig, which has a MinVersion, and TLSMin are given")
	case l.TLS == TLSDisabled, l.TLSConfig != nil && !files:
		return nil
	case l.TLSConfig != nil:
		return errors.New("both TLSConfig and certificate files are given")
	case l.TLSMin != 0 && (l.TLSMin < tls.VersionTLS10 || l.TLSMin > tls.VersionTLS13):
		return fmt.Errorf("TLSMin: there is no TLS version %#04x", l.TLSMin)
	case !files:
		return errors.New("TLS wants a certificate: no certificate file is given")
	}
	for _, f := range l.certificates() {
		switch {
		case f.CertFile == "":
			return errors.New("TLS wants a certificate: no certificate file is given")
		case f.KeyFile == "":
			return errors.New("TLS wants a certificate: no key file is given")
		}
	}
	return nil
}

func checkNetworks(name string, ps []netip.Prefix, bad func(string, ...any)) {
	for i, p := range ps {
		if !p.IsValid() {
			bad("%s: network %d is not valid", name, i+1)
		}
	}
}

// plainWord reports whether s can stand in a banner and a Received field.
func plainWord(s string) bool {
	return s != "" && len(s) <= maxHello && strings.IndexFunc(s, func(r rune) bool {
		return r >= 0x80 || !helloOctet(byte(r))
	}) < 0
}
