package smtp

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// slowDecode is the obvious decoder: the text ends before the first CRLF.CRLF,
// a CRLF being thought before it.
func slowDecode(wire string) (text string, used, bareLF, bareCR int, done bool) {
	end := strings.Index("\r\n"+wire, "\r\n.\r\n")
	if end < 0 {
		return "", 0, 0, 0, false
	}
	text, bareLF, bareCR = undot(wire[:end])
	return text, end + 3, bareLF, bareCR, true
}

// sink keeps what is taken and counts the calls.
type sink struct {
	bytes.Buffer
	calls int
}

func (s *sink) take(p []byte) { s.calls++; s.Write(p) }

// decodePieces runs the real decoder over wire in pieces of up to most octets.
func decodePieces(t *testing.T, wire []byte, next func(left int) int) (text string, used int, d textDecoder, done bool) {
	var out sink
	for used < len(wire) && !done {
		piece := bytes.Clone(wire[used:min(len(wire), used+next(len(wire)-used))])
		n := 0
		n, done = d.decode(piece, &out)
		if n > len(piece) || !done && n != len(piece) {
			t.Fatalf("used %d of %d octets, done %t", n, len(piece), done)
		}
		if d.piece != nil {
			t.Fatal("a buffer is held between two pieces")
		}
		clear(piece) // what was given away must not be kept
		used += n
	}
	return out.String(), used, d, done
}

func checkDecode(t *testing.T, wire []byte, next func(left int) int) {
	t.Helper()
	want, wantUsed, lf, cr, wantDone := slowDecode(string(wire))
	got, used, d, done := decodePieces(t, wire, next)
	if done != wantDone {
		t.Fatalf("%q: done %t, want %t", wire, done, wantDone)
	}
	if !done {
		return
	}
	if got != want || used != wantUsed || d.bareLF != lf || d.bareCR != cr {
		t.Fatalf("%q:\ngot  %q, %d octets, lf %d, cr %d\nwant %q, %d octets, lf %d, cr %d", wire, got, used, d.bareLF, d.bareCR, want, wantUsed, lf, cr)
	}
}

// TestDecoderAgainstTheObviousOne tries every text of up to 8 octets of the
// four that matter, whole and octet by octet.
func TestDecoderAgainstTheObviousOne(t *testing.T) {
	t.Parallel()
	most := 8
	if testing.Short() {
		most = 6
	}
	for n := range most + 1 {
		wire := make([]byte, n)
		for code := range 1 << (2 * n) {
			for i := range wire {
				wire[i] = "\r\n.a"[code>>(2*i)&3]
			}
			checkDecode(t, wire, func(left int) int { return left })
			checkDecode(t, wire, func(int) int { return 1 })
		}
	}
}

func TestDecoderInRandomPieces(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		wire := []byte(randomText(r) + "\r\n.\r\n" + randomText(r))
		checkDecode(t, wire, func(left int) int { return 1 + r.IntN(left) })
	}
}

// TestDecoderGivesBigPieces: however a text is made, the Body is not called for
// each of its lines.
func TestDecoderGivesBigPieces(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"\n", ".\r\n..\r\n", "..\r\n", "a\r\n", "\r", "\r\n..a\n"} {
		wire := []byte(strings.Repeat(line, 10*bigBuffer/len(line)))
		var d textDecoder
		var out sink
		for piece := range slicesOf(wire, bigBuffer) {
			if _, done := d.decode(piece, &out); done {
				break
			}
		}
		if most := 3*len(wire)/bigBuffer + 1; out.calls > most {
			t.Errorf("%q: %d calls for %d octets", line, out.calls, len(wire))
		}
	}
}

func slicesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// TestSuspicionIsALoneDotBesideABareLineEnd: not each bare line end is an
// attack.
func TestSuspicionIsALoneDotBesideABareLineEnd(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]suspicion{
		"a\nb\r\n":        0,
		"a\rb\r\n":        0,
		"a\n.b\n":         0,
		"a\r.b\n":         0,
		"a\r\n.b\n":       0,
		"a\n.\n":          suspectLF,
		"a\n.\r\n":        suspectLF,
		"a\r\n.\n":        suspectLF,
		"a\r.\n":          suspectLF,
		"a\n.\r":          suspectLF,
		"a\r.\r":          suspectCR,
		"a\r\n.\rb":       suspectCR,
		".\n":             suspectLF,
		"a\r.\r\n":        suspectCR,
		"a\r.\rb\r\n.\nc": suspectCR | suspectLF,
	} {
		for name, next := range map[string]func(int) int{"whole": func(n int) int { return n }, "octet by octet": func(int) int { return 1 }} {
			if _, _, d, _ := decodePieces(t, []byte(wire), next); d.suspect != want {
				t.Errorf("%q %s: %b, want %b", wire, name, d.suspect, want)
			}
		}
	}
}

// FuzzData takes octets off the wire as the text of DATA, and sends them as a
// text, with the dots that a client adds: the message is that text, and the
// command behind it is obeyed.
func FuzzData(f *testing.F) {
	for _, seed := range []string{"a\r\n.\r\n", ".\r\n", "..\r\n.\r\n", "a\n.\n\r\n.\r\n", "\r\n.\r.\r\n.\r\n", "a\r\r\n.\r\n", "a\r\n.\n" + evil, "a\n.\r\n" + evil} {
		f.Add([]byte(seed), []byte{1, 4})
	}
	f.Fuzz(func(t *testing.T, octets, sizes []byte) {
		next := func(left int) int { return left }
		if i := 0; len(sizes) > 0 {
			next = func(left int) int { i++; return 1 + int(sizes[i%len(sizes)])%left }
		}
		checkDecode(t, []byte(string(octets)+"\r\n.\r\n"), next)

		text := string(octets)
		sent := envelope + "DATA\r\n" + stuff(text) + "MAIL FROM:<behind@x.example>\r\n"
		p := play(&Config{Hostname: "mx.example"}, nil, piecesOf([]byte(sent), sizes))
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		lines := strings.Split(text, "\r\n")
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], "\n", "\r\n")
		}
		saw := strings.Join(p.saw, "\n")
		want := "data\nmessage " + showText([]byte(strings.Join(lines, "\r\n")))
		_, behind, _ := strings.Cut(saw, want)
		if !strings.Contains(saw, want) || !strings.HasSuffix(behind, "\nmail <behind@x.example>") || len(strings.Split(behind, "\n")) != 2 || len(p.faults) > 0 {
			t.Fatalf("%q: %s\nwant %s\n%s", sent, saw, want, p.faults)
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	wire := []byte(strings.Repeat(line, bigBuffer/len(line)))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	var d textDecoder
	var out nowhere
	for b.Loop() {
		d.decode(wire, out)
	}
}

type nowhere struct{}

func (nowhere) take([]byte) {}
