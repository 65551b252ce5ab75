package incoming

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// certLook is how often the files of certificates are looked at.
const certLook = 2 * time.Second

// certificates is those of one listener, read from files and again when these
// change. Which is used for a client is looked up in an index that is replaced
// whole; a pair whose files make no pair any more stays in use.
type certificates struct {
	listener string
	tell     func(telemetry.TLSCertificate)
	trouble  func(telemetry.Trouble)

	index atomic.Pointer[certIndex]

	mu       sync.Mutex
	files    []*certFile
	told     int  // how many were told of: they are in use
	broken   bool // trouble was told: files make no pair
	expiring bool // trouble was told: one expires soon
}

// readCertificates reads all of a listener's. The error tells of each that cannot
// be used.
func readCertificates(list []CertificateFiles) ([]*certFile, error) {
	files := make([]*certFile, len(list))
	var errs []error
	for i, names := range list {
		f, err := openCertFile(names)
		if err == nil && i > 0 && len(certNames(f.pair)) == 0 {
			err = fmt.Errorf("certificate %s: no DNS name in it (subjectAltName), so that no client would be shown it", names.CertFile)
		}
		if err != nil {
			errs = append(errs, err)
		}
		files[i] = f
	}
	return files, errors.Join(errs...)
}

// get is a tls.Config's GetCertificate.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.index.Load().choose(hello), nil
}

// replace puts certificates that were just read into use.
func (c *certificates) replace(files []*certFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.files
	c.files = files
	c.reindex()
	if c.told == 0 {
		return // watch will tell of all
	}
	for i, f := range files {
		if i >= len(old) || old[i].files != f.files || old[i].err != nil || !old[i].pair.Leaf.Equal(f.pair.Leaf) {
			c.announce(i)
		}
	}
	for i := len(files); i < c.told; i++ {
		telemetry.Emit(c.tell, telemetry.TLSCertificate{Listener: c.listener, Number: i + 1})
	}
	c.told = len(files)
	c.judge(time.Now())
}

// begin tells of all of them: they are in use from now on.
func (c *certificates) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.files {
		c.announce(i)
	}
	c.told = len(c.files)
	c.judge(time.Now())
}

// look reads again what has changed.
func (c *certificates) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.files {
		if f.again() {
			if f.err == nil {
				c.reindex()
			}
			c.announce(i)
		}
	}
	c.judge(time.Now())
}

// end tells that none of them is in use any more.
func (c *certificates) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = nil
	for i := range c.told {
		telemetry.Emit(c.tell, telemetry.TLSCertificate{Listener: c.listener, Number: i + 1})
	}
	c.told = 0
	c.judge(time.Now())
}

// reindex makes the index anew. The caller holds mu.
func (c *certificates) reindex() {
	pairs := make([]*tls.Certificate, len(c.files))
	for i, f := range c.files {
		pairs[i] = f.pair
	}
	c.index.Store(newCertIndex(pairs))
}

// announce tells of one that is new in use, or whose files are no pair any more.
// The caller holds mu.
func (c *certificates) announce(i int) {
	f := c.files[i]
	telemetry.Emit(c.tell, telemetry.TLSCertificate{Listener: c.listener, Number: i + 1, File: f.files.CertFile,
		Names: certNames(f.pair), NotAfter: f.pair.Leaf.NotAfter, Err: f.err})
}

// judge tells when the listener comes into trouble by its certificates, and when
// that is over. The caller holds mu.
func (c *certificates) judge(now time.Time) {
	var broken, expiring *certFile
	for _, f := range c.files {
		if f.err != nil && broken == nil {
			broken = f
		}
		if !now.Before(expiresSoon(f.pair)) && (expiring == nil || f.pair.Leaf.NotAfter.Before(expiring.pair.Leaf.NotAfter)) {
			expiring = f
		}
	}
	if (broken != nil) != c.broken {
		c.broken = broken != nil
		e := telemetry.Trouble{Kind: "certificate", Listener: c.listener, Over: !c.broken, Text: "every certificate could be read again"}
		if c.broken {
			e.Text, e.Err = "a certificate could not be read again, the one before stays in use", broken.err
		}
		telemetry.Emit(c.trouble, e)
	}
	if (expiring != nil) != c.expiring {
		c.expiring = expiring != nil
		e := telemetry.Trouble{Kind: "certificate_expiry", Listener: c.listener, Over: !c.expiring, Text: "no certificate expires soon any more"}
		if c.expiring {
			e.Text = fmt.Sprintf("certificate %s is valid until %s only", expiring.files.CertFile, expiring.pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		telemetry.Emit(c.trouble, e)
	}
}

// expiresSoon is when a certificate has but a tenth of its life left: one that is
// renewed by itself has been by then.
func expiresSoon(pair *tls.Certificate) time.Time {
	from, to := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	return to.Add(-to.Sub(from) / 10)
}

// CertificateStatus is one certificate that a listener has from files.
type CertificateStatus struct {
	File     string   // the certificate's
	Names    []string // that clients are shown it for; the first certificate is for all others too
	NotAfter time.Time
	// Err is why its files are no pair any more: what they were before is in
	// use. nil when they are.
	Err error
}

func (c *certificates) status() []CertificateStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]CertificateStatus, len(c.files))
	for i, f := range c.files {
		all[i] = CertificateStatus{File: f.files.CertFile, Names: certNames(f.pair), NotAfter: f.pair.Leaf.NotAfter, Err: f.err}
	}
	return all
}

// certIndex finds the certificate for a client.
type certIndex struct {
	names map[string][]*tls.Certificate // by DNS name, in lower case, wildcards as they are
	rest  []*tls.Certificate            // for all other names, and for none; never empty
}

// newCertIndex is of pairs, of which the first is the default. What has one name
// keeps its order.
func newCertIndex(pairs []*tls.Certificate) *certIndex {
	x := &certIndex{names: make(map[string][]*tls.Certificate)}
	first := certNames(pairs[0])
	for i, pair := range pairs {
		names := certNames(pair)
		for _, name := range names {
			x.names[name] = append(x.names[name], pair)
		}
		// One for the same name with a key of another kind is as good.
		if i == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(first, n) }) {
			x.rest = append(x.rest, pair)
		}
	}
	return x
}

// choose is the first certificate for the name that the client asks for, of those
// that it can use: by the name itself, else by a wildcard for its left-most label
// (RFC 9525 §6.3), else by default. Any name is served, and none: a mail client
// is better off with our certificate than with an alert. So is one that can use
// none of them with the first: it is then told why.
func (x *certIndex) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	var wild []*tls.Certificate
	if label, parent, ok := strings.Cut(name, "."); ok && label != "" {
		wild = x.names["*."+parent]
	}
	// What it can use is about kinds of keys: that the name fits is known, or
	// does not count.
	nameless := *hello
	nameless.ServerName = ""
	var first *tls.Certificate
	for _, pairs := range [][]*tls.Certificate{x.names[name], wild, x.rest} {
		for _, pair := range pairs {
			if first == nil {
				first = pair
			}
			if nameless.SupportsCertificate(pair) == nil {
				return pair
			}
		}
	}
	return first
}

// certNames is the DNS names a certificate is for, in lower case and sorted: its
// subjectAltNames, never its common name (RFC 9525 §6.1). A wildcard counts only as
// the whole left-most label.
func certNames(pair *tls.Certificate) []string {
	names := make(map[string]bool)
	for _, name := range pair.Leaf.DNSNames {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if rest := strings.TrimPrefix(name, "*."); rest != "" && !strings.Contains(rest, "*") {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
