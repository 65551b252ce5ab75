package incoming

import (
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incoming-mx/incoming/smtp"
)

// SessionInfo is one open session.
type SessionInfo struct {
	ID       string         // as in the log; "" for the moment before it has one
	Listener string         // the listener's name
	Peer     netip.AddrPort // invalid for a peer without an IP address
	Hello    string         // the name in EHLO or HELO; the peer's text
	TLS      string         // "TLS 1.3"; "" in clear
	State    SessionState
	InState  time.Time // since when
	Since    time.Time // since when it is open
	Messages int       // accepted in it
	BytesIn  int64     // on the wire, TLS included
	BytesOut int64
}

// SessionState is where a session stands.
type SessionState string

const (
	SessionConnecting SessionState = "connecting" // before the banner: handshake, policies
	SessionIdle       SessionState = "idle"       // no transaction is open
	SessionMail       SessionState = "mail"       // MAIL was accepted
	SessionRcpt       SessionState = "rcpt"       // a recipient was accepted
	SessionData       SessionState = "data"       // the text comes
	SessionEnding     SessionState = "ending"     // the text is in: last policies, commit
)

// live is a connection being served, as others may look at it. It is the
// net.Conn that the engine is given, so that it can count. Every idle connection
// has one: what the engine knows it is asked for.
type live struct {
	net.Conn
	listener string
	since    time.Time
	in, out  atomic.Int64

	mu       sync.Mutex
	peer     netip.AddrPort // of the balancer, until its header is in
	counted  bool           // by the peer's address
	conn     *smtp.Conn     // nil before the engine has made it
	state    SessionState
	inState  time.Duration // after since
	messages int
}

func newLive(nc net.Conn, listener string) *live {
	return &live{Conn: nc, listener: listener, since: time.Now(), state: SessionConnecting}
}

// isFrom is told the peer, and whether admission counts him by his address. The
// connection's goroutine alone changes it, and so may look at it as it is.
func (l *live) isFrom(peer netip.AddrPort, counted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peer, l.counted = peer, counted
}

// countedBy is the address by which admission counts the connection; invalid
// when it is counted in all only.
func (l *live) countedBy() netip.Addr {
	if !l.counted {
		return netip.Addr{}
	}
	return l.peer.Addr()
}

func (l *live) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.in.Add(int64(n))
	return n, err
}

func (l *live) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	l.out.Add(int64(n))
	return n, err
}

// CloseWrite ends our side of the connection, where it has sides.
func (l *live) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// meet is told the engine's side of the connection, once.
func (l *live) meet(c *smtp.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = c
}

// force ends the connection, and what policies wait on for its sake.
func (l *live) force() {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	// Being closed is all that is wanted: an error changes nothing.
	if c != nil {
		_ = c.Close()
	} else {
		_ = l.Close()
	}
}

// hurry has the engine look whether the peer has taken too long.
func (l *live) hurry() {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.Hurry()
	}
}

func (l *live) enter(state SessionState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != state {
		l.state, l.inState = state, time.Since(l.since)
	}
}

// again is enter for a state that begins anew.
func (l *live) again(state SessionState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.inState = state, time.Since(l.since)
}

func (l *live) accepted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages++
	l.state, l.inState = SessionIdle, time.Since(l.since)
}

func (l *live) info() SessionInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := SessionInfo{Listener: l.listener, Peer: l.peer, State: l.state, InState: l.since.Add(l.inState),
		Since: l.since, Messages: l.messages, BytesIn: l.in.Load(), BytesOut: l.out.Load()}
	if l.conn != nil {
		i.ID, i.TLS = l.conn.ID(), versionOf(l.conn)
		i.Hello, _ = l.conn.Hello()
	}
	return i
}

// registry is the connections being served.
type registry struct {
	mu     sync.Mutex
	all    map[*live]struct{}
	forced bool // those that come now are closed at once
}

func (r *registry) add(l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[*live]struct{})
	}
	r.all[l] = struct{}{}
	if r.forced {
		l.force()
	}
}

func (r *registry) remove(l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, l)
}

// hurry ends the wait for those who have kept us waiting longer than a busy server
// waits.
func (r *registry) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.all {
		l.hurry()
	}
}

// force closes every connection, now and from now on.
func (r *registry) force() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forced = true
	for l := range r.all {
		l.force()
	}
}

func (r *registry) list() []*live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}

// Sessions yields the open sessions, the oldest first, as they stood when it was
// called.
func (s *Server) Sessions() iter.Seq[SessionInfo] {
	var infos []SessionInfo
	for _, l := range s.sessions.list() {
		infos = append(infos, l.info())
	}
	slices.SortFunc(infos, func(a, b SessionInfo) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return slices.Values(infos)
}
