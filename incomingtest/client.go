package incomingtest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Client is a client that says what it is told to. A reply that is not expected
// fails the test, with the dialogue so far. It is for one goroutine, the test's.
type Client struct {
	t    testing.TB
	nc   net.Conn
	in   *bufio.Reader
	said strings.Builder // the dialogue
}

// Dial connects to a server. It waits for no banner: expect it.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, Wait)
	if err != nil {
		t.Fatalf("incomingtest: %v", err)
	}
	return NewClient(t, nc)
}

// DialTLS connects to a listener that does TLS from the first octet.
func DialTLS(t testing.TB, addr string, conf *tls.Config) *Client {
	t.Helper()
	c := Dial(t, addr)
	c.Handshake(conf)
	return c
}

// NewClient is a client over a connection that there is. It closes it with the
// test.
func NewClient(t testing.TB, nc net.Conn) *Client {
	c := &Client{t: t, nc: nc, in: bufio.NewReader(nc)}
	t.Cleanup(c.Close)
	return c
}

// Send sends a line.
func (c *Client) Send(line string) *Client {
	c.t.Helper()
	return c.Write(line + "\r\n")
}

// Write sends octets as they are.
func (c *Client) Write(octets string) *Client {
	c.t.Helper()
	fmt.Fprintf(&c.said, "C: %.200q\n", octets)
	c.bound()
	if _, err := io.WriteString(c.nc, octets); err != nil {
		c.fail("write: %v", err)
	}
	return c
}

// Text sends a message's text and the end of data, leading dots doubled. A last
// line without its end gets one.
func (c *Client) Text(text string) *Client {
	c.t.Helper()
	var b strings.Builder
	for line := range strings.SplitAfterSeq(text, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	if text != "" && !strings.HasSuffix(text, "\r\n") {
		b.WriteString("\r\n")
	}
	return c.Write(b.String() + ".\r\n")
}

// Expect reads one reply, of one line or several, and fails the test when it
// does not begin with want, such as "250" or "550 5.7.1". It returns the reply's
// text: what follows the codes that want names; the lines of a longer reply
// joined by "\n", each with its code.
func (c *Client) Expect(want string) string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.line()
		if err != nil {
			c.fail("wanted a reply %q: %v", want, err)
		}
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	if len(lines) > 1 {
		reply := strings.Join(lines, "\n")
		if !strings.HasPrefix(reply, want) {
			c.fail("wanted a reply %q", want)
		}
		return reply
	}
	text, ok := strings.CutPrefix(lines[0], want)
	if !ok {
		c.fail("wanted a reply %q", want)
	}
	return strings.TrimPrefix(text, " ")
}

// ExpectClosed fails the test unless the server closes the connection without
// another octet. It then closes our end.
func (c *Client) ExpectClosed() {
	c.t.Helper()
	line, err := c.line()
	if err == nil || line != "" {
		c.fail("wanted the end of the connection")
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.fail("wanted the end of the connection: %v", err)
	}
	c.Close()
}

// Play plays a dialogue, a step a line: "C: " is sent with a line end, "S: " is
// a reply to expect. White space around a line does not count, empty lines do
// nothing.
func (c *Client) Play(dialogue string) {
	c.t.Helper()
	for line := range strings.Lines(dialogue) {
		switch line = strings.TrimSpace(line); {
		case line == "":
		case line == "C:" || strings.HasPrefix(line, "C: "):
			c.Send(strings.TrimPrefix(line[2:], " "))
		case strings.HasPrefix(line, "S: "):
			c.Expect(line[3:])
		default:
			c.t.Fatalf("incomingtest: a step is neither C: nor S: : %q", line)
		}
	}
}

// StartTLS says STARTTLS and shakes hands.
func (c *Client) StartTLS(conf *tls.Config) {
	c.t.Helper()
	c.Send("STARTTLS").Expect("220")
	c.Handshake(conf)
}

// Handshake shakes hands without a word before, as DialTLS does: for what comes
// before TLS, such as a balancer's header.
func (c *Client) Handshake(conf *tls.Config) {
	c.t.Helper()
	t := tls.Client(c.nc, conf)
	c.bound()
	if err := t.HandshakeContext(c.t.Context()); err != nil {
		c.fail("handshake: %v", err)
	}
	c.nc, c.in = t, bufio.NewReader(t)
	c.said.WriteString("   (TLS)\n")
}

// TLS is the state of the TLS connection; zero in clear.
func (c *Client) TLS() tls.ConnectionState {
	if t, ok := c.nc.(*tls.Conn); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}

// Transcript is the dialogue so far, a step a line, each quoted and cut to 200 octets.
func (c *Client) Transcript() string { return c.said.String() }

// Reset ends the connection as a crash does: what is in flight is lost.
func (c *Client) Reset() {
	if t, ok := c.nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a connection that is gone already is reset
	}
	c.Close()
}

// Close closes the connection. A second Close does nothing.
func (c *Client) Close() {
	_ = c.nc.Close() // it is over either way
}

func (c *Client) line() (string, error) {
	c.bound()
	line, err := c.in.ReadString('\n')
	if line != "" {
		fmt.Fprintf(&c.said, "S: %.200q\n", line)
	}
	if err != nil {
		return line, err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// bound makes sure that no step waits for ever.
func (c *Client) bound() {
	_ = c.nc.SetDeadline(time.Now().Add(Wait)) // a closed connection shows at the step itself
}

func (c *Client) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("incomingtest: %s\nThe dialogue was:\n%s", fmt.Sprintf(format, args...), c.said.String())
}
