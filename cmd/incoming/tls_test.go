package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/internal/testcert"
)

// serial is that of the certificate which a STARTTLS shows.
func serial(t *testing.T, d *process, ca *testcert.CA) string {
	t.Helper()
	s := dialed(t, d)
	if r, err := s.say("STARTTLS"); err != nil || !strings.HasPrefix(r, "220") {
		t.Fatal(r, err)
	}
	c := tls.Client(s.conn, ca.ClientConfig("mx.example.org"))
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// T10, T12.
func TestAReloadTakesANewCertificateAndRefusesABadOne(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ca := testcert.NewCA(t)
	issue := func() { ca.Issue(t, testcert.Options{Names: []string{"mx.example.org"}}).WriteFiles(t, p.dir) }
	cert, key := ca.Issue(t, testcert.Options{Names: []string{"mx.example.org"}}).WriteFiles(t, p.dir)
	d := p.start(t, "--hostname", "mx.example.org", "--set", "listener.tls=required", "--set", "listener.cert="+cert, "--set", "listener.key="+key)
	if out := p.tool(t, "send", "--server", d.addr(), "--tls", "starttls", "--insecure"); !strings.Contains(out, "1 sent") {
		t.Error(out)
	}
	first := serial(t, d, ca)
	issue()
	if out := p.tool(t, "reload"); !strings.Contains(out, "read again: "+cert) || !strings.Contains(out, "no option has changed") {
		t.Error(out)
	}
	second := serial(t, d, ca)
	if first == second {
		t.Error("the certificate of before is still in use")
	}

	keyText, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	_, otherKey := ca.Issue(t, testcert.Options{Names: []string{"mx.example.org"}}).WriteFiles(t, other)
	text, err := os.ReadFile(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{text, keyText[:len(keyText)/2]} {
		if err := os.WriteFile(key, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := runHere(t, "reload", "--spool", filepath.Join(p.dir, "incoming-data/spool"))
		if code != exitFailure || !strings.Contains(stderr, "nothing was changed") || !strings.Contains(stderr, filepath.Base(key)) {
			t.Errorf("%d %s", code, stderr)
		}
		if serial(t, d, ca) != second {
			t.Error("a bad key changed the certificate")
		}
	}
}
