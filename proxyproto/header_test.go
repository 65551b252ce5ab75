package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a header of version 2 with those octets behind its length field.
func v2(command, family byte, payload string) string {
	b := append([]byte(sigV2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return string(b) + payload
}

const (
	local, proxy  = 0x20, 0x21
	tcp4, udp4    = 0x11, 0x12
	tcp6, udp6    = 0x21, 0x22
	stream, dgram = 0x31, 0x32
)

var (
	ends4    = "\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19"
	ends6    = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x07" + "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + "\x13\x88\x00\x19"
	endsUnix = "/run/client" + strings.Repeat("\x00", 97) + "/run/server" + strings.Repeat("\x00", 97)
	tlv      = "\x04\x00\x03\x00\x00\x00" + "\x05\x00\x02id" + "\xe0\x00\x00"
)

type headerCase struct {
	name, octets string
	source       string // network and address; "" where the balancer told none
	err          string // a part of the error; "none" is ErrNone
}

func headerCases() []headerCase {
	longest := "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
	return []headerCase{
		{"C01 v1 TCP4", "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n", "tcp 198.51.100.7:5000", ""},
		{"C01 v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 5000 25\r\n", "tcp [2001:db8::7]:5000", ""},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "", ""},
		{"v1 UNKNOWN of 107 octets", longest, "", ""},
		{"v1 port 0", "PROXY TCP4 198.51.100.7 192.0.2.1 0 0\r\n", "tcp 198.51.100.7:0", ""},
		{"C01 v2 TCP4", v2(proxy, tcp4, ends4), "tcp 198.51.100.7:5000", ""},
		{"C01 v2 TCP6", v2(proxy, tcp6, ends6), "tcp [2001:db8::7]:5000", ""},
		{"v2 UDP4", v2(proxy, udp4, ends4), "udp 198.51.100.7:5000", ""},
		{"v2 UDP6", v2(proxy, udp6, ends6), "udp [2001:db8::7]:5000", ""},
		{"v2 unix", v2(proxy, stream, endsUnix), "unix /run/client", ""},
		{"v2 unix datagram", v2(proxy, dgram, endsUnix), "unixgram /run/client", ""},
		{"v2 LOCAL", v2(local, 0, ""), "", ""},
		{"v2 LOCAL with addresses", v2(local, tcp4, ends4+tlv), "", ""},
		{"v2 LOCAL with a length of its own", v2(local, tcp4, "abc"), "", ""},
		{"v2 UNSPEC", v2(proxy, 0, ""), "", ""},
		{"v2 with TLVs", v2(proxy, tcp4, ends4+tlv), "tcp 198.51.100.7:5000", ""},
		{"v2 with TLVs that are none", v2(proxy, tcp4, ends4+"\x05\xff\xff"), "tcp 198.51.100.7:5000", ""},
		{"v2 with 4096 octets", v2(proxy, tcp4, ends4+strings.Repeat("x", 4096-len(ends4))), "tcp 198.51.100.7:5000", ""},

		{"C05 v1 of 108 octets", strings.Replace(longest, "\r\n", " \r\n", 1), "", "longer than 107"},
		{"C05 v1 without end", "PROXY " + strings.Repeat("x", 1000), "", "longer than 107"},
		{"C05 v2 with 4097 octets", v2(proxy, tcp4, ends4+strings.Repeat("x", 4097-len(ends4))), "", "more than 4112"},
		{"v1 with a bare LF", "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\n", "", "bad PROXY header"},
		{"v1 of another family", "PROXY TCP5 198.51.100.7 192.0.2.1 5000 25\r\n", "", "bad PROXY header"},
		{"v1 of the wrong family", "PROXY TCP4 2001:db8::7 2001:db8::1 5000 25\r\n", "", "bad PROXY header"},
		{"v1 with a bad port", "PROXY TCP4 198.51.100.7 192.0.2.1 65536 25\r\n", "", "bad PROXY header"},
		{"v1 with too few", "PROXY TCP4 198.51.100.7 192.0.2.1 5000\r\n", "", "bad PROXY header"},
		{"v1 with too much", "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25 x\r\n", "", "bad PROXY header"},
		{"v2 of another version", v2(0x11, tcp4, ends4), "", "bad PROXY header"},
		{"v2 of another command", v2(0x22, tcp4, ends4), "", "bad PROXY header"},
		{"v2 of another family", v2(proxy, 0x41, ends4), "", "bad PROXY header"},
		{"v2 of another transport", v2(proxy, 0x13, ends4), "", "bad PROXY header"},
		{"v2 too short for its addresses", v2(proxy, tcp4, ends4[:11]), "", "bad PROXY header"},
		{"no header", "EHLO x\r\n", "", "none"},
		{"TLS", "\x16\x03\x01\x02\x00", "", "none"},
		{"lower case", "proxy TCP4 198.51.100.7 192.0.2.1 5000 25\r\n", "", "none"},
		{"nearly v1", "PROXYTCP4 198.51.100.7 192.0.2.1 5000 25\r\n", "", "none"},
		{"nearly v2", "\r\n\r\n\x00\r\nQUIT\r\n", "", "none"},
	}
}

// Each header is read the same from one piece, octet by octet (C08) and cut in
// two at every offset, and what follows it is left, whatever it is.
func TestRead(t *testing.T) {
	t.Parallel()
	const behind = "EHLO x\r\n"
	for _, c := range headerCases() {
		whole := c.octets + behind
		readers := map[string]io.Reader{"whole": strings.NewReader(whole), "C08 byte by byte": iotest.OneByteReader(strings.NewReader(whole)),
			"with the end": iotest.DataErrReader(strings.NewReader(whole))}
		for i := range min(len(c.octets), 300) {
			readers[fmt.Sprint("cut at ", i)] = io.MultiReader(strings.NewReader(whole[:i]), strings.NewReader(whole[i:]))
		}
		for how, r := range readers {
			h, rest, err := Read(r)
			left, readErr := io.ReadAll(r)
			if readErr != nil {
				t.Fatal(readErr)
			}
			source := ""
			if h.Source != nil {
				source = h.Source.Network() + " " + h.Source.String()
			}
			if source != c.source || (h.Source == nil) != (h.Destination == nil) {
				t.Errorf("%s, %s: from %q to %v, want %q", c.name, how, source, h.Destination, c.source)
			}
			want := behind
			switch {
			case c.err == "none":
				want = whole
				if !errors.Is(err, ErrNone) {
					t.Errorf("%s, %s: %v", c.name, how, err)
				}
			case c.err != "":
				want = whole
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s, %s: %v, want %q", c.name, how, err, c.err)
				}
			case err != nil:
				t.Errorf("%s, %s: %v", c.name, how, err)
			}
			if got := string(rest) + string(left); got != want {
				t.Errorf("%s, %s: %q is left, want %q", c.name, how, got, want)
			}
		}
	}
}

// C06: who leaves in the middle is told from who never said a word.
func TestACutHeaderIsAnError(t *testing.T) {
	t.Parallel()
	for _, octets := range []string{"PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n", v2(proxy, tcp4, ends4+tlv)} {
		for i := range octets {
			_, rest, err := Read(strings.NewReader(octets[:i]))
			want := io.ErrUnexpectedEOF
			if i == 0 {
				want = io.EOF
			}
			if !errors.Is(err, want) || string(rest) != octets[:i] {
				t.Errorf("%.200q: %v, %q is left", octets[:i], err, rest)
			}
			_, rest, err = Read(io.MultiReader(strings.NewReader(octets[:i]), iotest.ErrReader(os.ErrDeadlineExceeded)))
			if !errors.Is(err, os.ErrDeadlineExceeded) || string(rest) != octets[:i] {
				t.Errorf("%q in time: %v, %q is left", octets[:i], err, rest)
			}
		}
	}
}

// C05: however much comes, no more than one header is read.
func TestNoMoreIsReadThanAHeader(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"PROXY ", sigV2 + "\x21\x11\xff\xff", sigV2 + "\x21\x11\x10\x00"} {
		r := io.MultiReader(strings.NewReader(begin), endless{})
		_, rest, _ := Read(r)
		if len(rest) > prefixV2+mostV2 {
			t.Errorf("%.200q: %d octets were read", begin, len(rest))
		}
	}
	_, _, err := Read(silent{})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// Whatever comes: the same from any pieces, nothing lost behind a header, both
// ends or none.
func FuzzRead(f *testing.F) {
	for _, c := range headerCases() {
		f.Add([]byte(c.octets), uint8(3))
	}
	f.Fuzz(func(t *testing.T, octets []byte, piece uint8) {
		first := bytes.NewReader(octets)
		h, rest, err := Read(first)
		if (h.Source == nil) != (h.Destination == nil) || err != nil && h.Source != nil {
			t.Errorf("%.200q: %+v %v", octets, h, err)
		}
		used := len(octets) - first.Len() - len(rest)
		if err != nil {
			used = 0
		}
		if !bytes.HasPrefix(octets[used:], rest) {
			t.Errorf("%.200q: %.200q is left: %v", octets, rest, err)
		}
		if h.Source != nil {
			if _, ok := h.Source.(*net.UnixAddr); !ok && h.Source.String() == "" {
				t.Errorf("%.200q: an empty address", octets)
			}
		}
		r := bytes.NewReader(octets)
		again, rest2, err2 := Read(&pieces{r, int(piece%64) + 1})
		same := fmt.Sprint(h.Source, h.Destination, err) == fmt.Sprint(again.Source, again.Destination, err2)
		if !same || err == nil && used != len(octets)-r.Len()-len(rest2) {
			t.Errorf("%.200q whole: %v %v; in pieces of %d: %v %v", octets, h, err, piece, again, err2)
		}
	})
}

type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }
