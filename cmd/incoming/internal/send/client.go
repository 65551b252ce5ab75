package send

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"time"
)

// client is one SMTP or LMTP connection. It waits for each reply before it goes on,
// so that a refusal is known to belong to its command.
type client struct {
	conn    net.Conn
	text    *textproto.Conn
	ext     map[string]string
	timeout time.Duration
	lmtp    bool
}

// dial connects, reads the banner, says hello and, as asked, begins TLS.
func dial(ctx context.Context, o *Options) (*client, error) {
	d := net.Dialer{Timeout: o.Timeout}
	network, address := "tcp", o.Server
	if path, is := strings.CutPrefix(o.Server, "unix:"); is {
		network, address = "unix", path
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &client{timeout: o.Timeout, lmtp: o.LMTP}
	if o.TLS == TLSImplicit {
		conn = tls.Client(conn, o.tlsConfig())
	}
	c.use(conn)
	if err := c.greet(ctx, o); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) use(conn net.Conn) {
	c.conn, c.text = conn, textproto.NewConn(conn)
}

func (c *client) greet(ctx context.Context, o *Options) error {
	c.arm()
	if _, _, err := c.reply(220); err != nil {
		return fmt.Errorf("banner: %w", err)
	}
	if err := c.hello(o); err != nil {
		return err
	}
	if o.TLS != TLSStart {
		return nil
	}
	if _, ok := c.ext["STARTTLS"]; !ok {
		return errors.New("it does not offer STARTTLS")
	}
	if _, err := c.cmd(220, "STARTTLS"); err != nil {
		return err
	}
	secure := tls.Client(c.conn, o.tlsConfig())
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("STARTTLS: %w", err)
	}
	c.use(secure)
	return c.hello(o)
}

func (c *client) hello(o *Options) error {
	name := o.Hello
	if name == "" {
		name = helloName(c.conn)
	}
	verb := "EHLO"
	if c.lmtp {
		verb = "LHLO"
	}
	text, err := c.cmd(250, "%s %s", verb, name)
	if err != nil {
		return err
	}
	c.ext = make(map[string]string)
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.ext[strings.ToUpper(word)] = rest
	}
	return nil
}

// helloName is our end of the connection as an address literal.
func helloName(conn net.Conn) string {
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		if a.IP.To4() != nil {
			return "[" + a.IP.String() + "]"
		}
		return "[IPv6:" + a.IP.String() + "]"
	}
	return "[127.0.0.1]"
}

// arm gives the next exchange its time.
func (c *client) arm() {
	if c.timeout > 0 {
		_ = c.conn.SetDeadline(time.Now().Add(c.timeout)) // fails only on a closed connection, which the next read tells
	}
}

// refusal is a reply that was not the one wanted.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// reply reads a reply, which is to be of want: a code, or its first digits.
func (c *client) reply(want int) (int, string, error) {
	code, text, err := c.text.ReadResponse(want)
	if _, is := err.(*textproto.Error); is {
		err = &refusal{code: code, text: text}
	}
	return code, text, err
}

func (c *client) cmd(want int, format string, args ...any) (string, error) {
	c.arm()
	if err := c.text.PrintfLine(format, args...); err != nil {
		return "", err
	}
	_, text, err := c.reply(want)
	return text, err
}

// message sends one message and returns the reply to its end, in LMTP the first
// that accepts it. refused is the recipients that were not accepted; when none was,
// that is the error.
func (c *client) message(from string, to []string, text []byte) (reply string, refused []error, err error) {
	if _, err := c.cmd(250, "MAIL FROM:<%s>%s", from, c.params(from, to, text)); err != nil {
		return "", nil, err
	}
	var accepted []string
	for _, rcpt := range to {
		_, err := c.cmd(25, "RCPT TO:<%s>", rcpt)
		if _, is := err.(*refusal); is {
			refused = append(refused, fmt.Errorf("%s: %w", rcpt, err))
		} else if err != nil {
			return "", refused, err
		} else {
			accepted = append(accepted, rcpt)
		}
	}
	if len(accepted) == 0 {
		err, refused = refused[0], refused[1:]
		return "", refused, err
	}
	if _, err := c.cmd(354, "DATA"); err != nil {
		return "", refused, err
	}
	w := c.text.DotWriter()
	for len(text) > 0 {
		c.arm()
		n := min(len(text), 64<<10)
		if _, err := w.Write(text[:n]); err != nil {
			return "", refused, err
		}
		text = text[n:]
	}
	c.arm()
	if err := w.Close(); err != nil {
		return "", refused, err
	}
	if c.lmtp {
		return c.receipts(accepted, refused)
	}
	code, reply, err := c.reply(250)
	return fmt.Sprintf("%d %s", code, reply), refused, err
}

// receipts reads the reply for each recipient (RFC 2033 §4.2).
func (c *client) receipts(accepted []string, refused []error) (receipt string, _ []error, err error) {
	var first error
	for _, rcpt := range accepted {
		c.arm()
		code, reply, err := c.reply(250)
		switch _, is := err.(*refusal); {
		case is && first == nil:
			first = fmt.Errorf("%s: %w", rcpt, err)
		case is:
			refused = append(refused, fmt.Errorf("%s: %w", rcpt, err))
		case err != nil:
			return "", refused, err
		case receipt == "":
			receipt = fmt.Sprintf("%d %s", code, reply)
		}
	}
	if receipt == "" {
		return "", refused, first
	}
	if first != nil {
		refused = append(refused, first)
	}
	return receipt, refused, nil
}

// params is the parameters of MAIL that the server offers and that are true.
func (c *client) params(from string, to []string, text []byte) string {
	p := ""
	if _, ok := c.ext["SIZE"]; ok {
		p += fmt.Sprintf(" SIZE=%d", len(text))
	}
	if _, ok := c.ext["8BITMIME"]; ok && !ascii(text) {
		p += " BODY=8BITMIME"
	}
	if _, ok := c.ext["SMTPUTF8"]; ok && !ascii([]byte(from+strings.Join(to, ""))) {
		p += " SMTPUTF8"
	}
	return p
}

func ascii(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }) < 0
}

// reset makes ready for the next message after a refusal.
func (c *client) reset() error {
	_, err := c.cmd(250, "RSET")
	return err
}

// quit says good-bye and closes; what the server says to it does not matter.
func (c *client) quit() {
	_, _ = c.cmd(221, "QUIT")
	c.close()
}

func (c *client) close() { c.conn.Close() }
