package diskqueue

import (
	"fmt"
	"hash/crc32"
	"io"

	"github.com/incoming-mx/incoming/internal/vfs"
)

// castagnoli is the table of CRC-32C, which processors compute; it is never
// changed.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// body is the text of a draft: in lent chunks as long as it is small, then in a
// file. It is not safe for concurrent use.
type body struct {
	buffers *buffers
	chunks  []*[chunk]byte
	file    vfs.File // when set, all of the text is there
	size    int64
	crc     uint32
}

// buffer appends p in memory. It reports false, and appends nothing, when the
// text has grown too big for that or the budget is used up.
func (b *body) buffer(p []byte) bool {
	if b.size+int64(len(p)) > mostBuffered {
		return false
	}
	held := len(b.chunks)
	for int64(len(b.chunks))*chunk < b.size+int64(len(p)) {
		c := b.buffers.get()
		if c == nil {
			b.release(held)
			return false
		}
		b.chunks = append(b.chunks, c)
	}
	b.count(p)
	for at := b.size - int64(len(p)); len(p) > 0; {
		n := copy(b.chunks[at/chunk][at%chunk:], p)
		at += int64(n)
		p = p[n:]
	}
	return true
}

// spill moves the text to f, an empty file, and lets go of the memory.
func (b *body) spill(f vfs.File) error {
	if err := b.writeTo(f); err != nil {
		return err
	}
	b.file = f
	b.release(0)
	return nil
}

// append writes p to the file.
func (b *body) append(p []byte) error {
	if err := writeAll(b.file, p); err != nil {
		return err
	}
	b.count(p)
	return nil
}

func (b *body) count(p []byte) {
	b.size += int64(len(p))
	b.crc = crc32.Update(b.crc, castagnoli, p)
}

// writeTo writes the chunks to f.
func (b *body) writeTo(f io.Writer) error {
	left := b.size
	for _, c := range b.chunks {
		n := min(left, chunk)
		if err := writeAll(f, c[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// readAt reads from the chunks.
func (b *body) readAt(p []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.size-off)]
	n := 0
	for n < len(p) {
		at := off + int64(n)
		n += copy(p[n:], b.chunks[at/chunk][at%chunk:])
	}
	return n, nil
}

// release gives back all chunks but the first keep.
func (b *body) release(keep int) {
	for i := keep; i < len(b.chunks); i++ {
		b.buffers.put(b.chunks[i])
		b.chunks[i] = nil
	}
	b.chunks = b.chunks[:keep]
}

func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
