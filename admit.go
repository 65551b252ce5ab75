package incoming

import (
	"maps"
	"net/netip"
	"sync"
)

// admission counts the connections open over all listeners and says who may
// come in. A peer is one IPv4 address or one IPv6 /64: who holds one address of
// a /64 holds all.
type admission struct {
	mu      sync.Mutex
	open    int
	byPeer  map[netip.Addr]tally // of peers with an open connection, exempt ones too
	max     int                  // negative: none
	perPeer int                  // negative: none
	exempt  []netip.Prefix
	hidden  hiddenPeers
}

// tally is what is counted of one peer while it has a connection open.
type tally struct {
	open   int
	turned int64 // away, by the limit of one peer
}

// overLimit is why a peer was not let in.
type overLimit struct {
	limit    string // the option's key; "": none of ours, the process has no descriptor left
	use, max int64
}

func newAdmission(l Limits) *admission {
	a := &admission{byPeer: make(map[netip.Addr]tally)}
	a.setLimits(l)
	return a
}

// setLimits changes the limits for those who come from now on. l has its
// defaults filled in.
func (a *admission) setLimits(l Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.max, a.perPeer, a.exempt = l.Connections, l.ConnectionsPerIP, l.Exempt
}

// enter counts a peer in, or says which limit it would pass. Who was let in must
// leave. An invalid addr is a peer without an IP address, for which only the
// limit of all connections holds.
func (a *admission) enter(addr netip.Addr) (ok bool, over overLimit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.max >= 0 && a.open >= a.max {
		return false, overLimit{"limits.connections", int64(a.open) + 1, int64(a.max)}
	}
	if ok, over := a.countPeer(addr); !ok {
		return false, over
	}
	a.open++
	return true, overLimit{}
}

// meet is told the address of a peer that was let in without one, and counts it
// by that too, or says which limit it would pass. It leaves by that address when
// it was counted, by an invalid one else.
func (a *admission) meet(addr netip.Addr) (ok bool, over overLimit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.countPeer(addr)
}

func (a *admission) countPeer(addr netip.Addr) (ok bool, over overLimit) {
	if !addr.IsValid() {
		return true, overLimit{}
	}
	key := peerKey(addr)
	n := a.byPeer[key]
	if a.perPeer >= 0 && n.open >= a.perPeer && !contains(a.exempt, addr) {
		n.turned++
		a.note(key, n)
		return false, overLimit{"limits.connections_per_ip", int64(n.open) + 1, int64(a.perPeer)}
	}
	n.open++
	a.byPeer[key] = n
	return true, overLimit{}
}

// leave counts out a peer that was let in.
func (a *admission) leave(addr netip.Addr) {
	key := peerKey(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if !addr.IsValid() {
		return
	}
	n := a.byPeer[key]
	n.open--
	a.note(key, n)
}

// note keeps what is counted of a peer as long as it has a connection open: so
// there are never more of them than connections.
func (a *admission) note(key netip.Addr, n tally) {
	if n.open > 0 {
		a.byPeer[key] = n
	} else {
		delete(a.byPeer, key)
	}
}

// peers is what is counted of each peer.
func (a *admission) peers() map[netip.Addr]tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.byPeer)
}

// crowd is how many connections are open, from how many peers, and of the peer
// that has most.
func (a *admission) crowd() (open, peers, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.byPeer {
		most = max(most, n.open)
	}
	return a.open, len(a.byPeer), most
}

// busy reports whether more than 80 % of the connections allowed are open.
func (a *admission) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.max >= 0 && a.open*5 > a.max*4
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// sawPeer remembers who was served, and reports once when a proxy seems to hide
// the peers.
func (a *admission) sawPeer(addr netip.Addr) (suspect netip.Addr, found bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hidden.saw(addr)
}

// hiddenBy is the address of the proxy that seems to hide the peers; invalid
// when there seems to be none.
func (a *admission) hiddenBy() netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hidden.by
}

// peerKey is what the connections of addr are counted by.
func peerKey(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	p, _ := addr.Prefix(64) // fails only for a bad length
	return p.Addr()
}

func contains(ps []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range ps {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// hiddenPeers notices that nearly all sessions come from one private address:
// most likely a proxy or a container network stands before us, and limits,
// access lists and Received see it in place of the peers. Loopback is let be:
// that is how one tries a server out.
type hiddenPeers struct {
	first netip.Addr // of the window
	hits  int        // of first
	total int
	by    netip.Addr // once found
}

// hiddenWindow sessions are looked at together, of which hiddenHits must come
// from the address of the first.
const (
	hiddenWindow = 200
	hiddenHits   = 190
)

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func (h *hiddenPeers) saw(addr netip.Addr) (netip.Addr, bool) {
	addr = addr.Unmap()
	if h.by.IsValid() || !addr.IsValid() {
		return netip.Addr{}, false
	}
	if h.total == 0 {
		h.first = addr
	}
	h.total++
	if addr == h.first {
		h.hits++
	}
	if h.total < hiddenWindow {
		return netip.Addr{}, false
	}
	first, hits := h.first, h.hits
	h.first, h.hits, h.total = netip.Addr{}, 0, 0
	private := first.IsPrivate() || first.IsLinkLocalUnicast() || sharedSpace.Contains(first)
	if hits < hiddenHits || !private {
		return netip.Addr{}, false
	}
	h.by = first
	return first, true
}
