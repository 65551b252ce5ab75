package incoming

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
		_, err := loadPair(CertificateFiles{c.cert, c.key})
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
	if _, err := loadPair(CertificateFiles{cert, key}); err != nil {
		t.Error(err)
	}
	if _, err := loadPair(CertificateFiles{CertFile: write("rsa.cert", ca.Issue(t, testcert.Options{RSA: true}).CertPEM), KeyFile: key}); err == nil {
		t.Error("an ECDSA key for an RSA certificate is taken")
	}
}

// T11, T12.
// watched is certificates from files, and what is told of them.
type watched struct {
	*certificates
	told     []telemetry.TLSCertificate
	troubles []telemetry.Trouble
}

func watchFiles(t *testing.T, list ...CertificateFiles) *watched {
	t.Helper()
	w := &watched{}
	w.certificates = &certificates{listener: "mx", tell: func(e telemetry.TLSCertificate) { w.told = append(w.told, e) },
		trouble: func(e telemetry.Trouble) { w.troubles = append(w.troubles, e) }}
	files, err := readCertificates(list)
	if err != nil {
		t.Fatal(err)
	}
	w.replace(files)
	w.begin()
	return w
}

func (w *watched) serves(t *testing.T, want *testcert.Pair) {
	t.Helper()
	got, err := w.get(&tls.ClientHelloInfo{})
	if err != nil || !bytes.Equal(got.Certificate[0], want.TLS.Certificate[0]) {
		t.Errorf("not the certificate wanted, error %v", err)
	}
}

// T11, T12.
func TestCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	first, second, third := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{RSA: true})
	dir := t.TempDir()
	cert, key := first.WriteFiles(t, dir)
	w := watchFiles(t, CertificateFiles{cert, key})
	if len(w.told) != 1 || w.told[0].Number != 1 || w.told[0].File != cert || !w.told[0].NotAfter.Equal(first.TLS.Leaf.NotAfter) || w.told[0].Err != nil {
		t.Errorf("told at first: %+v", w.told)
	}
	w.serves(t, first)
	w.look()
	if w.serves(t, first); len(w.told) != 1 {
		t.Errorf("nothing has changed, but it told %+v", w.told)
	}
	second.WriteFiles(t, dir)
	w.look()
	if w.serves(t, second); len(w.told) != 2 || !w.told[1].NotAfter.Equal(second.TLS.Leaf.NotAfter) || len(w.troubles) != 0 {
		t.Errorf("told %+v, %+v", w.told, w.troubles)
	}

	// Half of a replacement: the old pair stays, and it is said once.
	w.told = nil
	if err := os.WriteFile(cert, third.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.look()
		w.serves(t, second)
	}
	if len(w.troubles) != 1 || w.troubles[0].Over || w.troubles[0].Err == nil || w.troubles[0].Listener != "mx" {
		t.Errorf("troubles %+v", w.troubles)
	}
	if len(w.told) != 1 || w.told[0].Err == nil || !w.told[0].NotAfter.Equal(second.TLS.Leaf.NotAfter) || w.status()[0].Err == nil {
		t.Errorf("told %+v, status %+v", w.told, w.status())
	}
	// The other half.
	if err := os.WriteFile(key, third.KeyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.serves(t, third)
	if s := w.status()[0]; s.Err != nil || !s.NotAfter.Equal(third.TLS.Leaf.NotAfter) || len(w.troubles) != 2 || !w.troubles[1].Over {
		t.Errorf("status %+v, troubles %+v", s, w.troubles)
	}
	// What was made readable without a change that shows is read again.
	w.troubles = nil
	junk := bytes.Repeat([]byte("x"), len(third.CertPEM))
	if err := os.WriteFile(cert, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.serves(t, third)
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
	w.look()
	if w.serves(t, third); w.status()[0].Err != nil || len(w.troubles) != 2 || w.troubles[0].Over || !w.troubles[1].Over {
		t.Errorf("status %+v, troubles %+v", w.status(), w.troubles)
	}
	// Both gone.
	for _, name := range []string{cert, key} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	w.look()
	w.serves(t, third)
}

// TestEachOfSeveralCertificatesIsReadAgain: one that is broken keeps no other from
// being renewed, and the trouble is over when the last of them is mended.
func TestEachOfSeveralCertificatesIsReadAgain(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	issue := func(name string) *testcert.Pair { return ca.Issue(t, testcert.Options{Names: []string{name}}) }
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	names := []string{"a.example", "b.example", "c.example"}
	var list []CertificateFiles
	for i, dir := range dirs {
		cert, key := issue(names[i]).WriteFiles(t, dir)
		list = append(list, CertificateFiles{cert, key})
	}
	w := watchFiles(t, list...)
	for _, i := range []int{1, 2} {
		if err := os.WriteFile(list[i].KeyFile, []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renewed := issue("a.example")
	renewed.WriteFiles(t, dirs[0])
	w.told = nil
	w.look()
	w.serves(t, renewed)
	if len(w.told) != 3 || len(w.troubles) != 1 || !strings.Contains(w.troubles[0].Err.Error(), list[1].KeyFile) {
		t.Errorf("told %+v, troubles %+v", w.told, w.troubles)
	}
	mended := []*testcert.Pair{1: issue("b.example"), 2: issue("c.example")}
	for _, i := range []int{1, 2} {
		if len(w.troubles) != 1 {
			t.Errorf("%d are broken still, but: %+v", 3-i, w.troubles)
		}
		mended[i].WriteFiles(t, dirs[i])
		w.look()
		got, err := w.get(&tls.ClientHelloInfo{ServerName: names[i]})
		if err != nil || !bytes.Equal(got.Certificate[0], mended[i].TLS.Certificate[0]) {
			t.Errorf("%s: not the certificate wanted, error %v", names[i], err)
		}
	}
	if len(w.troubles) != 2 || !w.troubles[1].Over {
		t.Errorf("troubles %+v", w.troubles)
	}
	// Another name in the place of an old one is found, and the old one is not.
	other := issue("d.example")
	other.WriteFiles(t, dirs[2])
	w.look()
	for name, want := range map[string]*testcert.Pair{"d.example": other, "c.example": renewed} {
		if got, err := w.get(&tls.ClientHelloInfo{ServerName: name}); err != nil || !bytes.Equal(got.Certificate[0], want.TLS.Certificate[0]) {
			t.Errorf("%s: not the certificate wanted, error %v", name, err)
		}
	}
	// A reload with fewer tells of those that are gone.
	w.told = nil
	files, err := readCertificates(list[:1])
	if err != nil {
		t.Fatal(err)
	}
	w.replace(files)
	if len(w.told) != 2 || w.told[0].Number != 2 || w.told[1].Number != 3 || !w.told[1].NotAfter.IsZero() || len(w.status()) != 1 {
		t.Errorf("told %+v, status %+v", w.told, w.status())
	}
}

func TestACertificateThatExpiresSoonIsTrouble(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	now := time.Now()
	lasting := func(left time.Duration) *testcert.Pair {
		return ca.Issue(t, testcert.Options{NotBefore: now.Add(left - 100*time.Hour), NotAfter: now.Add(left)})
	}
	dir := t.TempDir()
	cert, key := lasting(11*time.Hour).WriteFiles(t, dir)
	w := watchFiles(t, CertificateFiles{cert, key})
	if len(w.troubles) != 0 {
		t.Errorf("%+v with 11 %% of its life left", w.troubles)
	}
	for _, left := range []time.Duration{9 * time.Hour, -time.Hour} {
		lasting(left).WriteFiles(t, dir)
		w.look()
		if len(w.troubles) != 1 || w.troubles[0].Kind != "certificate_expiry" || w.troubles[0].Over || !strings.Contains(w.troubles[0].Text, cert) {
			t.Errorf("%v left: %+v", left, w.troubles)
		}
	}
	lasting(50*time.Hour).WriteFiles(t, dir)
	w.look()
	if len(w.troubles) != 2 || !w.troubles[1].Over {
		t.Errorf("%+v after a renewal", w.troubles)
	}
}

func TestCertificatesWithoutNamesHaveNoUseBehindTheFirst(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	named, nameless := ca.Issue(t, testcert.Options{}), ca.Issue(t, testcert.Options{Names: []string{"192.0.2.1"}})
	one, two := CertificateFiles{}, CertificateFiles{}
	one.CertFile, one.KeyFile = named.WriteFiles(t, t.TempDir())
	two.CertFile, two.KeyFile = nameless.WriteFiles(t, t.TempDir())
	if _, err := readCertificates([]CertificateFiles{two, one}); err != nil {
		t.Error(err)
	}
	if _, err := readCertificates([]CertificateFiles{one, two}); err == nil || !strings.Contains(err.Error(), two.CertFile) {
		t.Errorf("%v", err)
	}
}

func TestTheCertificateIsChosenByName(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	issue := func(o testcert.Options) *tls.Certificate { return &ca.Issue(t, o).TLS }
	def := issue(testcert.Options{Names: []string{"mx.example", "Upper.Example"}})
	wild := issue(testcert.Options{Names: []string{"*.example", "f*.bad.example", "*.*.bad.example"}})
	deep := issue(testcert.Options{Names: []string{"*.deep.example", "deep.example"}})
	exact := issue(testcert.Options{Names: []string{"exact.example"}})
	x := newCertIndex([]*tls.Certificate{def, wild, deep, exact})
	for name, want := range map[string]*tls.Certificate{
		"mx.example": def, "MX.EXAMPLE": def, "upper.example": def, "exact.example": exact, "other.example": wild,
		"a.deep.example": deep, "deep.example": deep, "a.b.deep.example": def, ".deep.example": def,
		"": def, "example": def, "unknown.test": def, "a_b.test": def, "a_b.example": wild, "192.0.2.1": def, "[2001:db8::1]": def,
		"foo.bad.example": def, "a.b.bad.example": def, strings.Repeat("a.", 10000) + "example": def,
	} {
		if got := x.choose(&tls.ClientHelloInfo{ServerName: name}); got != want {
			t.Errorf("%.40q: %q", name, got.Leaf.DNSNames)
		}
	}
}

func TestOfSeveralForANameTheClientGetsOneItCanUse(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	for _, first := range []bool{false, true} { // whether RSA is first
		name := []string{"mx.example"}
		ec, rsa := &ca.Issue(t, testcert.Options{Names: name}).TLS, &ca.Issue(t, testcert.Options{Names: name, RSA: true}).TLS
		other := &ca.Issue(t, testcert.Options{Names: []string{"other.example"}, RSA: true}).TLS
		list := []*tls.Certificate{ec, rsa, other}
		if first {
			list = []*tls.Certificate{rsa, ec, other}
		}
		x := newCertIndex(list)
		old := func(suite uint16, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
			return &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS12}, CipherSuites: []uint16{suite}, SignatureSchemes: schemes,
				SupportedCurves: []tls.CurveID{tls.CurveP256}, SupportedPoints: []uint8{0}}
		}
		onlyRSA := old(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.PKCS1WithSHA256)
		onlyEC := old(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.ECDSAWithP256AndSHA256)
		both := &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}}
		none := old(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.Ed25519)
		for _, name := range []string{"mx.example", "", "unknown.example"} {
			for what, c := range map[string]struct {
				hello *tls.ClientHelloInfo
				want  *tls.Certificate
			}{"RSA only": {onlyRSA, rsa}, "ECDSA only": {onlyEC, ec}, "both": {both, list[0]}, "none": {none, list[0]}} {
				c.hello.ServerName = name
				if got := x.choose(c.hello); got != c.want {
					t.Errorf("RSA first %v, %s, asks for %q: %v", first, what, name, got.Leaf.PublicKeyAlgorithm)
				}
			}
		}
		onlyEC.ServerName = "other.example" // better another name than no TLS
		if got := x.choose(onlyEC); got != ec {
			t.Errorf("ECDSA only, asks for a name that has RSA only: %q", got.Leaf.DNSNames)
		}
	}
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	for name, c := range map[string]struct {
		l       Listener
		min     uint16
		tickets bool
		old     bool // ciphers for old devices
	}{
		"files":                {l: Listener{}, min: tls.VersionTLS12},
		"files, 1.3":           {l: Listener{TLSMin: tls.VersionTLS13}, min: tls.VersionTLS13},
		"files, 1.0":           {l: Listener{TLSMin: tls.VersionTLS10}, min: tls.VersionTLS10, old: true},
		"files, tickets":       {l: Listener{SessionTickets: true}, min: tls.VersionTLS12, tickets: true},
		"given":                {l: Listener{TLSConfig: &tls.Config{GetCertificate: get}}, min: tls.VersionTLS12},
		"given, 1.1":           {l: Listener{TLSConfig: &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS11}}, min: tls.VersionTLS11},
		"given, tickets":       {l: Listener{SessionTickets: true, TLSConfig: &tls.Config{GetCertificate: get}}, min: tls.VersionTLS12, tickets: true},
		"given, tickets, none": {l: Listener{SessionTickets: true, TLSConfig: &tls.Config{GetCertificate: get, SessionTicketsDisabled: true}}, min: tls.VersionTLS12},
	} {
		conf := c.l.tlsConfig(&certificates{})
		if c.l.TLSConfig != nil {
			var err error
			if conf, err = c.l.givenTLSConfig(); err != nil {
				t.Fatal(err)
			}
		}
		if conf.MinVersion != c.min || conf.SessionTicketsDisabled == c.tickets || (conf.CipherSuites != nil) != c.old {
			t.Errorf("%s: floor %x, tickets off %v, ciphers %x", name, conf.MinVersion, conf.SessionTicketsDisabled, conf.CipherSuites)
		}
	}
	if ids := oldCiphers(); !slices.Contains(ids, tls.TLS_RSA_WITH_AES_128_CBC_SHA) || !slices.Contains(ids, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) ||
		slices.Contains(ids, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA) || slices.Contains(ids, tls.TLS_RSA_WITH_RC4_128_SHA) {
		t.Errorf("ciphers for old devices: %x", ids)
	}
	if _, err := (Listener{TLSConfig: &tls.Config{}}).givenTLSConfig(); err == nil {
		t.Error("a TLSConfig without a certificate is taken")
	}
}
