package interop

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// security is how a client speaks.
type security string

const (
	clear    security = "clear"
	starttls security = "starttls"
	implicit security = "implicit"
)

// ways is all of them.
var ways = []security{clear, starttls, implicit}

// stage is the daemon and what it delivers.
type stage struct {
	site *daemon.Site
	addr map[security]string
	ca   string // a file
	tls  *tls.Config

	mu    sync.Mutex
	files map[string][]string // of the Maildir by token, those that nobody has asked for yet
	seen  map[string]bool     // by name
}

// target is where one message goes.
type target struct {
	addr string
	mode security
	*stage
}

// host and port are those of its address.
func (d target) host() (host string, port int) {
	host, text, _ := net.SplitHostPort(d.addr)
	port, _ = strconv.Atoi(text) // the address is a listener's
	return host, port
}

func begin(t *testing.T) (*stage, *daemon.Daemon) {
	t.Helper()
	dir := t.TempDir()
	ca := testcert.NewCA(t)
	cert, key := ca.Issue(t, testcert.Options{Names: []string{daemon.Hostname, "127.0.0.1"}}).WriteFiles(t, dir)
	s := &stage{site: daemon.NewSite(t), ca: filepath.Join(dir, "ca.pem"), tls: ca.ClientConfig(daemon.Hostname),
		files: make(map[string][]string), seen: make(map[string]bool)}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
	// The domain is written in A-labels here, and in its own letters by most clients.
	text := "domains = [\"example.org\", \"xn--bcher-kva.example\"]\n"
	for _, mode := range []string{"optional", "implicit"} {
		text += fmt.Sprintf("[[listener]]\nname = %q\naddress = \"127.0.0.1:0\"\ntls = %q\ncert = %q\nkey = %q\n", mode, mode, cert, key)
	}
	conf := filepath.Join(dir, "incoming.toml")
	for file, content := range map[string][]byte{s.ca: authority, conf: []byte(text)} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.site.Listen = nil
	d := s.site.Start(t, "--config", conf)
	at := d.Listening(t)
	if len(at) != 2 {
		t.Fatalf("it listens on %q", at)
	}
	s.addr = map[security]string{clear: at[0], starttls: at[0], implicit: at[1]}
	return s, d
}

// arrived waits for the message with a token, takes it out of the Maildir, and
// wants it there once.
func (s *stage) arrived(t *testing.T, token string) []byte {
	t.Helper()
	var files []string
	daemon.Within(t, time.Minute, "the message arrives", func() error {
		if files = s.take(t, token); len(files) == 0 {
			return fmt.Errorf("%s is not in %s", token, s.site.Mail)
		}
		return nil
	})
	if len(files) != 1 {
		t.Fatalf("it is there %d times", len(files))
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	return whole
}

// take returns the files with a token. What is new in the Maildir is looked at.
func (s *stage) take(t *testing.T, token string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.site.Mail, "new")
	for _, name := range daemon.Entries(t, dir) {
		if s.seen[name] {
			continue
		}
		s.seen[name] = true
		file := filepath.Join(dir, name)
		found := tokenOf(t, file)
		s.files[found] = append(s.files[found], file)
	}
	files := s.files[token]
	delete(s.files, token)
	return files
}

// tokenOf reads the token of a file, which stands in its first part; "" when
// there is none.
func tokenOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := f.Read(head)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(head[:n], []byte("\r\nX-Token: "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return string(value)
}

// envelope takes off what Maildir and the server put on top of a message, and
// wants it to say m's envelope and how it came. Addresses are compared as
// mailboxes: curl and nodemailer write a domain in A-labels.
func envelope(t *testing.T, whole []byte, m message, mode security) (rest []byte) {
	t.Helper()
	next := func(field string) (value string) {
		end := bytes.Index(whole, []byte("\r\n"))
		for end >= 0 && len(whole) > end+2 && (whole[end+2] == ' ' || whole[end+2] == '\t') {
			more := bytes.Index(whole[end+2:], []byte("\r\n"))
			if more < 0 {
				break
			}
			end += 2 + more
		}
		value, ok := strings.CutPrefix(string(whole[:max(end, 0)]), field+": ")
		if !ok {
			t.Fatalf("no %s on top, but %.200q", field, whole)
		}
		whole = whole[end+2:]
		return value
	}
	if from := next("Return-Path"); mailbox.Key(strings.Trim(from, "<>")) != mailbox.Key(m.from) {
		t.Errorf("from %s, and it was sent from <%s>", from, m.from)
	}
	var got, want []string // Postfix sorts them
	for _, to := range m.to {
		got, want = append(got, mailbox.Key(next("Delivered-To"))), append(want, mailbox.Key(to))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("to %q, and it was sent to %q", got, want)
	}
	received := next("Received")
	_, with, _ := strings.Cut(received, " with ")
	protocol, _, _ := strings.Cut(with, " ")
	if strings.HasSuffix(protocol, "SMTPS") != (mode != clear) || m.utf8 && !strings.HasPrefix(protocol, "UTF8") {
		t.Errorf("by %s it came with %s: %s", mode, protocol, received)
	}
	return whole
}

// same wants the text octet for octet.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d octets of %d; they differ at %d:\n got %.80q\nwant %.80q", what, len(got), len(want), at, got[at:], want[at:])
}
