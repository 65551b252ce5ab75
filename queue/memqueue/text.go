package memqueue

import (
	"io"

	"github.com/incoming-mx/incoming/queue"
)

// chunk is the octets of each piece of a text but the last.
const chunk = 32 << 10

// text is octets that are appended to and never change, in pieces, so that a
// long one is not copied as it grows.
type text struct {
	pieces [][]byte
	size   int64
}

func (t *text) append(p []byte) {
	for len(p) > 0 {
		last := len(t.pieces) - 1
		if last < 0 || len(t.pieces[last]) == chunk {
			t.pieces = append(t.pieces, nil)
			last++
			if last > 0 {
				t.pieces[last] = make([]byte, 0, chunk)
			}
		}
		n := min(len(p), chunk-len(t.pieces[last]))
		t.pieces[last] = append(t.pieces[last], p[:n]...)
		t.size += int64(n)
		p = p[n:]
	}
}

// open is a queue.Source.
func (t text) open() (queue.Raw, error) { return t, nil }

// ReadAt reads as io.ReaderAt says.
func (t text) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < t.size {
		piece := t.pieces[off/chunk]
		m := copy(p[n:], piece[off%chunk:])
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close has nothing to free.
func (t text) Close() error { return nil }
