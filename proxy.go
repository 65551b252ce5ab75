package incoming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// proxyFunc is a Listener's Proxy.
type proxyFunc func(nc net.Conn) (c net.Conn, header func() error, err error)

// ask calls the func and survives its panic.
func (f proxyFunc) ask(s *Server, nc net.Conn) (c net.Conn, header func() error, err error) {
	defer func() {
		if v := recover(); v != nil {
			telemetry.Emit(s.hooks.Panic, telemetry.Panic{Where: "proxy", Value: v, Stack: debug.Stack()})
			err = fmt.Errorf("incoming: panic in Listener.Proxy: %v", v)
		}
	}()
	return f(nc)
}

// dropStranger closes a connection that must not come by a listener behind a
// balancer.
func (s *Server) dropStranger(ep *endpoint, nc net.Conn, peer netip.AddrPort, why error) {
	start := time.Now()
	who := telemetry.Session{Listener: ep.name, Peer: peer}
	telemetry.Emit(s.hooks.SessionConnect, telemetry.SessionConnect{Session: who})
	s.closedInSilence(who, why)
	telemetry.Emit(s.hooks.SessionClosed, telemetry.SessionClosed{Session: who, Reason: "proxy",
		Err: errors.Join(why, nc.Close()), Duration: time.Since(start)})
}

func (s *Server) closedInSilence(who telemetry.Session, why error) {
	telemetry.Emit(s.hooks.SessionRejected, telemetry.SessionRejected{Session: who, Stage: "connect",
		Reason: why.Error() + "; closed without a reply"})
}

// notOfTheNet reports whether an error that ended a session is what Listener.Proxy
// made of what the peer sent: a header that is not believed.
func notOfTheNet(err error) bool {
	var ofTheNet net.Error
	return err != nil && !errors.As(err, &ofTheNet) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// meetPeer learns from a balancer who the peer is, and counts him. The balancer
// itself is counted in all only.
//
//go:noinline
func (s *Server) meetPeer(ctx context.Context, ep *endpoint, l *live, set *settings, header func() error) bool {
	if err := readHeader(ctx, l, set.timeouts.Proxy, header); err != nil {
		s.dropUnknown(ctx, ep, l, err)
		return false
	}
	peer := peerOf(l.Conn)
	if peer == l.peer {
		return true
	}
	ok, over := s.admission.meet(peer.Addr())
	l.isFrom(peer, ok)
	if !ok {
		s.turnAway(ep, l, peer, over)
	}
	return ok
}

// readHeader waits for a balancer's header. A drain ends the wait.
func readHeader(ctx context.Context, l *live, timeout time.Duration, header func() error) error {
	// Where a deadline cannot be set, the connection is closed and header fails.
	if timeout >= 0 {
		_ = l.SetReadDeadline(time.Now().Add(timeout))
	}
	stop := context.AfterFunc(ctx, func() { _ = l.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := header(); err != nil {
		return err
	}
	return l.SetReadDeadline(time.Time{})
}

// dropUnknown closes a connection of which nobody knows whose it is. A balancer
// that comes and goes without a word looks whether we are alive: nothing is
// refused.
func (s *Server) dropUnknown(ctx context.Context, ep *endpoint, l *live, why error) {
	who := telemetry.Session{Listener: ep.name, Peer: l.peer}
	telemetry.Emit(s.hooks.SessionConnect, telemetry.SessionConnect{Session: who})
	reason := "proxy"
	switch {
	case errors.Is(why, io.EOF), errors.Is(why, syscall.ECONNRESET):
		reason = "eof"
	case errors.Is(why, net.ErrClosed):
		reason = "closed"
	case errors.Is(why, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		reason = "drain"
	default:
		s.closedInSilence(who, why)
	}
	telemetry.Emit(s.hooks.SessionClosed, telemetry.SessionClosed{Session: who, Reason: reason,
		Err: errors.Join(why, l.Close()), Duration: time.Since(l.since)})
}
