package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"time"
)

// Client is one connection. An error that is a *textproto.Error is a reply that
// was not the one wanted; every other is the connection's.
type Client struct {
	*textproto.Conn
	nc net.Conn
}

// Limit is how long one step of a client may take: longer than any server needs.
const Limit = 2 * time.Minute

// Connect dials, and waits for no banner.
func Connect(ctx context.Context, addr string) (*Client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Client{textproto.NewConn(nc), nc}, nil
}

// TLS makes the connection one of TLS, at once.
func (c *Client) TLS(ctx context.Context, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	secure := tls.Client(c.nc, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn = textproto.NewConn(secure)
	return nil
}

// BreakTLS begins a handshake, sends so many octets of it, and no more.
func (c *Client) BreakTLS(ctx context.Context, conf *tls.Config, octets int) error {
	whole := c.nc
	c.nc = &cut{Conn: whole, left: octets}
	err := c.TLS(ctx, conf)
	c.nc = whole
	if errors.Is(err, errCut) {
		return nil
	}
	return err
}

// Banner reads it.
func (c *Client) Banner() error { return c.reply(220) }

// Hello says EHLO.
func (c *Client) Hello() error { return c.say(250, "EHLO client.example.net") }

// StartTLS says so and reads the reply. TLS and another hello must follow.
func (c *Client) StartTLS() error { return c.say(220, "STARTTLS") }

// Mail begins a transaction.
func (c *Client) Mail(m Message) error {
	return c.say(250, "MAIL FROM:<%s> SIZE=%d BODY=8BITMIME", From, m.Size)
}

// Rcpt names the recipient.
func (c *Client) Rcpt() error { return c.say(250, "RCPT TO:<%s>", To) }

// Data says DATA and sends the first octets of the text; all of it with the dot
// that ends it, or a part without.
func (c *Client) Data(m Message, octets int) error {
	if err := c.say(354, "DATA"); err != nil {
		return err
	}
	if err := c.bound(); err != nil {
		return err
	}
	w := c.DotWriter()
	if _, err := io.CopyN(w, m.Text(), int64(octets)); err != nil {
		return err
	}
	if octets < m.Size {
		return c.W.Flush()
	}
	return w.Close()
}

// Chunks sends the text by BDAT in chunks of the given size, and the first octets
// of it only, so that the last chunk may break off. It reads the replies
// to all chunks but the last.
func (c *Client) Chunks(m Message, size, octets int) error {
	text := io.LimitReader(m.Text(), int64(octets))
	for at := 0; ; at += size {
		chunk, last := size, ""
		if at+size >= m.Size {
			chunk, last = m.Size-at, " LAST"
		}
		if err := c.bound(); err != nil {
			return err
		}
		fmt.Fprintf(c.W, "BDAT %d%s\r\n", chunk, last)
		n, err := io.CopyN(c.W, text, int64(chunk))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := c.W.Flush(); err != nil || last != "" || n < int64(chunk) {
			return err
		}
		if err := c.reply(250); err != nil {
			return err
		}
	}
}

// Verdict reads the reply to the end of the text.
func (c *Client) Verdict() error { return c.reply(250) }

// Send is a whole transaction, with BDAT if chunk is not 0.
func (c *Client) Send(m Message, chunk int) error {
	err := c.Mail(m)
	if err == nil {
		err = c.Rcpt()
	}
	switch {
	case err != nil:
	case chunk > 0:
		err = c.Chunks(m, chunk, m.Size)
	default:
		err = c.Data(m, m.Size)
	}
	if err != nil {
		return err
	}
	return c.Verdict()
}

// Quit takes leave and closes the connection.
func (c *Client) Quit() error { return errors.Join(c.say(221, "QUIT"), c.Close()) }

// Reset closes the connection as a peer does that crashes: with an RST, and
// without the end of TLS.
func (c *Client) Reset() error {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return errors.Join(err, tcp.Close())
		}
	}
	return c.nc.Close()
}

func (c *Client) say(code int, format string, args ...any) error {
	if err := c.bound(); err != nil {
		return err
	}
	if err := c.PrintfLine(format, args...); err != nil {
		return err
	}
	return c.reply(code)
}

func (c *Client) reply(code int) error {
	if err := c.bound(); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(code)
	return err
}

func (c *Client) bound() error { return c.nc.SetDeadline(time.Now().Add(Limit)) }

// cut lets so many octets out.
type cut struct {
	net.Conn
	left int
}

var errCut = errors.New("cut off")

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), c.left)])
	c.left -= n
	if err == nil && n < len(p) {
		err = errCut
	}
	return n, err
}
