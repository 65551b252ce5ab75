package load

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"

	"bufio"
)

// text reads the message whole.
func text(t *testing.T, m Message) []byte {
	t.Helper()
	all, err := io.ReadAll(m.Text())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestATextIsOfItsSizeAndTheSameEachTime(t *testing.T) {
	t.Parallel()
	sizes := []int{MinSize, MinSize + 1, MinSize + 2, 1000, 1 << 20}
	for n := range 300 {
		sizes = append(sizes, MinSize+n)
	}
	dots := 0
	for n, size := range sizes {
		for _, binary := range []bool{false, true} {
			m := Message{Number: uint64(n + 1), Size: size, Binary: binary, seed: 7}
			got := text(t, m)
			if len(got) != size || !bytes.Equal(got, text(t, m)) {
				t.Fatalf("%+v: %d octets", m, len(got))
			}
			if m.seed++; bytes.Equal(got, text(t, m)) {
				t.Fatalf("%+v: two seeds make the same", m)
			}
			if binary {
				continue
			}
			// What DATA changes nothing of: each line ends in CRLF.
			if rest := bytes.ReplaceAll(got, []byte("\r\n"), nil); !bytes.HasSuffix(got, []byte("\r\n")) || bytes.ContainsAny(rest, "\r\n") {
				t.Fatalf("%+v: not lines", m)
			}
			dots += bytes.Count(got, []byte("\r\n."))
		}
	}
	if dots == 0 {
		t.Error("no line begins with a dot")
	}
}

func TestTheLedgerKnowsAWholeMessageFromAllOthers(t *testing.T) {
	t.Parallel()
	l := NewLedger(3, func(*rand.Rand) (int, bool) { return 50_000, false })
	m, other := l.Next(), l.Next()
	whole, top := string(text(t, m)), "Return-Path: <a@b.example>\r\nReceived: from x\r\n\tby y; now\r\n"
	for what, wrong := range map[string]string{
		"nothing":           "",
		"the top alone":     top,
		"cut short":         top + whole[:len(whole)-1],
		"cut at 32 KiB":     top + whole[:32<<10],
		"something behind":  top + whole + ".",
		"a changed octet":   top + whole[:4000] + "\x00" + whole[4001:],
		"another field":     "X-Other: 1\r\n" + whole,
		"an unknown number": top + strings.Replace(whole, tokenField+"1\r\n", tokenField+"9\r\n", 1),
		"another's text":    top + strings.Replace(whole, tokenField+"1\r\n", tokenField+"2\r\n", 1),
	} {
		if err := l.Delivered(strings.NewReader(wrong)); err == nil || errors.Is(err, ErrBrokenOff) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := l.Delivered(io.MultiReader(strings.NewReader(top+whole[:9000]), iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, ErrBrokenOff) {
		t.Errorf("a connection that broke: %v", err)
	}
	l.Accepted(m)
	if a := l.Account(); a.Sent != 2 || a.Accepted != 1 || a.Delivered != 0 || len(a.Missing) != 1 || a.Missing[0] != m {
		t.Errorf("before it was delivered: %+v", a)
	}
	for range 2 {
		if err := l.Delivered(iotest.OneByteReader(strings.NewReader(top + whole))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Delivered(other.Text()); err != nil {
		t.Error(err)
	}
	if a := l.Account(); a.Delivered != 2 || a.Twice != 1 || a.Unasked != 1 || len(a.Missing) != 0 {
		t.Errorf("in the end: %+v", a)
	}
}

func TestADotWriterBringsTheTextAsItIs(t *testing.T) {
	t.Parallel()
	l := NewLedger(5, func(*rand.Rand) (int, bool) { return 30_000, false })
	m := l.Next()
	var wire bytes.Buffer
	w := textproto.NewWriter(bufio.NewWriter(&wire)).DotWriter()
	if _, err := io.Copy(w, m.Text()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, ok := bytes.CutSuffix(wire.Bytes(), []byte("\r\n.\r\n"))
	if got = bytes.ReplaceAll(got, []byte("\r\n.."), []byte("\r\n.")); !ok || !bytes.Equal(append(got, "\r\n"...), text(t, m)) {
		t.Error("the wire carries another text")
	}
}

func TestSizesSpreadFromLeastToMost(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	small, large := 0, 0
	for range 10_000 {
		switch n := Spread(random, MinSize, 1e6); {
		case n < MinSize || n > 1e6:
			t.Fatalf("a size of %d", n)
		case n < 1000:
			small++
		case n > 500_000:
			large++
		}
	}
	if small < 1000 || large < 500 {
		t.Errorf("of 10000, %d are below 1000 octets and %d above 500000", small, large)
	}
}
