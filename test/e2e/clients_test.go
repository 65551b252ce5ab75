package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
)

// client is a program that sends mail.
type client struct {
	name string
	// needs is a program that must be installed; "" is our own.
	needs string
	// cannot tells the messages, by name, that this client has no way to send.
	cannot []string
	send   func(t *testing.T, d *daemon.Daemon, m message, file string) error
}

func clients(bin string) []client {
	return []client{
		{name: "incoming send", send: func(t *testing.T, d *daemon.Daemon, m message, file string) error {
			args := []string{"send", "--server", d.Addr, "--from", orNull(m.from)}
			for _, to := range m.to {
				args = append(args, "--to", to)
			}
			return command(t, bin, append(args, file)...)
		}},
		{name: "swaks", needs: "swaks", cannot: []string{"UTF-8 addresses"}, send: swaks},
		{name: "curl", needs: "curl", send: curl},
		{name: "smtplib", needs: "python3", send: smtplib},
		{name: "BDAT", send: func(t *testing.T, d *daemon.Daemon, m message, _ string) error { return bdat(t.Context(), d.Addr, m) }},
	}
}

// available skips a client that is not installed; a run in CI has them all.
func (c client) available(t *testing.T) {
	t.Helper()
	if c.needs == "" {
		return
	}
	if _, err := exec.LookPath(c.needs); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", c.needs)
	}
	t.Skipf("%s is not installed", c.needs)
}

// arrives is the text that arrives when this client sends m: DATA has no way to send
// a last line without an end, so that clients end it.
func (c client) arrives(m message) []byte {
	if c.name == "BDAT" || bytes.HasSuffix(m.text, []byte("\r\n")) {
		return m.text
	}
	return append(slices.Clone(m.text), "\r\n"...)
}

func orNull(address string) string {
	if address == "" {
		return "<>"
	}
	return address
}

// command runs a client, at most two minutes.
func command(t *testing.T, program string, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%.4000s", filepath.Base(program), err, out)
	}
	return nil
}

// swaks ends what it is given with a line end, also when there is one: it is
// given a file without its last.
func swaks(t *testing.T, d *daemon.Daemon, m message, file string) error {
	if err := os.WriteFile(file, bytes.TrimSuffix(m.text, []byte("\r\n")), 0o600); err != nil {
		return err
	}
	return command(t, "swaks", "--server", d.Addr, "--helo", "client.example.net", "--from", orNull(m.from),
		"--to", strings.Join(m.to, ","), "--data", "@"+file, "--hide-all")
}

func curl(t *testing.T, d *daemon.Daemon, m message, file string) error {
	args := []string{"--silent", "--show-error", "--url", "smtp://" + d.Addr + "/client.example.net",
		"--mail-from", orNull(m.from), "--upload-file", file}
	for _, to := range m.to {
		args = append(args, "--mail-rcpt", to)
	}
	return command(t, "curl", args...)
}

const smtplibScript = `
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
sender, utf8, file, rcpts = sys.argv[2], sys.argv[3] == "true", sys.argv[4], sys.argv[5:]
with open(file, "rb") as f:
    text = f.read()
with smtplib.SMTP(host, int(port), local_hostname="client.example.net", timeout=60) as s:
    s.ehlo()
    options = ["BODY=8BITMIME"] + (["SMTPUTF8"] if utf8 else [])
    refused = s.sendmail(sender, rcpts, text, mail_options=options)
    if refused:
        sys.exit("refused: %r" % refused)
`

func smtplib(t *testing.T, d *daemon.Daemon, m message, file string) error {
	return command(t, "python3", append([]string{"-c", smtplibScript, d.Addr, m.from, fmt.Sprint(m.utf8), file}, m.to...)...)
}

// bdat speaks CHUNKING (RFC 3030), which none of the programs do: the text in
// three chunks, all of the transaction in one go (RFC 2920).
func bdat(ctx context.Context, addr string, m message) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return errors.Join(err, nc.Close())
	}
	c := textproto.NewConn(nc)
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	if err := c.PrintfLine("EHLO client.example.net"); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(250); err != nil {
		return err
	}
	if err := writeBDAT(c, m); err != nil {
		return err
	}
	for range 1 + len(m.to) + 3 {
		if _, _, err := c.ReadResponse(250); err != nil {
			return err
		}
	}
	if err := c.PrintfLine("QUIT"); err != nil {
		return err
	}
	_, _, err = c.ReadResponse(221)
	return err
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
