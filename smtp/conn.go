package smtp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one connection being served. A Session gets it from Serve's open and
// may keep it until its Close. Its methods may be called from any goroutine,
// but BareLineEnds only from within the Session's and Body's methods.
//
// With its small buffer it fits into 768 octets, a size class of the allocator,
// of which 8 are the allocator's own. The next is 896.
type Conn struct {
	cfg     *Config
	raw     net.Conn // what Serve was given
	nc      net.Conn // raw, or TLS over it
	id      string
	peer    netip.AddrPort
	started time.Time
	cancel  context.CancelFunc
	session Session // nil until open has returned one

	in      input
	out     output
	clock   clock
	pace    pace // of the text being read
	text    intake
	decoder textDecoder

	over       answer // what ended the dialogue; its close is goesOn until then
	from       Path   // of the transaction, for Refusal
	hasFrom    bool   // from is known; it may be the null path
	utf8       bool   // MAIL had SMTPUTF8
	afterData  bool   // DATA was refused: what follows may be the text
	inTx       bool   // Mail was accepted and the transaction has not ended
	recipients int    // accepted in the transaction
	commands   int    // since the last accepted message
	errors     int    // likewise
	refused    int    // recipients in a row
	overlong   int32  // command lines
	idle       int32  // reads in a row that returned nothing
	messages   int
	bytesIn    int64
	bytesOut   int64
	scratch    Reply        // a 2xx reply whose text is made for the occasion
	shared     atomic.Int32 // the phase

	mu       sync.Mutex // guards what other goroutines may read or change
	waiting  bool       // for the peer's next octets: a deadline in the past may interrupt the read
	draining bool
	hello    string
	esmtp    bool
	tls      *secured // nil in clear
}

func newConn(nc net.Conn, cfg *Config) *Conn {
	c := &Conn{
		cfg:     cfg,
		raw:     nc,
		nc:      nc,
		id:      rand.Text()[:16],
		peer:    addrPort(nc.RemoteAddr()),
		started: time.Now(),
	}
	c.in.init()
	return c
}

// ID names the connection: 16 letters and digits, unique in practice among all
// connections.
func (c *Conn) ID() string { return c.id }

// RemoteAddr is the peer's address as the net.Conn given to Serve says.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// LocalAddr is our address as the net.Conn given to Serve says.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// Peer is RemoteAddr as an IP address (an IPv4 one as IPv4) and port; invalid
// when it is none.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// Started is when Serve was called.
func (c *Conn) Started() time.Time { return c.started }

// TLS is the state of the TLS connection, nil in clear. It is made anew each time.
func (c *Conn) TLS() *tls.ConnectionState {
	c.mu.Lock()
	s := c.tls
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	state := s.ConnectionState()
	return &state
}

// Hello is the name of the last EHLO or HELO that was accepted, and which of
// the two it was. Within Session.Hello it is the one in question. It is empty
// before the first, after a refused one, and after STARTTLS.
func (c *Conn) Hello() (name string, esmtp bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello, c.esmtp
}

// Phase is where the dialogue stands, for an operator to read: "start",
// "ready", "mail", "rcpt", "data", …
func (c *Conn) Phase() string { return phase(c.shared.Load()).String() }

// BareLineEnds is how many bare LF and bare CR the text of the current message
// has had so far. Text that comes by BDAT is not looked at: 0, 0.
func (c *Conn) BareLineEnds() (lf, cr int) { return c.decoder.bareLF, c.decoder.bareCR }

// Close ends the connection by force: the context of the Session's methods is
// cancelled and the network connection closed, without a reply. Serve returns
// once the method being called has.
func (c *Conn) Close() error {
	c.cancel()
	return c.raw.Close()
}

// limits and timeouts are those of the configuration with the defaults filled in
// each time: that takes a nanosecond or two, and to keep them would take 96
// octets.
func (c *Conn) limits() Limits     { return c.cfg.Limits.withDefaults() }
func (c *Conn) timeouts() Timeouts { return c.cfg.Timeouts.withDefaults() }

func (c *Conn) phase() phase     { return phase(c.shared.Load()) }
func (c *Conn) setPhase(p phase) { c.shared.Store(int32(p)) }

func (c *Conn) setHello(name string, esmtp bool) {
	c.mu.Lock()
	c.hello, c.esmtp = name, esmtp
	c.mu.Unlock()
}

func (c *Conn) encrypted() bool { return c.nc != c.raw }

// drain is called when the context given to Serve ends: a peer that we wait for
// is woken by a deadline in the past, any other meets isDraining at its next
// command.
func (c *Conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting && c.interrupted() {
		// An error means that the connection is closed: the read ends by itself.
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

func (c *Conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case nil:
		return ap
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		var err error
		if ap, err = netip.ParseAddrPort(a.String()); err != nil {
			return netip.AddrPort{} // a pipe or a unix socket has none
		}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
