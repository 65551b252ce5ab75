package smtp

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
)

// secured is a TLS connection, and the wire under it.
type secured struct {
	*tls.Conn
	wire wire
}

// secure puts TLS over a network connection. The handshake is still to be done,
// by turns.
func secure(raw net.Conn, config *tls.Config, t *turn) *secured {
	s := &secured{wire: wire{Conn: raw, turn: t}}
	s.Conn = tls.Server(&s.wire, config)
	return s
}

// Read reads text that was deciphered.
func (s *secured) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.wire.took(n, len(p))
	return n, err
}

// wire is a network connection as crypto/tls sees it. While the handshake lasts,
// that has a turn only when it does not wait for the peer. Afterwards one can wait
// for the peer here (await), and not in crypto/tls: its Read stands so deep that
// the stack of an idle connection would be twice as big.
//
// With its buffer it fits into a size class of 256 octets.
type wire struct {
	net.Conn
	turn *turn // nil after the handshake

	// The records in what crypto/tls was given. It asks for more only when it
	// has used up all that it has.
	length uint16 // of the record's body still to come; the last two octets of its header while that comes
	header uint8  // octets of it that have come
	heard  bool   // an octet has come, of whatever
	from   uint8
	to     uint8  // ahead[from:to] was read ahead, and is to be given first
	whole  uint32 // whole records given and not used yet; a few may be used already
	ahead  [aheadOctets]byte
}

const (
	recordHeader = 5   // octets: type, version, length (RFC 8446 §5.1)
	aheadOctets  = 192 // a command, or the few of an envelope, is one read
)

// await waits until the peer has sent something, if crypto/tls would have to wait
// for it. An error is that of a deadline; any other crypto/tls will meet.
func (w *wire) await() error {
	if w.whole > 0 || w.from < w.to {
		return nil
	}
	n, err := w.Conn.Read(w.ahead[:])
	w.from, w.to = 0, uint8(n)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// Read is called by crypto/tls.
func (w *wire) Read(p []byte) (int, error) {
	w.whole = 0
	if w.from < w.to {
		n := copy(p, w.ahead[w.from:w.to])
		w.from += uint8(n)
		w.pass(p[:n])
		return n, nil
	}
	w.turn.end()
	n, err := w.Conn.Read(p)
	w.pass(p[:n])
	if err == nil {
		err = w.turn.begin()
	}
	return n, err
}

// Write is called by crypto/tls.
func (w *wire) Write(p []byte) (int, error) {
	w.turn.end()
	n, err := w.Conn.Write(p)
	if err == nil {
		err = w.turn.begin()
	}
	return n, err
}

// established ends what is for the handshake only.
func (w *wire) established() {
	w.turn.end()
	w.turn = nil
}

// pass counts the records that end in p.
func (w *wire) pass(p []byte) {
	w.heard = w.heard || len(p) > 0
	for len(p) > 0 {
		for w.header < recordHeader && len(p) > 0 {
			w.length = w.length<<8 | uint16(p[0])
			w.header++
			p = p[1:]
		}
		if w.header < recordHeader {
			return
		}
		n := min(len(p), int(w.length))
		w.length -= uint16(n)
		p = p[n:]
		if w.length == 0 {
			w.header = 0
			w.whole++
		}
	}
}

// took says that n octets of text were read into room for more. Unless they fill
// it, that was the rest of a record.
func (w *wire) took(n, room int) {
	if 0 < n && n < room && w.whole > 0 {
		w.whole--
	}
}
