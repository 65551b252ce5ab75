package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// client is one connection of this program's own client, after EHLO.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

// dial connects, and secures the connection by STARTTLS when asked to.
func dial(ctx context.Context, addr string, secure bool) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	if err := c.greet(ctx, secure); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *client) greet(ctx context.Context, secure bool) error {
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	c.reads(c.conn)
	if err := c.reply("220"); err != nil {
		return err
	}
	if err := c.command("EHLO client.example.org", "250"); err != nil {
		return err
	}
	if secure {
		if err := c.command("STARTTLS", "220"); err != nil {
			return err
		}
		// What is measured is the work of the cipher, not who the server is.
		t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, ServerName: "bench.example.org"})
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		c.conn = t
		c.reads(t)
		if err := c.command("EHLO client.example.org", "250"); err != nil {
			return err
		}
	}
	return c.conn.SetDeadline(time.Time{})
}

// reads takes replies from r from now on. The buffer is small, for there may be
// thousands of them.
func (c *client) reads(r io.Reader) { c.r = bufio.NewReaderSize(r, 512) }

// command sends one and wants a reply with a code.
func (c *client) command(line, code string) error {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return err
	}
	return c.reply(code)
}

// reply reads one reply, of any number of lines, and wants its code.
func (c *client) reply(code string) error {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("wanted %s, got %q", code, line)
		}
		if len(line) < 4 || line[3] != '-' {
			return nil
		}
	}
}

// send has one message taken, whose text is with its final dot.
func (c *client) send(text []byte) error {
	if err := c.begin(); err != nil {
		return err
	}
	if _, err := c.conn.Write(text); err != nil {
		return err
	}
	return c.reply("250")
}

const (
	mailFrom = "MAIL FROM:<sender@example.org>"
	rcptTo   = "RCPT TO:<rcpt@example.org>"
)

// begin comes as far as the 354, and waits for each reply.
func (c *client) begin() error {
	if err := c.command(mailFrom, "250"); err != nil {
		return err
	}
	if err := c.command(rcptTo, "250"); err != nil {
		return err
	}
	return c.command("DATA", "354")
}

// beginAtOnce is begin by PIPELINING (RFC 2920): one write, then the replies. All the
// servers here read what waits, though smtpd does not offer it.
func (c *client) beginAtOnce() error {
	if _, err := io.WriteString(c.conn, mailFrom+"\r\n"+rcptTo+"\r\nDATA\r\n"); err != nil {
		return err
	}
	for _, code := range []string{"250", "250", "354"} {
		if err := c.reply(code); err != nil {
			return err
		}
	}
	return nil
}

// dialAll connects n clients, one after the other. What it returns is to be hung
// up also after an error.
func dialAll(ctx context.Context, addr string, n int, secure bool) ([]*client, error) {
	clients := make([]*client, 0, n)
	for range n {
		c, err := dial(ctx, addr, secure)
		if err != nil {
			return clients, fmt.Errorf("connection %d: %w", len(clients)+1, err)
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// hangUp closes without QUIT, as a client may at any time; what Close says then
// is of no use to anybody.
func hangUp(clients []*client) {
	for _, c := range clients {
		_ = c.conn.Close()
	}
}

// message is a message's text of about size octets, made of short lines, without
// the final dot.
func message(size int) []byte {
	text := []byte("From: <sender@example.org>\r\nTo: <rcpt@example.org>\r\nSubject: bench\r\n\r\n")
	line := append(bytes.Repeat([]byte("X"), 78), "\r\n"...)
	for len(text) < size {
		text = append(text, line...)
	}
	return text
}
