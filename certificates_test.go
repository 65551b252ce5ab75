package incoming_test

import (
	"bytes"
	"crypto/tls"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
)

// T13: of several certificates a client is shown the one for the name it asks for,
// by STARTTLS and from the first octet; any other name, and none, gets the first.
func TestServerNameChoosesTheCertificate(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	pairs := make(map[string]*testcert.Pair)
	var files []incoming.CertificateFiles
	for _, name := range []string{"mx.example.org", "mx.example.net", "*.example.com"} {
		pairs[name] = ca.Issue(t, testcert.Options{Names: []string{name}})
		cert, key := pairs[name].WriteFiles(t, t.TempDir())
		files = append(files, incoming.CertificateFiles{CertFile: cert, KeyFile: key})
	}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{
		{Name: "starttls", Address: "127.0.0.1:0", TLS: incoming.TLSOptional, CertFile: files[0].CertFile, KeyFile: files[0].KeyFile, Certificates: files[1:]},
		{Name: "implicit", Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, Certificates: files}}})
	for _, listener := range []string{"starttls", "implicit"} {
		for asked, want := range map[string]string{
			"mx.example.org": "mx.example.org", "mx.example.net": "mx.example.net", "MX.Example.NET": "mx.example.net", "any.example.com": "*.example.com",
			"example.com": "mx.example.org", "a.any.example.com": "mx.example.org", "unknown.test": "mx.example.org", "": "mx.example.org",
		} {
			conf := ca.ClientConfig(asked)
			conf.InsecureSkipVerify = want != asked // where the name is what is wrong
			var c *incomingtest.Client
			if addr := srv.Server.Addr(listener).String(); listener == "implicit" {
				c = incomingtest.DialTLS(t, addr, conf)
				c.Expect("220")
			} else {
				c = incomingtest.Dial(t, addr)
				c.Play("S: 220\nC: EHLO x\nS: 250")
				c.StartTLS(conf)
			}
			c.Play("C: EHLO x\nS: 250\nC: QUIT\nS: 221")
			if got := c.TLS().PeerCertificates[0].Raw; !bytes.Equal(got, pairs[want].TLS.Certificate[0]) {
				t.Errorf("%s, asked for %q: not the certificate of %s", listener, asked, want)
			}
		}
	}
	if certs := srv.Status().Listeners[0].Certificates; len(certs) != 3 || !slices.Equal(certs[2].Names, []string{"*.example.com"}) {
		t.Errorf("status %+v", certs)
	}
}

// A listener speaks no older version than it is told to: at the floor and above it
// there is a handshake, below it is none.
func TestOldTLSIsSpokenWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	cert, key := ca.Issue(t, testcert.Options{RSA: true}).WriteFiles(t, t.TempDir())
	floors := map[string]uint16{"default": 0, "1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	var listeners []incoming.Listener
	for name, floor := range floors {
		listeners = append(listeners, incoming.Listener{Name: name, Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, CertFile: cert, KeyFile: key, TLSMin: floor})
	}
	w := &told{events: make(map[string][]reflect.Value), more: make(chan struct{}, 1)}
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: listeners, Hooks: w.hooks()})
	try := func(listener string, conf *tls.Config) error {
		nc, err := tls.Dial("tcp", srv.Server.Addr(listener).String(), conf)
		if err == nil {
			err = nc.Close()
		}
		return err
	}
	for listener, floor := range floors {
		for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
			conf := ca.ClientConfig("localhost")
			conf.MinVersion, conf.MaxVersion = version, version
			if err := try(listener, conf); (err == nil) != (version >= max(floor, tls.VersionTLS10) && (floor != 0 || version >= tls.VersionTLS12)) {
				t.Errorf("floor %s, %s: %v", listener, tls.VersionName(version), err)
			}
		}
		// An old device that knows nothing but an RSA key exchange.
		conf := ca.ClientConfig("localhost")
		conf.MinVersion, conf.MaxVersion, conf.CipherSuites = tls.VersionTLS10, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		if err := try(listener, conf); (err == nil) != (floor == tls.VersionTLS10 || floor == tls.VersionTLS11) {
			t.Errorf("floor %s, an RSA key exchange: %v", listener, err)
		}
	}
	reasons := make(map[string]bool)
	waitFor(t, "each reason to be told", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events["TLSHandshake"] {
			reasons[e.FieldByName("Reason").String()] = true
		}
		return reasons["version"] && reasons["cipher"] && reasons[""]
	})
}

// TestACertificateIsRenewedWithoutAnyHandshake: the daemon looks at the files by
// itself, so that a pair that does not match is noticed although nobody connects.
func TestACertificateIsRenewedWithoutAnyHandshake(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	dir := t.TempDir()
	first, second := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{})
	cert, key := first.WriteFiles(t, dir)
	j := newJournal()
	srv := incomingtest.NewServer(t, incoming.Config{Hooks: eventHooks(j), Listeners: []incoming.Listener{
		{Address: "127.0.0.1:0", TLS: incoming.TLSImplicit, CertFile: cert, KeyFile: key}}})
	j.await(t, "certificate 1")
	if err := os.WriteFile(cert, second.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	j.await(t, "trouble certificate")
	if c := srv.Status().Listeners[0].Certificates[0]; c.Err == nil || !c.NotAfter.Equal(first.TLS.Leaf.NotAfter) {
		t.Errorf("status %+v", c)
	}
	c := incomingtest.DialTLS(t, srv.Addr, ca.ClientConfig("localhost"))
	c.Expect("220")
	if !bytes.Equal(c.TLS().PeerCertificates[0].Raw, first.TLS.Certificate[0]) {
		t.Error("half of a pair is in use")
	}
	if err := os.WriteFile(key, second.KeyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the second half", func() bool { return srv.Status().Listeners[0].Certificates[0].Err == nil })
	c = incomingtest.DialTLS(t, srv.Addr, ca.ClientConfig("localhost"))
	c.Expect("220")
	if !bytes.Equal(c.TLS().PeerCertificates[0].Raw, second.TLS.Certificate[0]) {
		t.Error("the old pair is still in use")
	}
}
