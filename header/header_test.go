package header

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
)

func TestHeaderEndsWhereTheFieldsEnd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	for _, tc := range []struct {
		name, text string
		size       int
		fields     []string // name=value
	}{
		{"usual", "A: 1\r\nB: 2\r\n\r\nC: 3\r\n", 12, []string{"A=1", "B=2"}},
		{"bare line feeds", "A: 1\nB: 2\n\nC: 3\n", 10, []string{"A=1", "B=2"}},
		{"folded", "A: 1\r\n\t2\r\n  3\r\n\r\n", 15, []string{"A=1\t2  3"}},
		{"no empty line", "A: 1\r\nhello there\r\nB: 2\r\n", 6, []string{"A=1"}},
		{"no header", "hello there\r\nB: 2\r\n", 0, nil},
		{"empty line first", "\r\nB: 2\r\n", 0, nil},
		{"fold first", " A: 1\r\n", 0, nil},
		{"empty text", "", 0, nil},
		{"empty value", "A:\r\n\r\n", 4, []string{"A="}},
		{"space before the colon", "A : 1\r\n\r\n", 7, []string{"A=1"}},
		{"space in the name", "A B: 1\r\n\r\n", 0, nil},
		{"colon first", ": 1\r\n\r\n", 0, nil},
		{"eight bits in the value", "A: \xe9\xff\r\n\r\n", 7, []string{"A=\xe9\xff"}},
		{"eight bits in the name", "\xc3\xa9: 1\r\n\r\n", 0, nil},
		{"NUL in the value", "A: a\x00b\r\n\r\n", 8, []string{"A=a\x00b"}},
		{"no line end at the end", "A: 1\r\nB: 2", 10, []string{"A=1", "B=2"}},
		{"white space alone goes on with the field", "A: 1\r\n  \r\nB: 2\r\n\r\n", 16, []string{"A=1", "B=2"}},
		{"very long value", "A: " + long + "\r\n\r\n", 3005, []string{"A=" + long}},
		{"very long line without colon", "A: 1\r\n" + long + ": 2\r\n\r\n", 6, []string{"A=1"}},
		{"colons in the value", "A: b: c:d\r\n\r\n", 11, []string{"A=b: c:d"}},
		{"mbox line", "From a@b Mon\r\nA: 1\r\n\r\n", 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := Parse([]byte(tc.text))
			var got []string
			checkScan(t, tc.text, tc.size)
			for f := range h.Fields() {
				got = append(got, f.Name+"="+f.Value())
				if raw := tc.text[f.Offset : int(f.Offset)+len(f.Raw)]; raw != string(f.Raw) {
					t.Errorf("raw %q, but the text has %q at %d", f.Raw, raw, f.Offset)
				}
			}
			if strings.Join(got, "|") != strings.Join(tc.fields, "|") {
				t.Errorf("fields %q, want %q", got, tc.fields)
			}
			checkScan(t, tc.text, tc.size)
			r, err := Read(iotest.OneByteReader(strings.NewReader(tc.text)))
			if err != nil || r.Len() != h.Len() {
				t.Errorf("Read: %d fields, %v; want %d", r.Len(), err, h.Len())
			}
		})
	}
}

func checkScan(t *testing.T, text string, size int) {
	t.Helper()
	for cut := range len(text) + 1 {
		var s Scanner
		s.Write([]byte(text[:cut]))
		s.Write([]byte(text[cut:]))
		if s.Size() != int64(size) {
			t.Fatalf("cut at %d: size %d, want %d", cut, s.Size(), size)
		}
	}
}

func TestLookUpIgnoresCaseAndKeepsOrder(t *testing.T) {
	t.Parallel()
	h := Parse([]byte("Received: one\r\nsubject: hello\r\nRECEIVED: two\r\n three\r\n\r\nReceived: body\r\n"))
	if got := h.Joined("received"); got != "one, two three" {
		t.Errorf("Joined = %q", got)
	}
	if got := h.Get("Subject"); got != "hello" {
		t.Errorf("Get = %q", got)
	}
	if h.Count("Received") != 2 || !h.Has("received") || h.Has("X") || h.Get("X") != "" || h.Values("X") != nil {
		t.Error("Count, Has, Get or Values is wrong")
	}
}

func TestReadStopsAtItsBound(t *testing.T) {
	t.Parallel()
	endless := io.MultiReader(strings.NewReader("A: 1\r\nB: "), zeros{})
	h, err := Read(endless)
	if err != nil || h.Get("A") != "1" {
		t.Fatalf("A = %q, %v", h.Get("A"), err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// slowField is a field's name and the colon behind it.
var slowField = regexp.MustCompile(`^([!-9;-~]+)[ \t]*:`)

// slowHeader is the obvious reader of a header: the fields, name and all, and
// whether the end was seen.
func slowHeader(text string) (names, raw []string, ended bool) {
	for line := range strings.Lines(text) {
		begins := slowField.FindStringSubmatch(line)
		switch bare := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"); {
		case bare != "" && (bare[0] == ' ' || bare[0] == '\t') && len(raw) > 0:
			raw[len(raw)-1] += line
		case bare != "" && begins != nil && len(begins[0]) <= maxPartial:
			names, raw = append(names, begins[1]), append(raw, line)
		default:
			return names, raw, true
		}
	}
	return names, raw, false
}

// FuzzHeader holds Parse, Read and Scanner against the obvious reader, however the
// text is cut.
func FuzzHeader(f *testing.F) {
	for _, text := range []string{"A: 1\r\n 2\r\nB:\r\n\r\nbody", "no header at all\r\n", "A: 1\n\n", "A: b\r\n c\r\n\r\nbody", "no header at all", " A: b\r\n", "A : b\r\r\n\r\r\n",
		"A: \xc2\xa0b\xc2\x85\r\n", "A\x00: b\r\n", ": b\r\n", "A b: c\r\n", "A: b\r\n\r", "\xff", "\xff: b\r\n", "A:\xff\r\n \xff\n", "\xff\xff:\n"} {
		f.Add([]byte(text), []byte{0, 3, 1})
	}
	f.Fuzz(func(t *testing.T, short, sizes []byte) {
		if len(short) > 1500 { // what Read stops at is twice as much
			return
		}
		// An octet that is no letter anywhere stands for many.
		text := bytes.ReplaceAll(short, []byte("\xff"), bytes.Repeat([]byte("a"), 499))
		names, raw, ended := slowHeader(string(text))
		checkFields(t, text, Parse(text), names, raw)
		r, err := Read(&cutReader{text: text, sizes: sizes})
		if err != nil {
			t.Fatal(err)
		}
		checkFields(t, text, r, names, raw)

		// An unfinished line is told from a field only when it is long.
		last := bytes.LastIndexByte(text, '\n') + 1
		if len(text)-last <= maxPartial {
			_, raw, ended = slowHeader(string(text[:last]))
		} else if !ended {
			_, raw, _ = slowHeader(string(text[:last]))
		}
		want := int64(len(strings.Join(raw, "")))
		if !ended {
			want = int64(len(text))
		}
		var s Scanner
		cut := cutReader{text: text, sizes: sizes}
		for piece := cut.next(); len(piece) > 0; piece = cut.next() {
			s.Write(piece)
			clear(piece) // it must not be kept
			if len(s.partial) > maxPartial+1 {
				t.Fatalf("%d octets are kept", len(s.partial))
			}
		}
		if s.Done() != ended || s.Fields() != len(raw) || s.Size() != want {
			t.Fatalf("%q in %v: done %t, %d fields, %d octets; want %t, %d, %d", short, sizes, s.Done(), s.Fields(), s.Size(), ended, len(raw), want)
		}
	})
}

func checkFields(t *testing.T, text []byte, h Header, names, raw []string) {
	t.Helper()
	if h.Len() != len(raw) {
		t.Fatalf("%q: %d fields, want %q", text, h.Len(), raw)
	}
	i, at := 0, int64(0)
	for f := range h.Fields() {
		value := raw[i][strings.IndexByte(raw[i], ':')+1:]
		for _, end := range []string{"\r\n", "\n"} {
			value = strings.ReplaceAll(value, end, "")
		}
		if f.Name != names[i] || string(f.Raw) != raw[i] || f.Offset != at || f.Value() != strings.TrimSpace(value) {
			t.Fatalf("%q: field %d is %q, %q at %d, with %q; want %q, %q at %d, with %q", text, i, f.Name, f.Raw, f.Offset, f.Value(), names[i], raw[i], at, value)
		}
		at += int64(len(f.Raw))
		i++
	}
}

// cutReader gives text in pieces of those sizes, over and over.
type cutReader struct {
	text, sizes []byte
	i           int
}

func (c *cutReader) next() []byte {
	n := len(c.text)
	if len(c.sizes) > 0 {
		n = min(n, 1+int(c.sizes[c.i%len(c.sizes)]))
		c.i++
	}
	piece := bytes.Clone(c.text[:n])
	c.text = c.text[n:]
	return piece
}

func (c *cutReader) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(c.sizes) > 0 {
		n = min(n, 1+int(c.sizes[c.i%len(c.sizes)]))
		c.i++
	}
	n = copy(p[:n], c.text)
	c.text = c.text[n:]
	return n, nil
}
