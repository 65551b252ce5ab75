package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// breakTLS is the ways in which a TLS stream can end or be broken. Each gets the
// client's end and the socket under it, and leaves commands in clear behind.
var breakTLS = map[string]func(*tls.Conn, *net.TCPConn) error{
	"close_notify, then clear text": func(c *tls.Conn, nc *net.TCPConn) error {
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if err := nc.SetWriteDeadline(time.Time{}); err != nil { // CloseWrite has set one
			return err
		}
		return inClear(nc, "")
	},
	"clear text": func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "") },
	"a record that does not decipher": func(_ *tls.Conn, nc *net.TCPConn) error {
		return inClear(nc, "\x17\x03\x03\x00\x20"+strings.Repeat("x", 32))
	},
	"a record too long":             func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "\x17\x03\x03\xff\xff") },
	"an empty record":               func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "\x17\x03\x03\x00\x00") },
	"a record of another version":   func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "\x17\x02\x00\x00\x01x") },
	"an alert in clear":             func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "\x15\x03\x03\x00\x02\x02\x28") },
	"a second ClientHello in clear": func(_ *tls.Conn, nc *net.TCPConn) error { return inClear(nc, "\x16\x03\x01\x00\x04\x01\x00\x00\x00") },
	"half a record, then the end": func(_ *tls.Conn, nc *net.TCPConn) error {
		if _, err := io.WriteString(nc, "\x17\x03\x03\x00\x20xx"); err != nil {
			return err
		}
		return nc.CloseWrite()
	},
	"the end without close_notify": func(_ *tls.Conn, nc *net.TCPConn) error { return nc.CloseWrite() },
	"a reset": func(_ *tls.Conn, nc *net.TCPConn) error {
		if err := nc.SetLinger(0); err != nil {
			return err
		}
		return nc.Close()
	},
}

// inClear writes octets, and commands that an engine which went on in clear would
// obey.
func inClear(nc net.Conn, octets string) error {
	_, err := io.WriteString(nc, octets+"\r\n.\r\nRSET\r\n"+evil+"RCPT TO:<b@y.example>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n")
	return err
}

// TestABrokenTLSStreamEndsTheConnection: B14, E16, E17, T08. However a TLS stream
// ends or breaks, wherever the dialogue stands, it is the end of the connection:
// nothing in clear is read as a command or as text, what was begun is not stored,
// and nothing is said in clear.
func TestABrokenTLSStreamEndsTheConnection(t *testing.T) {
	t.Parallel()
	dialogues := map[string][]string{ // each ends before its last reply
		"idle":           {"EHLO c.example\r\n"},
		"in MAIL":        {"EHLO c.example\r\n", "MAIL FROM:<a@x.example>\r\n"},
		"in DATA":        {"EHLO c.example\r\n", "MAIL FROM:<a@x.example>\r\n", "RCPT TO:<b@y.example>\r\n", "DATA\r\n"},
		"in a chunk":     {"EHLO c.example\r\n", "MAIL FROM:<a@x.example>\r\n", "RCPT TO:<b@y.example>\r\n"},
		"between chunks": {"EHLO c.example\r\n", "MAIL FROM:<a@x.example>\r\n", "RCPT TO:<b@y.example>\r\n", "BDAT 1\r\na"},
	}
	more := map[string]string{"in DATA": "text\r\n", "in a chunk": "BDAT 2000\r\ntext"}
	var open atomic.Bool // one connection is still served: the others need not be waited for
	for how, broken := range breakTLS {
		for where, commands := range dialogues {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(fmt.Sprintf("%s, %s, %s", how, where, tls.VersionName(version)), func(t *testing.T) {
					t.Parallel()
					if open.Load() {
						t.Skip("another connection is still served after its TLS stream has broken")
					}
					s := &fake{}
					var end Closing
					nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t), OnClosed: func(_ *Conn, c Closing) { end = c }}, s)
					d := talk(t, nc)
					d.want("220")
					client := startTLS(t, d, &tls.Config{MaxVersion: version})
					d = talk(t, client)
					for _, command := range commands {
						d.send(command)
						d.lastReply()
					}
					if text := more[where]; text != "" {
						d.send(text)
					}
					if err := broken(client, nc); err != nil {
						t.Fatal(err)
					}
					said, over := toTheEnd(nc)
					if !over {
						open.Store(true)
						t.Errorf("the TLS stream has broken, and %v later the connection is still served; it said %q", untilOver, said)
						_ = nc.Close() // so that it ends
					}
					<-served
					if i := firstInClear(said); i >= 0 {
						t.Errorf("said in clear: %q", said[i:])
					}
					log, faults := s.saw()
					if slices.ContainsFunc(log, func(l string) bool { return strings.HasPrefix(l, "message") || strings.Contains(l, "evil") }) || len(faults) > 0 {
						t.Errorf("saw %q, %q", log, faults)
					}
					if (where == "in DATA" || where == "in a chunk") && log[len(log)-1] != "abort" {
						t.Errorf("saw %q", log)
					}
					if !slices.Contains([]string{"eof", "eof_in_data", "reset", "tls", "write"}, end.Reason) || end.Messages != 0 {
						t.Errorf("ended by %q, %v, with %d messages", end.Reason, end.Err, end.Messages)
					}
				})
			}
		}
	}
}

// untilOver is how long a connection may take to its end.
const untilOver = 5 * time.Second

// toTheEnd is what is said until the connection ends, be it by a reset; false when
// it does not.
func toTheEnd(nc net.Conn) (said []byte, over bool) {
	_ = nc.SetReadDeadline(time.Now().Add(untilOver)) // fails only where the test has closed it
	said, err := io.ReadAll(nc)
	return said, !errors.Is(err, os.ErrDeadlineExceeded)
}

// lastReply reads a reply, whatever it is.
func (d *dialog) lastReply() {
	d.t.Helper()
	for {
		line, err := d.lines.ReadString('\n')
		if err != nil {
			d.t.Fatal(err)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// firstInClear is where octets begin that are no TLS record; -1: nowhere.
func firstInClear(b []byte) int {
	for at := 0; at < len(b); {
		if len(b)-at < recordHeader || b[at] < 0x14 || b[at] > 0x17 || b[at+1] != 3 {
			return at
		}
		at += recordHeader + int(b[at+3])<<8 + int(b[at+4])
	}
	return -1
}

// TestAClientHelloBehindStartTLSIsRefused: T01. A client that does not wait for the
// 220 is told so, whatever it sends: its octets were read in clear.
func TestAClientHelloBehindStartTLSIsRefused(t *testing.T) {
	t.Parallel()
	s := &fake{}
	nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t)}, s)
	d := talk(t, nc)
	d.want("220")
	d.ask("STARTTLS\r\n\x16\x03\x01\x00\x04\x01\x00\x00\x00", "554 5.5.1 Nothing may follow STARTTLS")
	if line, err := d.lines.ReadString('\n'); err != io.EOF {
		t.Errorf("%q, %v", line, err)
	}
	_ = nc.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if log, faults := s.saw(); len(log) > 0 || len(faults) > 0 {
		t.Errorf("saw %q, %q", log, faults)
	}
}
