package incoming

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// certLook is how often, at most, handshakes look whether the files changed.
const certLook = time.Second

// certFiles is one listener's certificate and key, read from files and again
// when they change. The pair in use is swapped whole; while the files on disk
// make no pair, the old one stays in use.
type certFiles struct {
	listener string
	trouble  func(telemetry.Trouble)

	pair atomic.Pointer[tls.Certificate]
	next atomic.Int64 // when to look again, in Unix nanoseconds

	mu    sync.Mutex // held by whoever looks; others use the pair there is
	files certNames
	seen  [2]os.FileInfo // as they were when last read; nil: could not be read
	bad   bool           // the last reading failed
}

// certNames is where a pair is.
type certNames struct{ cert, key string }

// get is a tls.Config's GetCertificate. Any name, and none, is served: a mail
// client that asks for a name we do not know is better off with our
// certificate than with an alert.
func (c *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if now := time.Now().UnixNano(); now >= c.next.Load() && c.mu.TryLock() {
		c.look()
		c.next.Store(now + int64(certLook))
		c.mu.Unlock()
	}
	return c.pair.Load(), nil
}

// look reads the files again if they are not what they were. The caller holds
// mu.
func (c *certFiles) look() {
	seen := statPair(c.files)
	changed := !same(seen[0], c.seen[0]) || !same(seen[1], c.seen[1])
	// What could not be read is tried again: a change of its mode shows
	// nowhere.
	if !changed && !c.bad {
		return
	}
	// What was seen before reading is kept: a file that is replaced while it
	// is read looks changed the next time.
	c.seen = seen
	pair, err := loadPair(c.files)
	if err != nil {
		told := c.bad && !changed
		c.bad = true
		if told {
			return
		}
		telemetry.Emit(c.trouble, telemetry.Trouble{Kind: "certificate", Listener: c.listener, Err: err,
			Text: "the certificate was not read again, the old one stays in use"})
		return
	}
	c.use(pair)
}

// use puts a pair into use. The caller holds mu.
func (c *certFiles) use(pair *tls.Certificate) {
	first := c.pair.Swap(pair) == nil
	c.bad = false
	if first {
		return
	}
	telemetry.Emit(c.trouble, telemetry.Trouble{Kind: "certificate", Listener: c.listener, Over: true,
		Text: fmt.Sprintf("certificate %s read again, valid until %s", c.files.cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))})
}

// replace puts a pair read from files into use.
func (c *certFiles) replace(l loadedPair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files, c.seen = l.files, l.seen
	if old := c.pair.Load(); old != nil && old.Leaf.Equal(l.pair.Leaf) {
		c.bad = false
		return
	}
	c.use(l.pair)
}

// status is when the pair in use expires, and whether the files hold no better.
func (c *certFiles) status() (notAfter time.Time, stale bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pair.Load().Leaf.NotAfter, c.bad
}

// loadedPair is a pair and the files it was read from.
type loadedPair struct {
	files certNames
	seen  [2]os.FileInfo
	pair  *tls.Certificate
}

func readPair(files certNames) (loadedPair, error) {
	seen := statPair(files)
	pair, err := loadPair(files)
	return loadedPair{files, seen, pair}, err
}

func statPair(f certNames) (seen [2]os.FileInfo) {
	for i, name := range []string{f.cert, f.key} {
		if fi, err := os.Stat(name); err == nil { // an error shows when it is read
			seen[i] = fi
		}
	}
	return seen
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// loadPair reads a certificate chain and its key; every error names the file.
func loadPair(f certNames) (*tls.Certificate, error) {
	cert, err := readPEM("certificate", f.cert, func(t string) bool { return t == "CERTIFICATE" })
	if err != nil {
		return nil, err
	}
	key, err := readPEM("key", f.key, func(t string) bool { return strings.HasSuffix(t, "PRIVATE KEY") })
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
		return &pair, nil
	case strings.Contains(err.Error(), "does not match"):
		return nil, fmt.Errorf("key %s does not match certificate %s", f.key, f.cert)
	}
	return nil, fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
}

// readPEM reads a file that must hold a PEM block of the kind wanted.
func readPEM(what, name string, want func(blockType string) bool) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err // the name is said once
		}
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	var other string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if want(block.Type) {
			return text, nil
		}
		other = block.Type
	}
	if other != "" {
		return nil, fmt.Errorf("%s %s: no %s in it, but a PEM block %q", what, name, what, other)
	}
	return nil, fmt.Errorf("%s %s: no PEM in it", what, name)
}

// tlsConfig is the configuration for c's pair. Session tickets are off because
// TLS 1.3 clients of Microsoft give up on those that Go sends
// (golang/go#70232).
func (c *certFiles) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, GetCertificate: c.get}
}

// adoptTLS is the configuration for a Listener's own TLSConfig, and so are those
// that it chooses for a client.
func adoptTLS(given *tls.Config) (*tls.Config, error) {
	if len(given.Certificates) == 0 && given.GetCertificate == nil && given.GetConfigForClient == nil {
		return nil, errors.New("TLSConfig has no certificate")
	}
	conf := harden(given)
	if choose := given.GetConfigForClient; choose != nil {
		conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			return harden(chosen), nil
		}
	}
	return conf, nil
}

func harden(given *tls.Config) *tls.Config {
	conf := given.Clone()
	if conf.MinVersion == 0 {
		conf.MinVersion = tls.VersionTLS12
	}
	conf.SessionTicketsDisabled = true
	return conf
}
