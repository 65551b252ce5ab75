package smtp

import (
	"crypto/tls"
	"net"
	"net/netip"
)

// Conn is what a Session may know of its connection. Its methods may be called
// while a method of the Session runs, and not otherwise.
type Conn struct {
	id     string
	nc     net.Conn
	tls    *tls.ConnectionState
	hello  string
	esmtp  bool
	bareLF int
	bareCR int
}

// ID names the connection; it is unique within the process.
func (c *Conn) ID() string { return c.id }

// LocalAddr is our end of the connection.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the peer's end of the connection.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Peer is the peer's address; invalid for a peer without an IP address. An IPv4
// address is never mapped into IPv6.
func (c *Conn) Peer() netip.AddrPort {
	a, ok := c.nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// TLS is the state of the TLS session; nil in clear.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// Hello is the name given in EHLO or HELO, "" before, and whether it was EHLO.
func (c *Conn) Hello() (name string, esmtp bool) { return c.hello, c.esmtp }

// BareLineEnds counts the line feeds without a carriage return before them, and
// the carriage returns without a line feed behind them, in the text of the
// current message. Text by BDAT is not counted.
func (c *Conn) BareLineEnds() (lf, cr int) { return c.bareLF, c.bareCR }
