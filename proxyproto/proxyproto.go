// Package proxyproto finds out who is behind a balancer. It reads the header of
// the PROXY protocol, version 1 or 2, that a balancer sends before anything the
// client says: [New] makes a func for incoming.Listener.Proxy, [Read] reads one
// header. It believes listed networks only, and knows nothing of what is said
// behind the header.
package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
)

var (
	// ErrUntrusted is that a peer outside of Options.Networks connected where
	// a header is required, or sent one.
	ErrUntrusted = errors.New("proxyproto: not from a network that PROXY headers are believed from")
	// ErrNone is that what came was no PROXY header.
	ErrNone = errors.New("proxyproto: no PROXY header")
)

// Options says whom to believe.
type Options struct {
	// Networks is where the balancers connect from. A peer on a unix socket is
	// believed without being listed: whoever may connect to the socket is.
	Networks []netip.Prefix
	// Optional serves who sends no header as who he is. A listed peer is then
	// waited for until the deadline of the read, unless he speaks before; from
	// any other a header is an error of the first read. Where it is not set,
	// nobody is served without a header from a listed network.
	Optional bool
}

// New makes a func that is asked for each connection. It does not wait: what it
// returns is the connection to use in nc's place, and header, which reads the
// header under the read deadline set on nc and must be called once, first. When
// header has returned nil, RemoteAddr and LocalAddr of c are the ones that the
// balancer told, or nc's own when it told none (LOCAL, UNKNOWN, or no header
// where it is optional); what came behind the header is read from c. A nil
// header is a peer who is nobody's balancer.
//
// The error of header is io.EOF when the peer left without a word, as health
// checks do, and wraps os.ErrDeadlineExceeded when the header did not come in
// time.
func New(o Options) func(nc net.Conn) (c net.Conn, header func() error, err error) {
	networks := slices.Clone(o.Networks)
	return func(nc net.Conn) (net.Conn, func() error, error) {
		switch {
		case believed(networks, nc.RemoteAddr()):
			c := &conn{Conn: nc}
			return c, func() error { return c.readHeader(o.Optional) }, nil
		case o.Optional:
			return &guard{Conn: nc}, nil, nil
		}
		return nil, nil, ErrUntrusted
	}
}

func believed(networks []netip.Prefix, peer net.Addr) bool {
	switch a := peer.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		ip := a.AddrPort().Addr().Unmap().WithZone("")
		return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return false
}

// conn is a connection from a balancer.
type conn struct {
	net.Conn
	told Header
	rest []byte // came with the header and is not read yet
}

func (c *conn) readHeader(optional bool) error {
	h, rest, err := Read(c.Conn)
	switch {
	case err == nil:
		c.told, c.rest = h, keep(rest)
	case optional && errors.Is(err, ErrNone):
		c.rest = keep(rest)
	case optional && errors.Is(err, os.ErrDeadlineExceeded) && len(rest) == 0:
	default:
		return err
	}
	return nil
}

// keep is b without the buffer it lies in.
func keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return slices.Clone(b)
}

func (c *conn) Read(p []byte) (int, error) {
	if c.rest != nil {
		return take(&c.rest, p), nil
	}
	return c.Conn.Read(p)
}

// take moves octets out of rest, which is nil when it is empty.
func take(rest *[]byte, p []byte) int {
	n := copy(p, *rest)
	if *rest = (*rest)[n:]; len(*rest) == 0 {
		*rest = nil
	}
	return n
}

func (c *conn) RemoteAddr() net.Addr {
	if c.told.Source != nil {
		return c.told.Source
	}
	return c.Conn.RemoteAddr()
}

func (c *conn) LocalAddr() net.Addr {
	if c.told.Destination != nil {
		return c.told.Destination
	}
	return c.Conn.LocalAddr()
}

// CloseWrite ends our side of the connection, where it has sides.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(nc net.Conn) error {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// guard is a connection of one who is nobody's balancer: a header from him is a
// lie about who he is.
type guard struct {
	net.Conn
	held  []byte // read and not given on yet
	known bool   // that it is no header
}

func (g *guard) Read(p []byte) (int, error) {
	if !g.known {
		if err := g.look(); err != nil {
			return 0, err
		}
	}
	if g.held != nil {
		return take(&g.held, p), nil
	}
	return g.Conn.Read(p)
}

// look reads until it is known what the first octets are. After an error, such
// as that of a deadline, it goes on where it was.
func (g *guard) look() error {
	for {
		switch begins(g.held) {
		case other:
			g.known = true
			return nil
		case header:
			return fmt.Errorf("%w: %v sent one", ErrUntrusted, g.RemoteAddr())
		}
		var b [len(sigV2)]byte
		n, err := readSome(g.Conn, b[:])
		g.held = append(g.held, b[:n]...)
		switch {
		case n > 0: // an error comes again
		case errors.Is(err, io.EOF) && len(g.held) > 0:
			g.known = true
			return nil
		default:
			return err
		}
	}
}

// CloseWrite ends our side of the connection, where it has sides.
func (g *guard) CloseWrite() error { return closeWrite(g.Conn) }
