package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// writeTimeout is how long the other server may take for a piece of text (RFC 5321
// §4.5.3.2.5).
const writeTimeout = 3 * time.Minute

var errTooMuch = errors.New("the other server says more than any reply needs")

// wire is a connection that bounds what the other server may say, and how long it
// may take for what it is told.
type wire struct {
	net.Conn
	before []byte // read before anything of the connection
	left   int64  // octets that may still be read
}

// allow lets n octets be read from now on.
func (w *wire) allow(n int64) { w.left = n }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.before) > 0 {
		n := copy(p, w.before)
		w.before = w.before[n:]
		return n, nil
	}
	if w.left <= 0 {
		return 0, errTooMuch
	}
	n, err := w.Conn.Read(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// endWith closes the connection when ctx ends, until stop is called.
func (w *wire) endWith(ctx context.Context) (stop func() bool) {
	nc := w.Conn // under TLS too: closing must not wait for a write in hand
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	return context.AfterFunc(ctx, func() { _ = nc.Close() }) // the error shows at what it breaks off
}

// handshake goes on in TLS.
func (w *wire) handshake(ctx context.Context, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t := tls.Client(w.Conn, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	w.Conn = t
	return nil
}

// startTLS is from the banner to the handshake, where STARTTLS is offered (RFC 3207).
// The client that takes over behind it waits for a banner, which then is one that
// was read before, or ours.
func (a *Adapter) startTLS(ctx context.Context, w *wire) error {
	if err := w.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	in := bufio.NewReader(w)
	// The reply is only looked at: the client says hello again.
	ask := func(line string, want int) (string, error) {
		if line != "" {
			if _, err := io.WriteString(w, line+"\r\n"); err != nil {
				return "", err
			}
		}
		_, text, err := textproto.NewReader(in).ReadResponse(want)
		return text, err
	}
	if _, err := ask("", 220); err != nil {
		return mended("banner", err)
	}
	verb := "EHLO "
	if a.lmtp {
		verb = "LHLO "
	}
	offers, err := ask(verb+a.hello, 250)
	offered := err == nil && offersStartTLS(offers)
	switch {
	case !offered && a.tls == TLSRequired:
		return fmt.Errorf("STARTTLS is not offered, and TLS is required: say implicit or optional if that is meant%s", because(err))
	case offered:
		if _, err := ask("STARTTLS", 220); err != nil {
			return mended("STARTTLS", err)
		}
		if in.Buffered() > 0 {
			return errors.New("STARTTLS: text in clear behind the reply, which may be another's") // CVE-2011-0411
		}
		if err := w.handshake(ctx, a.tlsConfig); err != nil {
			return err
		}
	case err != nil:
		var reply *textproto.Error
		if !errors.As(err, &reply) {
			return mended("hello", err)
		}
	}
	rest, err := in.Peek(in.Buffered())
	if err != nil {
		return err
	}
	w.before = append(fmt.Appendf(nil, "%d go on\r\n", 220), rest...)
	return nil
}

func offersStartTLS(reply string) bool {
	for line := range strings.Lines(reply) {
		if strings.EqualFold(strings.TrimSpace(line), "STARTTLS") {
			return true
		}
	}
	return false
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + said(err) + ")"
}

// connection is a wire after hello.
type connection struct {
	wire   *wire
	client *smtp.Client
	lmtp   bool
	hello  string
	until  *time.Timer // while it is kept
}

// reset ends a transaction that came to nothing, and reports whether another may
// begin. The client says hello again behind it: here, where an error shows.
func (c *connection) reset() bool {
	return c.client.Reset() == nil && c.client.Hello(c.hello) == nil
}

// drop ends a connection that is in no state to be used again.
func (c *connection) drop() { _ = c.client.Close() } // it may be closed already

// quit ends one that is (RFC 5321 §4.1.1.10). It waits a little for the reply.
func (c *connection) quit() {
	c.wire.allow(4 << 10)
	c.client.CommandTimeout = 5 * time.Second
	if c.client.Quit() != nil {
		c.drop()
	}
}

// most is how many connections are kept, and idle how long: less than any server
// waits for a command.
const (
	most = 4
	idle = 20 * time.Second
)

// kept is connections that wait for the next message.
type kept struct {
	mu     sync.Mutex
	conns  []*connection
	timers sync.WaitGroup // one for each that waits
	closed bool
}

// take is the one that was kept last; nil when there is none.
func (k *kept) take() (*connection, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("the adapter is closed")
	}
	for n := len(k.conns); n > 0; n = len(k.conns) {
		c := k.conns[n-1]
		k.conns = k.conns[:n-1]
		if c.until.Stop() {
			k.timers.Done()
			return c, nil
		}
	}
	return nil, nil
}

// put keeps c for a while, or ends it.
func (k *kept) put(c *connection) {
	if !k.keep(c) {
		c.quit()
	}
}

func (k *kept) keep(c *connection) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(k.conns) >= most {
		return false
	}
	k.conns = append(k.conns, c)
	k.timers.Add(1)
	c.until = time.AfterFunc(idle, func() {
		defer k.timers.Done()
		k.mu.Lock()
		k.conns = slices.DeleteFunc(k.conns, func(o *connection) bool { return o == c })
		k.mu.Unlock()
		c.quit()
	})
	return true
}

// close ends them all, and waits for those whose time has just come.
func (k *kept) close() {
	k.mu.Lock()
	conns := k.conns
	k.conns, k.closed = nil, true
	k.mu.Unlock()
	for _, c := range conns {
		if c.until.Stop() {
			c.quit()
			k.timers.Done()
		}
	}
	k.timers.Wait()
}
