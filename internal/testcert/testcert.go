// Package testcert makes certificate authorities and certificates for tests, in
// memory and as PEM files. Nothing it makes is fit for anything else.
package testcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA signs certificates.
type CA struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// Options is what a certificate is for.
type Options struct {
	// Names is host names and IP addresses; nil is localhost, 127.0.0.1 and ::1.
	Names []string
	// RSA makes a key of 2048 bits in place of an ECDSA one on P-256.
	RSA bool
	// NotBefore and NotAfter are an hour ago and in a day when zero.
	NotBefore, NotAfter time.Time
}

// Pair is a certificate and its key.
type Pair struct {
	TLS     tls.Certificate // with Leaf
	CertPEM []byte
	KeyPEM  []byte // PKCS #8
}

// NewCA makes an authority with an ECDSA key.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	key := newKey(tb, false)
	tmpl := template(tb, Options{}, "incoming test CA")
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	return &CA{Cert: sign(tb, tmpl, tmpl, key.Public(), key), key: key}
}

// Pool is a pool with the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// ClientConfig is for a client that trusts the authority and asks for a name.
func (ca *CA) ClientConfig(name string) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), ServerName: name}
}

// Issue makes a key and a certificate for a server.
func (ca *CA) Issue(tb testing.TB, o Options) *Pair {
	tb.Helper()
	if o.Names == nil {
		o.Names = []string{"localhost", "127.0.0.1", "::1"}
	}
	key := newKey(tb, o.RSA)
	tmpl := template(tb, o, o.Names[0])
	for _, name := range o.Names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf := sign(tb, tmpl, ca.Cert, key.Public(), ca.key)

	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	return &Pair{
		TLS:     tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

// ServerConfig is for a server with this certificate.
func (p *Pair) ServerConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{p.TLS}, MinVersion: tls.VersionTLS12}
}

// WriteFiles writes cert.pem and key.pem into dir, in place of what is there: a
// reader sees each file whole.
func (p *Pair) WriteFiles(tb testing.TB, dir string) (certFile, keyFile string) {
	tb.Helper()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(tb, certFile, p.CertPEM)
	replace(tb, keyFile, p.KeyPEM)
	return certFile, keyFile
}

func replace(tb testing.TB, path string, text []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatalf("testcert: %v", err)
	}
}

func newKey(tb testing.TB, useRSA bool) crypto.Signer {
	tb.Helper()
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	return key
}

func template(tb testing.TB, o Options, name string) *x509.Certificate {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	if o.NotBefore.IsZero() {
		o.NotBefore = time.Now().Add(-time.Hour)
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().Add(24 * time.Hour)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    o.NotBefore,
		NotAfter:     o.NotAfter,
	}
}

func sign(tb testing.TB, tmpl, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, key)
	if err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("testcert: %v", err)
	}
	return cert
}
