package header

import "bytes"

// Scanner finds where the header of a message ends while its text streams by.
// It keeps no more than the start of one line. The zero Scanner is ready.
type Scanner struct {
	size     int64 // octets of the header, the empty line not counted
	fields   int
	received int
	done     bool
	partial  []byte // an unfinished line's start, at most maxPartial+1
	partLen  int64  // how long that line is so far
}

var received = []byte("Received")

// maxPartial is how much of a line is kept to tell what it is.
const maxPartial = 1000

type lineKind int

const (
	lineEnd   lineKind = iota // the header ends before this line
	lineField                 // a field begins
	lineFold                  // the last field goes on
)

// Write takes the next octets of the text. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !s.done {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.keep(p)
			break
		}
		line := p[:i+1]
		if s.partLen > 0 {
			if s.keep(line); s.done {
				break
			}
			line = s.partial
		}
		length := max(s.partLen, int64(len(line)))
		s.partial, s.partLen = s.partial[:0], 0
		if s.line(line) == lineEnd {
			s.partial = nil
			break
		}
		s.size += length
		p = p[i+1:]
	}
	return n, nil
}

// keep takes a piece of an unfinished line. A line so long that no more of it is
// kept shows already whether it belongs to the header: text without a header
// may be one line of many megabytes.
func (s *Scanner) keep(p []byte) {
	known := s.partLen > maxPartial
	s.partLen += int64(len(p))
	s.partial = append(s.partial, p[:min(len(p), maxPartial+1-len(s.partial))]...)
	if !known && s.partLen > maxPartial && !s.belongs(s.partial) {
		s.done, s.partial, s.partLen = true, nil, 0
	}
}

// belongs reports whether a line that is not empty begins or continues a field.
func (s *Scanner) belongs(line []byte) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return s.fields > 0
	}
	_, value := split(line)
	return value > 0
}

// line takes one line, whole or its first maxPartial+1 octets.
func (s *Scanner) line(line []byte) lineKind {
	kind := lineEnd
	switch {
	case len(trimLineEnd(line)) == 0:
	case line[0] == ' ' || line[0] == '\t':
		if s.fields > 0 {
			kind = lineFold
		}
	default:
		if name, value := split(line); value > 0 {
			kind = lineField
			s.fields++
			if bytes.EqualFold(name, received) {
				s.received++
			}
		}
	}
	s.done = s.done || kind == lineEnd
	return kind
}

// Done reports whether the end of the header has been seen.
func (s *Scanner) Done() bool { return s.done }

// Size is the octets of the header seen so far, an unfinished line included,
// the empty line behind it not.
func (s *Scanner) Size() int64 {
	if s.done {
		return s.size
	}
	return s.size + s.partLen
}

// Sure is Size without an unfinished line that may yet turn out to be none of
// the header's: it does not depend on how the text was cut.
func (s *Scanner) Sure() int64 {
	if s.partLen > maxPartial {
		return s.size + s.partLen
	}
	return s.size
}

// Fields is the number of fields seen so far, an unfinished line not counted.
func (s *Scanner) Fields() int { return s.fields }

// Received is how many of the fields are Received.
func (s *Scanner) Received() int { return s.received }
