package incoming

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// CertificateFiles is where a certificate is.
type CertificateFiles struct {
	CertFile string // the certificate, and behind it its chain; PEM
	KeyFile  string // its private key; PEM
}

// certFile is a certificate and its key as they were read from their files. It
// keeps the last that were a pair.
type certFile struct {
	files CertificateFiles
	seen  [2]os.FileInfo // as they were when last read; nil: could not be read
	pair  *tls.Certificate
	err   error // why the files make no pair any more; nil when they do
}

func openCertFile(files CertificateFiles) (*certFile, error) {
	f := &certFile{files: files, seen: statPair(files)}
	var err error
	f.pair, err = loadPair(files)
	return f, err
}

// again reads the files again if they are not what they were, and says whether
// anything has changed: another pair, or another reason why there is none.
func (f *certFile) again() (changed bool) {
	seen := statPair(f.files)
	touched := !same(seen[0], f.seen[0]) || !same(seen[1], f.seen[1])
	// What could not be read is tried again: a change of its mode shows
	// nowhere.
	if !touched && f.err == nil {
		return false
	}
	// What was seen before reading is kept: a file that is replaced while it
	// is read looks changed the next time.
	f.seen = seen
	pair, err := loadPair(f.files)
	if err != nil {
		changed = touched || f.err.Error() != err.Error()
		f.err = err
		return changed
	}
	changed = f.err != nil || !f.pair.Leaf.Equal(pair.Leaf)
	f.pair, f.err = pair, nil
	return changed
}

func statPair(f CertificateFiles) (seen [2]os.FileInfo) {
	for i, name := range []string{f.CertFile, f.KeyFile} {
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
func loadPair(f CertificateFiles) (*tls.Certificate, error) {
	cert, err := readPEM("certificate", f.CertFile, func(t string) bool { return t == "CERTIFICATE" })
	if err != nil {
		return nil, err
	}
	key, err := readPEM("key", f.KeyFile, func(t string) bool { return strings.HasSuffix(t, "PRIVATE KEY") })
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
		return &pair, nil
	case strings.Contains(err.Error(), "does not match"):
		return nil, fmt.Errorf("key %s does not match certificate %s", f.KeyFile, f.CertFile)
	}
	return nil, fmt.Errorf("certificate %s with key %s: %w", f.CertFile, f.KeyFile, err)
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
