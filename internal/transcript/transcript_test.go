package transcript

import (
	"bytes"
	"io"
	"testing"
	"testing/fstest"
)

func TestEscapeAndBack(t *testing.T) {
	t.Parallel()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, b := range [][]byte{nil, all, []byte("a "), []byte(`\r\\`)} {
		got, err := Unescape(Escape(b))
		if err != nil || got != string(b) {
			t.Errorf("Unescape(Escape(%q)) = %q, %v", b, got, err)
		}
	}
	for _, bad := range []string{`\x8`, `\xgg`, `\q`} {
		if got, err := Unescape(bad); err == nil {
			t.Errorf("Unescape(%q) = %q", bad, got)
		}
	}
}

func TestLoadReadsEachKindOfLine(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{
		"hello.txt": {Data: []byte("S: 220 hi\nC: EHLO x\nS: 250 x\n")},
		"case.txt":  {Data: []byte("# why\nuse hello\nset: a 1\nC| MAIL\nC: \\0\nS* 2 500 no\nC* 3 ab\nset: b 2\nEND quit\n")},
		"bad.txt":   {Data: []byte("what\n")},
		"loop.txt":  {Data: []byte("use loop\n")},
	}
	s, err := Load(dir, "case")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(bytes.Join(s.Sent(), []byte("|"))); got != "EHLO x\r\n|MAIL\x00\r\n|ababab" {
		t.Errorf("sent %q", got)
	}
	if got := string(s.Answered()); got != "220 hi\r\n250 x\r\n500 no\r\n500 no\r\n" {
		t.Errorf("answered %q", got)
	}
	if got := s.Settings("set"); len(got) != 2 || got[0] != "a 1" || got[1] != "b 2" {
		t.Errorf("settings %q", got)
	}
	if s.Ended() != "quit" {
		t.Errorf("ended %q", s.Ended())
	}
	for _, name := range []string{"bad", "loop", "missing"} {
		if _, err := Load(dir, name); err == nil {
			t.Errorf("Load(%s): no error", name)
		}
	}
}

func TestRewrittenReplacesTheServersHalf(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{
		"hello.txt": {Data: []byte("S: 220 hi\nC: EHLO x\nS: 250 x\n")},
		"case.txt":  {Data: []byte("# why\nuse hello\nset: a 1\nC| MAIL\nS: old\nsaw: old\nC* 3 ab\nEND old\n")},
	}
	s, err := Load(dir, "case")
	if err != nil {
		t.Fatal(err)
	}
	got := s.Rewritten("220 hi\r\n", []string{"250 x\r\n", "1\r\n", "2\r\n2\r\n2\r\n"}, "saw", []string{"one"}, "eof")
	want := "# why\nuse hello\nset: a 1\nC| MAIL\nS: 1\nC* 3 ab\nS* 3 2\nsaw: one\nEND eof\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestCutsAreTheSameOctets(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 5, short, short + 1, 3 * short} {
		sent := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
		ways := 0
		for name, pieces := range Cuts(sent, 1) {
			ways++
			if got := bytes.Join(pieces, nil); !bytes.Equal(got, sent) {
				t.Fatalf("%d octets, %s: other octets", n, name)
			}
		}
		want := map[int]int{0: 2, 1: 2, 5: 6, short: short + 1, short + 1: 9 + 2*edge - 2, 3 * short: 9 + 2*edge - 2}[n]
		if ways != want {
			t.Errorf("%d octets: %d ways, want %d", n, ways, want)
		}
	}
}

func TestConnKeepsWhatWasSaidWhen(t *testing.T) {
	t.Parallel()
	c := NewConn([][]byte{[]byte("abc"), []byte("d")})
	say := func(s string) {
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want string) {
		b := make([]byte, 2)
		n, err := c.Read(b)
		if string(b[:n]) != want || (err != nil) != (want == "") {
			t.Fatalf("read %q, %v, want %q", b[:n], err, want)
		}
	}
	say("0")
	read("ab")
	read("c")
	say("1")
	read("d")
	say("2")
	read("")
	if turns := c.Turns(); turns[0] != "0" || turns[1] != "1" || turns[2] != "2" {
		t.Errorf("turns %q", turns)
	}
	if _, inOrder := c.Said(); !inOrder {
		t.Error("in order, and not seen so")
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	say("late")
	if _, inOrder := c.Said(); inOrder {
		t.Error("written after CloseWrite, and not seen")
	}
}
