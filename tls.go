package incoming

import (
	"crypto/tls"
	"errors"
	"strings"
)

// certificates is the files of all of a listener's certificates, the default
// first.
func (l Listener) certificates() []CertificateFiles {
	list := l.Certificates
	if l.CertFile != "" || l.KeyFile != "" {
		list = append([]CertificateFiles{{l.CertFile, l.KeyFile}}, list...)
	}
	return list
}

// tlsConfig is the configuration for certificates from files.
func (l Listener) tlsConfig(c *certificates) *tls.Config {
	conf := &tls.Config{MinVersion: l.TLSMin, SessionTicketsDisabled: !l.SessionTickets, GetCertificate: c.get}
	if conf.MinVersion == 0 {
		conf.MinVersion = tls.VersionTLS12
	}
	if conf.MinVersion < tls.VersionTLS12 {
		conf.CipherSuites = oldCiphers()
	}
	return conf
}

// givenTLSConfig is the configuration for a Listener's own TLSConfig. The engine
// sees to it that those which it chooses for a client send no tickets either.
func (l Listener) givenTLSConfig() (*tls.Config, error) {
	given := l.TLSConfig
	if len(given.Certificates) == 0 && given.GetCertificate == nil && given.GetConfigForClient == nil {
		return nil, errors.New("TLSConfig has no certificate")
	}
	conf := given.Clone()
	if conf.MinVersion == 0 {
		conf.MinVersion = tls.VersionTLS12
	}
	conf.SessionTicketsDisabled = conf.SessionTicketsDisabled || !l.SessionTickets
	return conf, nil
}

// oldCiphers is Go's own choice and those of an RSA key exchange with AES: what
// ends with TLS 1.0 or 1.1 often knows no other. Which comes first Go decides.
func oldCiphers() []uint16 {
	var ids []uint16
	for _, suite := range tls.CipherSuites() {
		ids = append(ids, suite.ID)
	}
	for _, suite := range tls.InsecureCipherSuites() {
		if strings.HasPrefix(suite.Name, "TLS_RSA_WITH_AES_") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

func (s *Server) newCertificates(listener string) *certificates {
	return &certificates{listener: listener, tell: s.hooks.TLSCertificate, trouble: s.hooks.Trouble}
}

// watch looks at the files of all certificates until the drain.
func (s *Server) watch() {
	s.eachCertificates((*certificates).begin)
	for s.pause(certLook) {
		s.eachCertificates((*certificates).look)
	}
}

// eachCertificates calls f for each listener that has certificates from files.
func (s *Server) eachCertificates(f func(*certificates)) {
	var all []*certificates
	s.mu.Lock()
	for _, ep := range s.endpoints {
		if ep.certs != nil {
			all = append(all, ep.certs)
		}
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}
