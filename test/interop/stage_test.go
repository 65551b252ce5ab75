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
	lmtp     security = "lmtp"      // in clear
	lmtpUnix security = "lmtp-unix" // the same by a unix socket
)

// ways is those of SMTP, and local those of LMTP.
var (
	ways  = []security{clear, starttls, implicit}
	local = []security{lmtp, lmtpUnix}
)

// encrypted reports whether it has TLS.
func (w security) encrypted() bool { return w == starttls || w == implicit }

// local reports whether it is LMTP.
func (w security) local() bool { return w == lmtp || w == lmtpUnix }

// stage is the daemon and what it delivers.
type stage struct {
	site *daemon.Site
	dir  string
	addr map[security]string // of lmtpUnix a path
	ca   string              // files
	cert string
	key  string
	tls  *tls.Config

	mu    sync.Mutex
	files map[string][]string // of the Maildir by token, those that nobody has asked for yet
	seen  map[string]bool     // by name
}

// target is where one message goes.
type target struct {
	addr string
	mode security
	from net.Addr // where the client is to connect from; nil for anywhere
	*stage
}

// host and port are those of its address.
func (d target) host() (host string, port int) {
	host, text, _ := net.SplitHostPort(d.addr)
	port, _ = strconv.Atoi(text) // the address is a listener's
	return host, port
}

// newStage is one without a daemon yet.
func newStage(t *testing.T) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "incoming-interop-") // short enough for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })  // a test run leaves at worst some files
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's processes are other users
		t.Fatal(err)
	}
	ca := testcert.NewCA(t)
	s := &stage{site: daemon.NewSite(t), dir: dir, ca: filepath.Join(dir, "ca.pem"), tls: ca.ClientConfig(daemon.Hostname),
		files: make(map[string][]string), seen: make(map[string]bool)}
	s.cert, s.key = ca.Issue(t, testcert.Options{Names: []string{daemon.Hostname, "127.0.0.1"}}).WriteFiles(t, dir)
	s.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})))
	s.site.Listen = nil
	return s
}

// write makes a file, and returns its path.
func (s *stage) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// domains is what is accepted: the second is written in A-labels here, and in its
// own letters by most clients.
const domains = "domains = [\"example.org\", \"xn--bcher-kva.example\"]\n"

// listener is a listener's table.
func (s *stage) listener(address, tls, more string) string {
	text := fmt.Sprintf("[[listener]]\naddress = %q\ntls = %q\n%s\n", address, tls, more)
	if tls != "disabled" {
		text += fmt.Sprintf("cert = %q\nkey = %q\n", s.cert, s.key)
	}
	return text
}

// begin starts a daemon that can be spoken to in every way.
func begin(t *testing.T) (*stage, *daemon.Daemon) {
	t.Helper()
	s := newStage(t)
	socket := filepath.Join(s.dir, "lmtp.sock")
	d := s.site.Start(t, "--config", s.write(t, "incoming.toml", domains+
		s.listener("127.0.0.1:0", "optional", `name = "mx"`)+
		s.listener("127.0.0.1:0", "implicit", `name = "mxs"`)+
		s.listener("127.0.0.1:0", "disabled", "name = \"lmtp\"\nprotocol = \"lmtp\"")+
		s.listener("unix:"+socket, "disabled", "name = \"socket\"\nprotocol = \"lmtp\"\nsocket_mode = \"0666\"")))
	at := d.Listening(t)
	if len(at) != 3 {
		t.Fatalf("it listens on %q", at)
	}
	s.addr = map[security]string{clear: at[0], starttls: at[0], implicit: at[1], lmtp: at[2], lmtpUnix: socket}
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
	if strings.HasSuffix(protocol, "S") != mode.encrypted() || strings.Contains(protocol, "LMTP") != mode.local() || m.utf8 && !strings.HasPrefix(protocol, "UTF8") {
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
