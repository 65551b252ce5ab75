package proxyproto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/pires/go-proxyproto"
)

// Header is what a balancer told.
type Header struct {
	// Source and Destination are the two ends of the connection to the
	// balancer: *net.TCPAddr, *net.UDPAddr or *net.UnixAddr. Both are nil when
	// it speaks for itself (LOCAL) or does not know (UNKNOWN, UNSPEC).
	Source, Destination net.Addr
}

const (
	mostV1   = 107        // octets of a header of version 1, its line end included
	prefixV2 = 16         // signature, command, family, length
	mostV2   = 4096       // octets behind that prefix: addresses and TLVs
	firstV2  = 2*108 + 16 // the longest addresses and the prefix: what is read at first
	sigV1    = "PROXY "
	sigV2    = "\r\n\r\n\x00\r\nQUIT\n"
)

// Read reads one header of either version from r, in whatever pieces it comes.
// What was read behind it is in rest; when err is not nil, rest is all that was
// read. A header of version 1 has 107 octets at most, one of version 2 4096
// beside its first 16. The fields behind the addresses (TLVs) are read and
// ignored. The error wraps ErrNone when the first octets are those of no header,
// and is io.EOF when there was not even one.
func Read(r io.Reader) (h Header, rest []byte, err error) {
	b := make([]byte, 0, firstV2)
	for {
		size, err := measure(b)
		if err != nil {
			return Header{}, b, err
		}
		if size > 0 && size <= len(b) {
			h, err := parse(b[:size])
			if err != nil {
				return Header{}, b, err
			}
			return h, b[size:], nil
		}
		if size > cap(b) {
			b = append(make([]byte, 0, size), b...)
		}
		n, err := readSome(r, b[len(b):cap(b)])
		if n == 0 {
			return Header{}, b, broken(len(b), err)
		}
		b = b[:len(b)+n]
	}
}

// readSome reads one octet at least, or returns an error. An error that comes
// with octets is left to come again.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// broken is an error of the connection after n octets of a header.
func broken(n int, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case late && n == 0:
		return fmt.Errorf("proxyproto: no PROXY header came in time: %w", err)
	case late:
		return fmt.Errorf("proxyproto: no whole PROXY header came in time, but %d octets: %w", n, err)
	case n == 0:
		return err
	}
	return fmt.Errorf("proxyproto: the PROXY header ends after %d octets: %w", n, io.ErrUnexpectedEOF)
}

// opening is what the first octets of a connection are.
type opening int

const (
	other opening = iota
	maybe         // too few to tell
	header
)

func begins(b []byte) opening {
	for _, sig := range []string{sigV1, sigV2} {
		n := min(len(b), len(sig))
		if string(b[:n]) == sig[:n] {
			if n == len(sig) {
				return header
			}
			return maybe
		}
	}
	return other
}

// measure is how long the header is that b begins with; 0 when that cannot be
// told yet.
func measure(b []byte) (int, error) {
	switch begins(b) {
	case other:
		return 0, ErrNone
	case maybe:
		return 0, nil
	}
	if b[0] == sigV1[0] {
		if end := bytes.IndexByte(b[:min(len(b), mostV1)], '\n'); end >= 0 {
			return end + 1, nil
		}
		if len(b) >= mostV1 {
			return 0, fmt.Errorf("proxyproto: PROXY header longer than %d octets", mostV1)
		}
		return 0, nil
	}
	if len(b) < prefixV2 {
		return 0, nil
	}
	size := int(binary.BigEndian.Uint16(b[prefixV2-2:]))
	if size > mostV2 {
		return 0, fmt.Errorf("proxyproto: PROXY header of %d octets, more than %d", prefixV2+size, prefixV2+mostV2)
	}
	return prefixV2 + size, nil
}

// unspec is version 2, PROXY, UNSPEC: a receiver may refuse that and the library
// does, or go by the connection's own ends as we do.
const unspec = sigV2 + "\x21\x00"

// parse takes a whole header apart. The library is given all of it at once: it
// takes one of version 1 that comes in pieces for an attack.
func parse(b []byte) (Header, error) {
	if bytes.HasPrefix(b, []byte(unspec)) {
		return Header{}, nil
	}
	p, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), mostV1+1))
	if err != nil {
		return Header{}, fmt.Errorf("proxyproto: bad PROXY header: %w", err)
	}
	if p.Command.IsLocal() {
		return Header{}, nil
	}
	return Header{Source: p.SourceAddr, Destination: p.DestinationAddr}, nil
}
