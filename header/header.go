// Package header reads the header fields of a message leniently, by bytes: what
// real mail holds, not what RFC 5322 wishes. It never fails on what it is
// given and never panics; it knows no addresses, dates or encodings.
//
// The header ends at the first empty line, or before the first line that is
// neither a field nor the continuation of one, so that a message without the
// empty line, or without any header, still has all its text. A line ends with
// LF; a CR before it belongs to the line end.
package header

import (
	"bytes"
	"io"
	"iter"
	"strings"
)

// MaxSize is the most octets of header that Read keeps.
const MaxSize = 1 << 20

// Header is the fields of a message in order. The zero Header has none. It is
// read-only and may be used from many goroutines.
type Header struct {
	fields []Field
}

// Field is one header field as it stands in the message.
type Field struct {
	// Name is as written, without the colon or space before it.
	Name string
	// Raw is the whole field: name, colon, value, with folds and line end.
	Raw []byte
	// Offset is where Raw begins in the text.
	Offset int64

	value int // where the value begins in Raw
}

// Value is the field's value unfolded: line ends taken out, white space around
// it trimmed, the octets otherwise as they are.
func (f Field) Value() string {
	v := bytes.TrimSpace(f.Raw[f.value:])
	if bytes.IndexByte(v, '\n') < 0 {
		return string(v)
	}
	var b strings.Builder
	b.Grow(len(v))
	for line := range bytes.Lines(v) {
		b.Write(trimLineEnd(line))
	}
	return b.String()
}

// Parse reads the header at the start of text, which may go on with the body.
// The fields share text's memory.
func Parse(text []byte) Header {
	var h Header
	var s Scanner
	var at int64
	for line := range bytes.Lines(text) {
		switch s.line(line) {
		case lineEnd:
			return h
		case lineField:
			name, value := split(line)
			h.fields = append(h.fields, Field{Name: string(name), Raw: line, Offset: at, value: value})
		case lineFold:
			last := &h.fields[len(h.fields)-1]
			last.Raw = text[last.Offset : at+int64(len(line))]
		}
		at += int64(len(line))
	}
	return h
}

// Read reads the header from r, at most MaxSize octets of it, and as little as
// it can of what follows. The error is r's; at the end of r there is none.
func Read(r io.Reader) (Header, error) {
	var s Scanner
	buf := make([]byte, 0, 4096)
	for !s.Done() && len(buf) < MaxSize {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), MaxSize)])
		s.Write(buf[len(buf) : len(buf)+n])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return Header{}, err
		}
	}
	return Parse(buf), nil
}

// Len is the number of fields.
func (h Header) Len() int { return len(h.fields) }

// Fields yields the fields in order.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for _, f := range h.fields {
			if !yield(f) {
				return
			}
		}
	}
}

// Get is the value of the first field of that name, in any case; "" when there
// is none.
func (h Header) Get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value()
		}
	}
	return ""
}

// Has reports whether there is a field of that name, in any case.
func (h Header) Has(name string) bool { return h.Count(name) > 0 }

// Count is the number of fields of that name, in any case.
func (h Header) Count(name string) int {
	n := 0
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// Values is the values of all fields of that name, in any case, in order.
func (h Header) Values(name string) []string {
	var vs []string
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			vs = append(vs, f.Value())
		}
	}
	return vs
}

// Joined is the values of all fields of that name joined by ", ".
func (h Header) Joined(name string) string { return strings.Join(h.Values(name), ", ") }

// split finds a field's name and where its value begins; value 0 means that
// line is no field. A name is at most maxPartial octets of printable ASCII
// without a colon; white space before the colon is let pass (RFC 5322 §4.5).
func split(line []byte) (name []byte, value int) {
	for i, c := range line {
		switch {
		case i == maxPartial:
			return nil, 0
		case c == ':':
			name = bytes.TrimRight(line[:i], " \t")
			if len(name) == 0 || bytes.ContainsAny(name, " \t") {
				return nil, 0
			}
			return name, i + 1
		case c == ' ' || c == '\t':
			if i == 0 {
				return nil, 0
			}
		case c <= ' ' || c >= 0x7f:
			return nil, 0
		}
	}
	return nil, 0
}

func trimLineEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}
