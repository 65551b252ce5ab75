package header

import (
	"bytes"
	"io"
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

func FuzzHeader(f *testing.F) {
	f.Add([]byte("A: 1\r\n 2\r\nB:\r\n\r\nbody"), 3)
	f.Add([]byte("no header at all\r\n"), 0)
	f.Add([]byte("A: 1\n\n"), 5)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		h := Parse(text)
		var end int64
		for fd := range h.Fields() {
			if fd.Offset != end || !bytes.Equal(fd.Raw, text[fd.Offset:fd.Offset+int64(len(fd.Raw))]) {
				t.Fatalf("field %q at %d does not follow the one before, which ends at %d", fd.Raw, fd.Offset, end)
			}
			end += int64(len(fd.Raw))
			_ = fd.Value() // must not panic
		}
		cut = max(0, min(cut, len(text)))
		var one, two Scanner
		one.Write(text)
		two.Write(text[:cut])
		two.Write(text[cut:])
		if one.Size() != two.Size() || one.Fields() != two.Fields() || one.Done() != two.Done() {
			t.Fatalf("split at %d changes the scan: %+v and %+v", cut, one, two)
		}
	})
}
