package incoming

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// PeerInfo is what one peer has open. A peer is one IPv4 address or one IPv6 /64,
// as Limits.ConnectionsPerIP counts them.
type PeerInfo struct {
	Peer     netip.Prefix
	Sessions int       // open now
	Refused  int64     // turned away by Limits.ConnectionsPerIP since it has any open
	Messages int       // accepted in the open ones
	BytesIn  int64     // on the wire, in the open ones
	BytesOut int64     // likewise
	Since    time.Time // since when its oldest is open
}

// Busiest yields the peers that have a connection open, the one with most first;
// among equals the one that was turned away most often. It costs a look at every
// open connection. A peer without an IP address is not among them.
func (s *Server) Busiest() iter.Seq[PeerInfo] {
	byKey := make(map[netip.Addr]*PeerInfo)
	peers := make([]*PeerInfo, 0, len(byKey))
	for key, n := range s.admission.peers() {
		p := &PeerInfo{Peer: peerPrefix(key), Sessions: n.open, Refused: n.turned}
		byKey[key], peers = p, append(peers, p)
	}
	for i := range s.Sessions() {
		if p := byKey[peerKey(i.Peer.Addr())]; p != nil {
			p.add(i)
		}
	}
	slices.SortFunc(peers, func(a, b *PeerInfo) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(b.Refused, a.Refused), a.Peer.Addr().Compare(b.Peer.Addr()))
	})
	return func(yield func(PeerInfo) bool) {
		for _, p := range peers {
			if !yield(*p) {
				return
			}
		}
	}
}

func (p *PeerInfo) add(i SessionInfo) {
	p.Messages += i.Messages
	p.BytesIn += i.BytesIn
	p.BytesOut += i.BytesOut
	if p.Since.IsZero() || i.Since.Before(p.Since) {
		p.Since = i.Since
	}
}

// peerPrefix is the network that a peerKey stands for.
func peerPrefix(key netip.Addr) netip.Prefix {
	bits := key.BitLen()
	if key.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(key, bits)
}

// crowd is what is told of the connections by and by.
func (s *Server) crowd() telemetry.SessionCrowd {
	limits := s.settings().limits
	open, peers, busiest := s.admission.crowd()
	return telemetry.SessionCrowd{Open: open, Max: max(limits.Connections, 0), Peers: peers,
		Busiest: busiest, BusiestMax: max(limits.ConnectionsPerIP, 0)}
}
