package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// client is a program or a library that sends mail.
type client struct {
	name  string
	needs []string // programs that must be installed
	ways  []security
	// ready makes it fit to send, once.
	ready func(t *testing.T, s *stage) sender
	// cannot tells by kind what it has no way to send, and why: it is tried, and
	// refused by what stands there in front.
	cannot map[string]string
	// onTop takes away the fields that it puts on top of a message.
	onTop func(text []byte) ([]byte, error)
	// chunks says that it speaks BDAT, by which a last line need not end.
	chunks bool
}

// sender sends m, whose text is in file as well.
type sender func(t *testing.T, to target, m message, file string) error

func at(send sender) func(*testing.T, *stage) sender {
	return func(*testing.T, *stage) sender { return send }
}

func clients() []client {
	return append([]client{
		{name: "swaks", ways: ways, needs: []string{"swaks"}, ready: at(swaks), cannot: swaksCannot},
		{name: "curl", ways: ways, needs: []string{"curl"}, ready: at(curl)},
		// By its manual msmtp adds Message-ID, Date and From where they are
		// missing, and takes out Bcc: no message here gives it a reason to.
		{name: "msmtp", ways: ways, needs: []string{"msmtp"}, ready: at(msmtp), cannot: msmtpCannot},
		// RFC 5321 §4.4: a relay puts a Received field on top.
		{name: "Postfix", ways: ways, needs: []string{"postfix"}, ready: relay, onTop: postfixReceived},
		{name: "smtplib", ways: ways, needs: []string{"python3"}, ready: at(smtplib)},
		{name: "nodemailer", ways: ways, needs: []string{"node", "npm"}, ready: nodemailer},
		{name: "net/smtp", ways: ways, ready: at(netSMTP)},
		{name: "incoming send", ways: ways, ready: at(ours)},
		{name: "BDAT", ways: ways, ready: at(bdat), chunks: true},
	}, localClients()...)
}

// localClients is those that speak LMTP.
func localClients() []client {
	return []client{
		{name: "swaks LMTP", ways: local, needs: []string{"swaks"}, ready: at(swaks), cannot: swaksCannot},
		{name: "Postfix LMTP", ways: local, needs: []string{"postfix"}, ready: relay, onTop: postfixReceived},
		{name: "smtplib LMTP", ways: local, needs: []string{"python3"}, ready: at(smtplib)},
		{name: "incoming LMTP", ways: local, ready: at(ours)},
	}
}

var swaksCannot = map[string]string{"UTF-8": "550 5.6.7: swaks has no SMTPUTF8, it sends the address without asking"}
var msmtpCannot = map[string]string{"UTF-8": "550 5.6.7: msmtp has no SMTPUTF8, it sends the address without asking"}

// missing is the first program it needs that is not installed.
func (c client) missing() string {
	for _, program := range c.needs {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

func orNull(address string) string {
	if address == "" {
		return "<>"
	}
	return address
}

// command runs a client, at most three minutes.
func command(t *testing.T, stdin []byte, program string, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+t.TempDir()) // nobody's settings
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%.2000s", filepath.Base(program), err, out)
	}
	return nil
}

// swaks ends what it is given with a line end, also when there is one: it is
// given a file without its last.
func swaks(t *testing.T, to target, m message, file string) error {
	if err := os.WriteFile(file, bytes.TrimSuffix(m.text, []byte("\r\n")), 0o600); err != nil {
		return err
	}
	args := []string{"--helo", "client.example.net", "--from", orNull(m.from),
		"--to", strings.Join(m.to, ","), "--data", "@" + file, "--suppress-data"}
	switch to.mode {
	case starttls:
		args = append(args, "--tls", "--tls-verify", "--tls-ca-path", to.ca)
	case implicit:
		args = append(args, "--tls-on-connect", "--tls-verify", "--tls-ca-path", to.ca)
	}
	if to.mode.local() {
		args = append(args, "--protocol", "LMTP")
	}
	if to.mode == lmtpUnix {
		args = append(args, "--socket", to.addr)
	} else {
		args = append(args, "--server", to.addr)
	}
	return command(t, nil, "swaks", args...)
}

func curl(t *testing.T, to target, m message, file string) error {
	scheme := map[security]string{clear: "smtp", starttls: "smtp", implicit: "smtps"}[to.mode]
	args := []string{"--silent", "--show-error", "--url", scheme + "://" + to.addr + "/client.example.net",
		"--mail-from", orNull(m.from), "--upload-file", file, "--cacert", to.ca}
	if to.mode == starttls {
		args = append(args, "--ssl-reqd")
	}
	for _, rcpt := range m.to {
		args = append(args, "--mail-rcpt", rcpt)
	}
	return command(t, nil, "curl", args...)
}

// msmtp takes a message as sendmail does, with lines of this system.
func msmtp(t *testing.T, to target, m message, _ string) error {
	host, port := to.host()
	args := []string{"--host=" + host, "--port=" + strconv.Itoa(port), "--domain=client.example.net", "--from=" + orNull(m.from)}
	if to.mode != clear {
		args = append(args, "--tls=on", "--tls-trust-file="+to.ca, "--tls-host-override="+daemon.Hostname)
	}
	if to.mode == implicit {
		args = append(args, "--tls-starttls=off")
	}
	return command(t, bytes.ReplaceAll(m.text, []byte("\r\n"), []byte("\n")), "msmtp", append(append(args, "--"), m.to...)...)
}

// job is what the scripts are told.
type job struct {
	Host       string   `json:"host"`
	Port       int      `json:"port"`
	TLS        security `json:"tls"`
	CA         string   `json:"ca"`
	ServerName string   `json:"servername"`
	From       string   `json:"from"`
	To         []string `json:"to"`
	UTF8       bool     `json:"utf8"`
	File       string   `json:"file"`
}

func script(t *testing.T, to target, m message, file, program string, args ...string) error {
	t.Helper()
	j := job{TLS: to.mode, CA: to.ca, ServerName: daemon.Hostname, From: m.from, To: m.to, UTF8: m.utf8, File: file}
	if to.mode == lmtpUnix {
		j.Host = to.addr
	} else {
		j.Host, j.Port = to.host()
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return command(t, text, program, args...)
}

func smtplib(t *testing.T, to target, m message, file string) error {
	return script(t, to, m, file, "python3", filepath.Join("smtplib", "send.py"))
}

// nodemailer is brought by npm, in the version that is pinned, to a directory
// beside the script.
func nodemailer(t *testing.T, _ *stage) sender {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "send.js"} {
		text, err := os.ReadFile(filepath.Join("nodemailer", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		absent(t, fmt.Sprintf("npm does not bring nodemailer: %v\n%s", err, out))
	}
	return func(t *testing.T, to target, m message, file string) error {
		return script(t, to, m, file, "node", filepath.Join(dir, "send.js"))
	}
}

// ours is the daemon's own tool.
func ours(t *testing.T, to target, m message, file string) error {
	server := to.addr
	if to.mode == lmtpUnix {
		server = "unix:" + server
	}
	args := []string{"send", "--server", server, "--from", orNull(m.from)}
	switch {
	case to.mode.local():
		args = append(args, "--lmtp")
	case to.mode.encrypted():
		args = append(args, "--tls", string(to.mode), "--insecure")
	}
	for _, rcpt := range m.to {
		args = append(args, "--to", rcpt)
	}
	return command(t, nil, to.site.Bin, append(args, file)...)
}

// netSMTP is Go's net/smtp, which asks for BODY=8BITMIME and SMTPUTF8 wherever
// they are offered.
func netSMTP(t *testing.T, to target, m message, _ string) error {
	d := net.Dialer{LocalAddr: to.from}
	nc, err := d.DialContext(t.Context(), "tcp", to.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if to.mode == implicit {
		nc = tls.Client(nc, to.tls)
	}
	c, err := smtp.NewClient(nc, daemon.Hostname)
	if err != nil {
		return err
	}
	if err := c.Hello("client.example.net"); err != nil {
		return err
	}
	if to.mode == starttls {
		if err := c.StartTLS(to.tls); err != nil {
			return err
		}
	}
	if err := c.Mail(m.from); err != nil {
		return err
	}
	for _, rcpt := range m.to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// bdat speaks CHUNKING (RFC 3030), which none of the programs do: the text in
// three chunks, all of the transaction in one go (RFC 2920).
func bdat(t *testing.T, to target, m message, _ string) error {
	var d net.Dialer
	nc, err := d.DialContext(t.Context(), "tcp", to.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if to.mode == implicit {
		nc = tls.Client(nc, to.tls)
	}
	c := textproto.NewConn(nc)
	ask := func(code int, format string, args ...any) error {
		if err := c.PrintfLine(format, args...); err != nil {
			return err
		}
		_, _, err := c.ReadResponse(code)
		return err
	}
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	if err := ask(250, "EHLO client.example.net"); err != nil {
		return err
	}
	if to.mode == starttls {
		if err := ask(220, "STARTTLS"); err != nil {
			return err
		}
		c = textproto.NewConn(tls.Client(nc, to.tls))
		if err := ask(250, "EHLO client.example.net"); err != nil {
			return err
		}
	}
	// The replies are read meanwhile: neither side waits for the other.
	replies := make(chan error, 1)
	go func() {
		for range 1 + len(m.to) + 3 {
			if _, _, err := c.ReadResponse(250); err != nil {
				replies <- err
				return
			}
		}
		replies <- nil
	}()
	err = writeBDAT(c, m)
	if err := errors.Join(err, <-replies); err != nil {
		return err
	}
	return ask(221, "QUIT")
}

func writeBDAT(c *textproto.Conn, m message) error {
	utf8 := ""
	if m.utf8 {
		utf8 = " SMTPUTF8"
	}
	fmt.Fprintf(c.W, "MAIL FROM:<%s> BODY=8BITMIME%s\r\n", m.from, utf8)
	for _, to := range m.to {
		fmt.Fprintf(c.W, "RCPT TO:<%s>\r\n", to)
	}
	third := len(m.text) / 3
	fmt.Fprintf(c.W, "BDAT %d\r\n%s", third, m.text[:third])
	fmt.Fprintf(c.W, "BDAT %d\r\n%s", third, m.text[third:2*third])
	fmt.Fprintf(c.W, "BDAT %d LAST\r\n%s", len(m.text)-2*third, m.text[2*third:])
	return c.W.Flush() // says the first error of them all
}
