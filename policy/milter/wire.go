package milter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	gomilter "github.com/d--j/go-milter"
)

// offered is what a filter may do to a message.
const offered = gomilter.OptAddHeader | gomilter.OptChangeHeader | gomilter.OptQuarantine | gomilter.OptSetMacros

const (
	mostPacket = 256 << 10 // octets of one packet of a filter's
	mostSaid   = 1 << 20   // of all its packets in one conversation
)

// open negotiates with the filter behind nc.
func open(nc net.Conn, m macros) (*gomilter.ClientSession, error) {
	options := []gomilter.Option{
		gomilter.WithDialer(dialed{&wire{Conn: nc, in: bufio.NewReader(nc), out: bufio.NewWriter(nc)}}),
		gomilter.WithReadTimeout(0), gomilter.WithWriteTimeout(0), // the conversation has one for all
		gomilter.WithActions(offered), gomilter.WithoutProtocol(gomilter.OptRcptRej),
		gomilter.WithoutDefaultMacros(),
	}
	for stage, names := range unasked {
		options = append(options, gomilter.WithMacroRequest(stage, names))
	}
	return gomilter.NewClient("", "", options...).Session(m)
}

// dialed is a dialer whose connection is up already.
type dialed struct{ net.Conn }

func (d dialed) Dial(string, string) (net.Conn, error) { return d.Conn, nil }

// wire is a connection to a filter that lets through only packets which the library
// can take: of one octet at least, and not past the bounds. What is written goes
// out when an answer is waited for.
type wire struct {
	net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	packet []byte // what is left of the packet in hand, its length before it
	said   int    // octets of packets so far
}

func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.packet) == 0 {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.packet)
	w.packet = w.packet[n:]
	return n, nil
}

// Close sends what waits, the filter's leave, and closes.
func (w *wire) Close() error {
	err := w.out.Flush()
	if e := w.Conn.Close(); err == nil {
		err = e
	}
	return err
}

func (w *wire) next() error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	var length [4]byte
	if _, err := io.ReadFull(w.in, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > mostPacket {
		return fmt.Errorf("a packet of %d octets; 1 to %d are taken", n, mostPacket)
	}
	first := w.said == 0
	if w.said += len(length) + int(n); w.said > mostSaid {
		return fmt.Errorf("more than %d octets of answers", mostSaid)
	}
	packet := make([]byte, len(length)+int(n))
	copy(packet, length[:])
	if _, err := io.ReadFull(w.in, packet[len(length):]); err != nil {
		return err
	}
	if first {
		narrow(packet[len(length):])
	}
	w.packet = packet
	return nil
}

// narrow takes out of a filter's side of the negotiation the actions that were not
// offered. rspamd claims all there are, whatever it was offered, and then uses few:
// what counts is what a filter does.
func narrow(packet []byte) {
	const code, actions = 'O', 1 + 4 // behind the code and the version
	if packet[0] == code && len(packet) >= actions+4 {
		claimed := binary.BigEndian.Uint32(packet[actions:])
		binary.BigEndian.PutUint32(packet[actions:], claimed&uint32(offered))
	}
}
