package incoming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// endpoint is a listener of the Config and what belongs to it.
type endpoint struct {
	name string
	conf Listener
	net  net.Listener // nil until bound; guarded by Server.mu

	// How its sessions do TLS; nil in clear. Changed by Reload, which holds
	// Server.reload.
	tls   *tls.Config
	certs *certificates // nil when they are not from files
}

func (s *Server) newEndpoint(l Listener) (*endpoint, error) {
	ep := &endpoint{name: l.Name, conf: l}
	switch {
	case l.TLS == TLSDisabled:
		return ep, nil
	case l.TLSConfig != nil:
		var err error
		ep.tls, err = l.givenTLSConfig()
		return ep, err
	}
	files, err := readCertificates(l.certificates())
	if err != nil {
		return nil, err
	}
	ep.certs = s.newCertificates(l.Name)
	ep.certs.replace(files)
	ep.tls = l.tlsConfig(ep.certs)
	return ep, nil
}

// bind makes every listener listen, or none.
func (s *Server) bind(ctx context.Context) error {
	for _, ep := range s.endpoints {
		ln := ep.conf.Net
		if ln == nil {
			var err error
			if ln, err = ep.conf.listen(context.WithoutCancel(ctx)); err != nil {
				return fmt.Errorf("incoming: listener %q: %w", ep.name, err)
			}
		}
		s.mu.Lock()
		ep.net = ln
		stopped := s.stopped
		s.mu.Unlock()
		if stopped {
			ln.Close() // it may have been bound after all others were closed
		}
	}
	return nil
}

// listen binds the listener's address.
func (l Listener) listen(ctx context.Context) (net.Listener, error) {
	if path, is := unixPath(l.Address); is {
		return listenUnix(ctx, path, l.SocketMode)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
}

// admit serves a connection in a goroutine of its own, or turns it away here.
func (s *Server) admit(ctx context.Context, ep *endpoint, nc net.Conn) {
	peer, set := peerOf(nc), s.takeSettings()
	var header func() error // of who comes by a balancer
	if proxy := set.proxy[ep.name]; proxy != nil {
		c, h, err := proxy.ask(s, nc)
		if err != nil {
			s.giveBack(set)
			s.dropStranger(ep, nc, peer, err)
			return
		}
		nc, header, peer = c, h, peerOf(c)
	}
	addr := peer.Addr()
	if header != nil {
		addr = netip.Addr{} // the balancer's: its peers are counted by theirs
	}
	if ok, over := s.admission.enter(addr); !ok {
		s.giveBack(set)
		s.turnAway(ep, nc, peer, over)
		return
	}
	l := newLive(nc, ep.name)
	l.isFrom(peer, header == nil)
	s.sessions.add(l)
	s.served.Go(func() { s.serve(ctx, ep, l, set, header) })
}

// turnAwayTime bounds how long a refusal may hold up the listener. The reply
// fits the send buffer of any new connection, so that the write takes no time
// at all; the bound is wide enough that a busy machine does not take the reply
// away before it was tried.
const turnAwayTime = time.Second

// turnAway refuses a connection past a limit, or of the process when none is
// named, by one reply where the peer can read it.
func (s *Server) turnAway(ep *endpoint, nc net.Conn, peer netip.AddrPort, over overLimit) {
	who := telemetry.Session{Listener: ep.name, Peer: peer}
	reply, reason := replyTooManyConns, "no file descriptor is left"
	if over.limit != "" {
		reason = "past " + over.limit
	}
	if over.limit == "limits.connections_per_ip" {
		reply = replyTooManyFromYou
	}
	if ep.conf.TLS == TLSImplicit {
		reason += ", closed without a reply"
	}
	start := time.Now()
	telemetry.Emit(s.hooks.SessionConnect, telemetry.SessionConnect{Session: who})
	if over.limit != "" {
		telemetry.Emit(s.hooks.LimitHit, telemetry.LimitHit{Session: who, Limit: over.limit, Use: over.use, Max: over.max})
	}
	telemetry.Emit(s.hooks.SessionRejected, telemetry.SessionRejected{Session: who, Stage: "connect",
		Reply: reply.String(), Code: reply.Code, Reason: reason})
	var err error
	var sent int
	if ep.conf.TLS != TLSImplicit {
		if err = nc.SetWriteDeadline(time.Now().Add(turnAwayTime)); err == nil {
			sent, err = nc.Write([]byte(reply.String() + "\r\n"))
		}
	}
	err = errors.Join(err, nc.Close())
	telemetry.Emit(s.hooks.SessionClosed, telemetry.SessionClosed{Session: who, Reason: "limit", Err: err,
		Duration: time.Since(start), BytesOut: int64(sent)})
}

// serve is the goroutine of one connection. While that is idle this frame is
// part of its stack, and small for that reason.
func (s *Server) serve(ctx context.Context, ep *endpoint, l *live, set *settings, header func() error) {
	defer s.leave(l, set)
	if header != nil && !s.meetPeer(ctx, ep, l, set, header) {
		return
	}
	s.lookForProxy(ep, l.peer.Addr(), set)
	// What it returns OnClosed was told.
	_ = smtp.Serve(ctx, l, set.wire[ep.name], func(ctx context.Context, c *smtp.Conn) (smtp.Session, error) {
		return s.open(ctx, c, l, set)
	})
}

// leave is deferred by serve.
func (s *Server) leave(l *live, set *settings) {
	// The engine recovers what sessions do, and hooks are shielded: this is for
	// what nobody thought of.
	if v := recover(); v != nil {
		telemetry.Emit(s.hooks.Panic, telemetry.Panic{Where: "session", ID: l.info().ID, Value: v, Stack: debug.Stack()})
	}
	l.Close() // the engine has closed it; after a panic it has not
	s.sessions.remove(l)
	s.giveBack(set)
	s.admission.leave(l.countedBy())
}

// lookForProxy warns once when nearly all sessions come from one address, and
// no balancer is known of that would tell whose they are.
//
//go:noinline
func (s *Server) lookForProxy(ep *endpoint, peer netip.Addr, set *settings) {
	if set.proxy[ep.name] != nil {
		return
	}
	if by, found := s.admission.sawPeer(peer); found {
		telemetry.Emit(s.hooks.Trouble, telemetry.Trouble{Kind: "hidden_peers", Listener: ep.name, Text: fmt.Sprintf(
			"nearly all sessions come from %s: a proxy hides the peers, and limits, policies and Received see it in their place; "+
				"have it send PROXY headers and set the listener's proxy and proxy_networks", by)})
	}
}

// peerOf is the peer's address; invalid for one without an IP address.
func peerOf(nc net.Conn) netip.AddrPort {
	var ap netip.AddrPort
	switch a := nc.RemoteAddr().(type) {
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
