package interop

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

const relayName = "relay.example.net"

// relay runs a Postfix of its own, and is a sender that hands it each message by
// net/smtp, to be relayed. The system's Postfix is not touched. It has one inlet
// for each way to speak; what comes in there goes on by a transport that speaks
// so.
func relay(t *testing.T, s *stage) sender {
	if os.Getuid() != 0 {
		absent(t, "a Postfix of its own needs root")
	}
	dir := t.TempDir()
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { // its processes are other users
			t.Fatal(err)
		}
	}
	for _, d := range []string{"conf", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inlets, master := make(map[security]string), postfixServices
	outlets := map[security]string{
		clear:    "smtp -o smtp_tls_security_level=none",
		starttls: "smtp -o smtp_tls_security_level=verify",
		implicit: "smtp -o smtp_tls_security_level=verify -o smtp_tls_wrappermode=yes",
		lmtp:     "lmtp -o lmtp_tls_security_level=none",
		lmtpUnix: "lmtp -o lmtp_tls_security_level=none",
	}
	for mode, outlet := range outlets {
		inlets[mode] = free(t)
		next := "unix:" + s.addr[mode]
		if mode != lmtpUnix {
			host, port, _ := net.SplitHostPort(s.addr[mode])
			next = fmt.Sprintf("[%s]:%s", host, port)
		}
		if mode == lmtp {
			next = "inet:" + next
		}
		master += fmt.Sprintf("%s inet n - n - - smtpd -o content_filter=by-%s:%s\n", inlets[mode], mode, next)
		master += fmt.Sprintf("by-%s unix - - n - - %s\n", mode, outlet)
	}
	conf := filepath.Join(dir, "conf")
	for name, text := range map[string]string{
		"main.cf":   strings.NewReplacer("DIR", dir, "AUTHORITY", s.ca, "SERVER", daemon.Hostname, "NAME", relayName).Replace(postfixMain),
		"master.cf": master,
	} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	postfix(t, "chown", "postfix", filepath.Join(dir, "data"))
	postfix(t, "postfix", "-c", conf, "start")
	t.Cleanup(func() { stopPostfix(t, dir) })
	for _, inlet := range inlets {
		daemon.Within(t, 30*time.Second, "Postfix answers", func() error { return banner(t.Context(), inlet) })
	}
	return func(t *testing.T, to target, m message, file string) error {
		return netSMTP(t, target{addr: inlets[to.mode], mode: clear, stage: to.stage}, m, file)
	}
}

// postfixMain is Debian's defaults in one directory. It rewrites nothing: lines
// are not folded at 998 octets (smtp_line_length_limit), and a message stays one
// however many recipients it has (default_destination_recipient_limit, by
// default 50 at a time).
const postfixMain = `compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = DIR
maillog_file = DIR/mail.log
myhostname = NAME
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
disable_dns_lookups = yes
message_size_limit = 60000000
smtpd_recipient_limit = 1000
default_destination_recipient_limit = 1000
smtp_line_length_limit = 0
lmtp_line_length_limit = 0
smtp_tls_CAfile = AUTHORITY
smtp_tls_verify_cert_match = SERVER
`

const postfixServices = `pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
smtp     unix - - n - - smtp
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
postlog  unix-dgram n - n - 1 postlogd
`

// postfixReceived takes away the one field that Postfix puts on top.
func postfixReceived(text []byte) ([]byte, error) {
	field, rest, found := bytes.Cut(text, []byte("\r\nX-Token: "))
	if !found || !bytes.HasPrefix(field, []byte("Received: ")) || bytes.Count(field, []byte("\r\n\tby "+relayName+" (Postfix) ")) != 1 ||
		bytes.Count(field, []byte("\r\n")) != bytes.Count(field, []byte("\r\n\t")) {
		return nil, fmt.Errorf("it is not Postfix's Received field that stands on top, but %.300q", text)
	}
	return append([]byte("X-Token: "), rest...), nil
}

func postfix(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// free is an address that nobody listens on: Postfix takes no port 0.
func free(t *testing.T) string {
	t.Helper()
	var conf net.ListenConfig
	l, err := conf.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func banner(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		return err
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// stopPostfix has the master end itself and its children, and waits until it is
// gone.
func stopPostfix(t *testing.T, dir string) {
	if t.Failed() {
		log, err := os.ReadFile(filepath.Join(dir, "mail.log"))
		t.Logf("Postfix said (%v):\n%s", err, log[max(0, len(log)-8<<10):])
	}
	text, err := os.ReadFile(filepath.Join(dir, "queue", "pid", "master.pid"))
	if err != nil {
		t.Error(err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Error(err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Errorf("postfix (%d): %v", pid, err)
	}
	late := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || bytes.Contains(status, []byte("State:\tZ")) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("postfix (%d) does not end", pid)
			return
		}
	}
}
