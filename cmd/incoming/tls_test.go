package main

import (
	"crypto/tls"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/internal/testcert"
)

// serial is that of the certificate which a STARTTLS for mx.example.org shows.
func serial(t *testing.T, d *process, ca *testcert.CA) string {
	t.Helper()
	return serialOf(t, d, ca, "mx.example.org")
}

// serialOf is that of the certificate for a name.
func serialOf(t *testing.T, d *process, ca *testcert.CA, name string) string {
	t.Helper()
	s := dialed(t, d)
	if r, err := s.say("STARTTLS"); err != nil || !strings.HasPrefix(r, "220") {
		t.Fatal(r, err)
	}
	c := tls.Client(s.conn, ca.ClientConfig(name))
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

// T10, T11, T12, T13: of several certificates, given as tables, each is served to who
// asks for its name, each that is replaced is served after a reload, and one that
// cannot be used leaves what there was and is named.
func TestAReloadTakesEachOfSeveralCertificates(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ca := testcert.NewCA(t)
	names := []string{"mx.example.org", "mail.example.net", "in.example.com"}
	issue := func(name string) (cert, key string) {
		dir := filepath.Join(p.dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return ca.Issue(t, testcert.Options{Names: []string{name}}).WriteFiles(t, dir)
	}
	conf := "[[listener]]\naddress = \"127.0.0.1:0\"\nname = \"mx\"\ntls = \"optional\"\n"
	files := make(map[string][2]string)
	for i, name := range names {
		cert, key := issue(name)
		files[name] = [2]string{cert, key}
		if i > 0 {
			conf += "[[listener.certificate]]\n"
		}
		conf += fmt.Sprintf("cert = %q\nkey = %q\n", cert, key)
	}
	file := filepath.Join(p.dir, "incoming.toml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := startProcess(p.bin, p.dir, os.Environ(), "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	served := func() map[string]string {
		serials := make(map[string]string)
		for _, name := range names {
			serials[name] = serialOf(t, d, ca, name)
		}
		return serials
	}
	before := served()
	for _, replaced := range names {
		issue(replaced)
		out := p.tool(t, "reload")
		if !strings.Contains(out, "read again: "+files[replaced][0]) {
			t.Errorf("%s: %s", replaced, out)
		}
		after := served()
		for _, name := range names {
			if changed := after[name] != before[name]; changed != (name == replaced) {
				t.Errorf("after that for %s was replaced that for %s has changed: %v", replaced, name, changed)
			}
		}
		before = after
	}
	for _, broken := range names {
		for what, path := range map[string]string{"certificate": files[broken][0], "key": files[broken][1]} {
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := runHere(t, "reload", "--spool", filepath.Join(p.dir, "incoming-data/spool"))
			if code != exitFailure || !strings.Contains(stderr, "nothing was changed") || !strings.Contains(stderr, `listener "mx"`) ||
				!strings.Contains(stderr, filepath.Join(broken, filepath.Base(path))) {
				t.Errorf("half a %s for %s: %d %s", what, broken, code, stderr)
			}
			if after := served(); !maps.Equal(after, before) {
				t.Errorf("half a %s for %s: %v is served, and before %v", what, broken, after, before)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out := p.tool(t, "reload"); !strings.Contains(out, "no option has changed") {
		t.Error(out)
	}
	if after := served(); !maps.Equal(after, before) {
		t.Errorf("mended: %v is served, and before %v", after, before)
	}
}
