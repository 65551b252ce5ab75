package incoming

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/telemetry"
)

// T10.
func TestCertificateErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	one, two := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{})
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key, other := write("one.cert", one.CertPEM), write("one.key", one.KeyPEM), write("two.key", two.KeyPEM)
	junk := write("junk", []byte("not PEM at all\n"))
	broken := write("broken", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		name, cert, key string
		want            []string
	}{
		{"missing certificate", missing, key, []string{"certificate " + missing, "no such file"}},
		{"missing key", cert, missing, []string{"key " + missing, "no such file"}},
		{"certificate is no PEM", junk, key, []string{"certificate " + junk, "no PEM"}},
		{"key is no PEM", cert, junk, []string{"key " + junk, "no PEM"}},
		{"swapped", key, cert, []string{"certificate " + key, `"PRIVATE KEY"`}},
		{"two certificates", cert, cert, []string{"key " + cert, `"CERTIFICATE"`}},
		{"key of another", cert, other, []string{other, "does not match", cert}},
		{"broken certificate", broken, key, []string{"certificate " + broken}},
		{"a directory", dir, key, []string{"certificate " + dir, "directory"}},
	} {
		_, err := loadPair(certNames{c.cert, c.key})
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %q", c.name, err)
		}
	}
	if _, err := loadPair(certNames{cert, key}); err != nil {
		t.Error(err)
	}
	if _, err := loadPair(certNames{cert: write("rsa.cert", ca.Issue(t, testcert.Options{RSA: true}).CertPEM), key: key}); err == nil {
		t.Error("an ECDSA key for an RSA certificate is taken")
	}
}

// T11, T12.
func TestCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	first, second, third := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{RSA: true})
	dir := t.TempDir()
	cert, key := first.WriteFiles(t, dir)
	synctest.Test(t, func(t *testing.T) {
		var troubles []telemetry.Trouble
		c := &certFiles{listener: "mx", trouble: func(e telemetry.Trouble) { troubles = append(troubles, e) }}
		pair, err := readPair(certNames{cert, key})
		if err != nil {
			t.Fatal(err)
		}
		c.replace(pair)
		serves := func(want *testcert.Pair) {
			t.Helper()
			got, err := c.get(&tls.ClientHelloInfo{})
			if err != nil || !bytes.Equal(got.Certificate[0], want.TLS.Certificate[0]) {
				t.Errorf("not the certificate wanted, error %v", err)
			}
		}
		serves(first)
		second.WriteFiles(t, dir)
		serves(first) // it looks once a second
		time.Sleep(certLook)
		serves(second)
		if len(troubles) != 1 || !troubles[0].Over || troubles[0].Err != nil || troubles[0].Listener != "mx" {
			t.Errorf("told %+v", troubles)
		}

		// Half of a replacement: the old pair stays, and it is said once.
		troubles = nil
		if err := os.WriteFile(cert, third.CertPEM, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(certLook)
			serves(second)
		}
		if len(troubles) != 1 || troubles[0].Over || troubles[0].Err == nil {
			t.Errorf("told %+v", troubles)
		}
		if _, stale := c.status(); !stale {
			t.Error("not stale")
		}
		// The other half.
		if err := os.WriteFile(key, third.KeyPEM, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certLook)
		serves(third)
		if notAfter, stale := c.status(); stale || !notAfter.Equal(third.TLS.Leaf.NotAfter) {
			t.Errorf("stale %v, not after %v", stale, notAfter)
		}
		// What was made readable without a change that shows is read again.
		junk := bytes.Repeat([]byte("x"), len(third.CertPEM))
		if err := os.WriteFile(cert, junk, 0o600); err != nil {
			t.Fatal(err)
		}
		troubles = nil
		time.Sleep(certLook)
		serves(third)
		before, err := os.Stat(cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cert, third.CertPEM, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(cert, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certLook)
		serves(third)
		if _, stale := c.status(); stale || len(troubles) != 2 || troubles[0].Over || !troubles[1].Over {
			t.Errorf("stale %v, told %+v", stale, troubles)
		}
		// Both gone.
		for _, name := range []string{cert, key} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(certLook)
		serves(third)
	})
}

func TestHandshakesLookAtTheFilesOnceASecond(t *testing.T) {
	t.Parallel()
	cert, key := testcert.NewCA(t).Issue(t, testcert.Options{}).WriteFiles(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		c := &certFiles{trouble: func(telemetry.Trouble) { told.Add(1) }}
		pair, err := readPair(certNames{cert, key})
		if err != nil {
			t.Fatal(err)
		}
		c.replace(pair)
		for i := range 10 {
			// Each look that finds a change tells of it.
			if err := os.WriteFile(cert, []byte(strings.Repeat("x", i+1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := c.get(nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(certLook / 4)
		}
		if n := told.Load(); n != 3 {
			t.Errorf("%d looks in 2.5 s, want 3", n)
		}
	})
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]*tls.Config{
		"files": (&certFiles{}).tlsConfig(),
		"given": func() *tls.Config {
			conf, err := adoptTLS(&tls.Config{GetCertificate: (&certFiles{}).get})
			if err != nil {
				t.Fatal(err)
			}
			return conf
		}(),
	} {
		if conf.MinVersion != tls.VersionTLS12 || !conf.SessionTicketsDisabled {
			t.Errorf("%s: floor %x, tickets off %v", name, conf.MinVersion, conf.SessionTicketsDisabled)
		}
	}
	old := &tls.Config{MinVersion: tls.VersionTLS10, GetCertificate: (&certFiles{}).get}
	conf, err := adoptTLS(&tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == "old" {
			return old, nil
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if chosen, err := conf.GetConfigForClient(&tls.ClientHelloInfo{ServerName: "old"}); err != nil || !chosen.SessionTicketsDisabled || chosen.MinVersion != tls.VersionTLS10 || old.SessionTicketsDisabled {
		t.Errorf("chosen for a client: %+v, %v", chosen, err)
	}
	if chosen, err := conf.GetConfigForClient(&tls.ClientHelloInfo{}); chosen != nil || err != nil {
		t.Errorf("nothing was chosen, but: %+v, %v", chosen, err)
	}
	if _, err := adoptTLS(&tls.Config{}); err == nil {
		t.Error("a TLSConfig without a certificate is taken")
	}
}
