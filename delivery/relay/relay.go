// Package relay hands messages on to one other mail server, by SMTP (RFC 5321) or
// LMTP (RFC 2033): to Dovecot, to an archive, to the mail server behind this one.
//
// It knows no MX records and sends no reports: it is no way to the Internet. What
// the other server says of each recipient is the verdict for that recipient: 2yz is
// done, 4yz is tried again, 5yz is rejected. That the other server cannot be
// reached, will not have us, or speaks out of turn is tried again.
//
// Text is sent as it was received, with three exceptions that SMTP wants: a bare CR
// or LF is sent as CRLF, a line that begins with a dot gets another, and a last line
// without an end gets one. The dot that ends a text is only ever sent behind all of
// it: whatever breaks off a message breaks off the connection.
//
// The same message may come more than once (see delivery.Adapter): when the
// connection is lost behind the last dot, nobody knows whether it was taken. Our
// Received field on top has the ID.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// TLSMode says whether the connection is encrypted, and whether it must be.
type TLSMode string

const (
	// TLSOptional says STARTTLS where it is offered, and does not look whose
	// certificate that is (RFC 7435): against those who only listen. It is the
	// default; on a unix socket it is TLSDisabled.
	TLSOptional TLSMode = "optional"
	TLSDisabled TLSMode = "disabled"
	// TLSRequired says STARTTLS, and wants a certificate by TLSConfig.
	TLSRequired TLSMode = "required"
	// TLSImplicit does TLS from the first octet, and wants a certificate by
	// TLSConfig.
	TLSImplicit TLSMode = "implicit"
)

// Config is where messages go. Only Address is required.
type Config struct {
	// Address is host:port, or unix:/path for a socket.
	Address string
	// LMTP speaks LMTP, where each recipient has a reply after the text.
	// Otherwise it is SMTP, where one reply is for all of them.
	LMTP bool
	// Hello is what we call ourselves; "" is the machine's name.
	Hello string
	// TLS is TLSOptional when "".
	TLS TLSMode
	// TLSConfig is for TLSRequired and TLSImplicit; nil wants a certificate for
	// Address's host that the system's authorities have signed, and TLS 1.2.
	TLSConfig *tls.Config
}

// Adapter relays messages to one server. It is safe for use by many goroutines:
// each delivery has a connection of its own, and a few are kept for the next.
type Adapter struct {
	network, address string
	lmtp             bool
	hello            string
	tls              TLSMode
	tlsConfig        *tls.Config
	kept             kept
}

var _ delivery.Adapter = (*Adapter)(nil)

// New returns an Adapter. It connects to nothing.
func New(cfg Config) (*Adapter, error) {
	a := &Adapter{network: "tcp", address: cfg.Address, lmtp: cfg.LMTP, hello: cfg.Hello, tls: cfg.TLS, tlsConfig: cfg.TLSConfig}
	if path, unix := strings.CutPrefix(cfg.Address, "unix:"); unix {
		a.network, a.address = "unix", path
		if path == "" {
			return nil, errors.New("relay: unix: has no path: write unix:/path")
		}
		if a.tls == "" {
			a.tls = TLSDisabled
		}
	}
	host := ""
	if a.network == "tcp" {
		var port string
		var err error
		if host, port, err = net.SplitHostPort(a.address); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("relay: address %q: write host:port, such as mail.example.org:25, or unix:/path", cfg.Address)
		}
	}
	switch a.tls {
	case "":
		a.tls = TLSOptional
	case TLSOptional, TLSDisabled, TLSRequired, TLSImplicit:
	default:
		return nil, fmt.Errorf("relay: TLS %q: use optional, disabled, required or implicit", cfg.TLS)
	}
	if a.tlsConfig == nil {
		a.tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	a.tlsConfig = a.tlsConfig.Clone()
	if a.tlsConfig.ServerName == "" {
		a.tlsConfig.ServerName = host
	}
	if a.tls == TLSOptional {
		a.tlsConfig.InsecureSkipVerify = true // who may be spoken to in clear need not prove who he is
	}
	if a.tlsConfig.ServerName == "" && !a.tlsConfig.InsecureSkipVerify && a.tls != TLSDisabled {
		return nil, errors.New("relay: TLS on a unix socket: TLSConfig must say the ServerName that the certificate is for")
	}
	if a.hello == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("relay: hello: %w", err)
		}
		a.hello = name
	}
	if strings.ContainsFunc(a.hello, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("relay: hello %q: it holds white space or a control character", a.hello)
	}
	return a, nil
}

// Close closes the connections that are kept. Deliveries that come later are to be
// tried again.
func (a *Adapter) Close() error {
	a.kept.close()
	return nil
}

// Deliver hands m on, and returns what the other server said of each recipient. See
// delivery.Adapter.
func (a *Adapter) Deliver(ctx context.Context, m *queue.Message) error {
	// The end of ctx ends whatever is waited for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told, err := a.relay(ctx, m)
	if end := context.Cause(ctx); err != nil && end != nil && !errors.Is(err, end) {
		err = fmt.Errorf("%w (%w)", end, err)
	}
	results := make(map[string]error, len(m.Envelope.RcptTo))
	delivered := true
	for _, rcpt := range m.Envelope.Addresses() {
		v, has := told[rcpt]
		if !has {
			v = err
		}
		if v != nil {
			results[rcpt] = fmt.Errorf("relay: %s: %w", a.address, v)
		} else if has {
			results[rcpt] = nil
		}
		delivered = delivered && has && v == nil
	}
	if delivered {
		return nil
	}
	return delivery.PerRecipient(results)
}

// relay is one transaction: the verdict of each recipient as far as there is one,
// and what broke it off for the others.
func (a *Adapter) relay(ctx context.Context, m *queue.Message) (map[string]error, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("not begun: %w", err)
	}
	c, fresh, err := a.connection(ctx)
	if err != nil {
		return nil, err
	}
	t := &transaction{conn: c, msg: m, results: make(map[string]error, len(m.Envelope.RcptTo))}
	err = t.run(ctx)
	if !fresh && !t.begun && !t.clean && err != nil && ctx.Err() == nil {
		// The kept one was closed meanwhile, and nothing has been said on it.
		c.drop()
		if c, err = a.dial(ctx); err != nil {
			return nil, err
		}
		t = &transaction{conn: c, msg: m, results: make(map[string]error, len(m.Envelope.RcptTo))}
		err = t.run(ctx)
	}
	if t.clean && ctx.Err() == nil {
		a.kept.put(c)
	} else {
		c.drop()
	}
	return t.results, err
}

// connection is one that is kept, or a fresh one.
func (a *Adapter) connection(ctx context.Context) (c *connection, fresh bool, err error) {
	c, err = a.kept.take()
	if c != nil || err != nil {
		return c, false, err
	}
	c, err = a.dial(ctx)
	return c, true, err
}

// dial connects and says hello.
func (a *Adapter) dial(ctx context.Context) (*connection, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	nc, err := d.DialContext(ctx, a.network, a.address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	w := &wire{Conn: nc}
	w.allow(64 << 10)
	stop := w.endWith(ctx)
	defer stop()
	c, err := a.greet(ctx, w)
	if err != nil {
		return nil, errors.Join(err, ignoreClosed(nc.Close()))
	}
	return c, nil
}

// greet is from the banner to the reply to our hello, and TLS where it belongs.
func (a *Adapter) greet(ctx context.Context, w *wire) (*connection, error) {
	switch a.tls {
	case TLSImplicit:
		if err := w.handshake(ctx, a.tlsConfig); err != nil {
			return nil, err
		}
	case TLSOptional, TLSRequired:
		if err := a.startTLS(ctx, w); err != nil {
			return nil, err
		}
	}
	c := &connection{wire: w, lmtp: a.lmtp, hello: a.hello}
	if a.lmtp {
		c.client = smtp.NewClientLMTP(w)
	} else {
		c.client = smtp.NewClient(w)
	}
	// RFC 5321 §4.5.3.2; the end of ctx comes before, where it has one.
	c.client.CommandTimeout, c.client.SubmissionTimeout = 5*time.Minute, 10*time.Minute
	if err := c.client.Hello(a.hello); err != nil {
		return nil, mended("hello", err)
	}
	return c, nil
}

// mended is the error of a step that is not about the message: whatever the other
// server says of us can be mended, and is tried again.
func mended(step string, err error) error {
	return fmt.Errorf("%s: %s", step, said(err))
}

// said is err with what the other server says quoted and bounded: it is a
// stranger's text.
func said(err error) string {
	var reply *smtp.SMTPError
	var early *textproto.Error // before the client has taken over
	switch {
	case errors.As(err, &reply):
	case errors.As(err, &early):
		reply = &smtp.SMTPError{Code: early.Code, Message: early.Msg}
	default:
		return err.Error()
	}
	const most = 200
	text := reply.Message
	if len(text) > most {
		text = text[:most] + "…"
	}
	code := ""
	if e := reply.EnhancedCode; e != (smtp.EnhancedCode{}) && e != smtp.NoEnhancedCode {
		code = fmt.Sprintf(" %d.%d.%d", e[0], e[1], e[2])
	}
	return fmt.Sprintf("it said %d%s %q", reply.Code, code, text)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
