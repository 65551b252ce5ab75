package diskqueue

import (
	"bytes"
	"encoding/binary"

	"github.com/incoming-mx/incoming/queue"
)

// foundFrame is a record that a scan has found.
type foundFrame struct {
	frame
	off, n int64
}

// badRecord is a part of a segment that is no whole record, though there is, or
// must have been, one.
type badRecord struct {
	frame   // as far as it can be told; no id when it cannot: then text is all of it
	off, n  int64
	durable bool // it was whole once: later records were written when it was on the disk
	blank   bool // nothing is there that looks like a record of this life
}

// scan is what a segment holds that has no footer.
type scan struct {
	whole []foundFrame
	bad   []badRecord
}

// scanFrames reads the records of one life in the octets of a segment. After
// one that is not whole it goes on behind it. Behind the last that can be found
// there is nothing that anybody was promised.
func scanFrames(b []byte, salt uint64) scan {
	var s scan
	var durable int64 // what the records say was synced before them
	for off := int64(firstRecord); off+frameSize <= int64(len(b)); {
		h, ok := decodeFrameHeader(b[off:], salt)
		if !ok || off+h.length > int64(len(b)) {
			next := nextFrame(b, off+frameAlign, salt)
			if next < 0 {
				if last, was := tornFrame(b[off:], off, salt); was {
					s.bad = append(s.bad, last)
				}
				break
			}
			bad, was := tornFrame(b[off:next], off, salt)
			if !was {
				bad = badRecord{frame: frame{text: b[off:next]}, off: off, n: next - off, blank: true}
			}
			s.bad = append(s.bad, bad)
			off = next
			continue
		}
		f, whole := decodeFrame(b[off:], h)
		if whole {
			s.whole = append(s.whole, foundFrame{f, off, h.length})
			durable = max(durable, int64(h.durable))
		} else {
			s.bad = append(s.bad, badRecord{frame: f, off: off, n: h.length})
		}
		off += aligned(h.length)
	}
	for i := range s.bad {
		s.bad[i].durable = s.bad[i].off+s.bad[i].n <= durable
	}
	return s
}

// tornFrame tells whether a record begins in b though its frame is damaged: it
// has the salt, or its checksum is that of a frame with the salt. One that says
// of itself, with the lengths that belong to it, that it is no message is none.
func tornFrame(b []byte, off int64, salt uint64) (bad badRecord, was bool) {
	if len(b) < frameSize {
		return bad, false
	}
	if binary.LittleEndian.Uint64(b[8:]) != salt {
		head := bytes.Clone(b[:min(headSize, len(b))])
		binary.LittleEndian.PutUint64(head[8:], salt)
		h, ok := decodeFrameHeader(head, salt)
		if !ok || h.length > int64(len(b)) {
			return bad, false
		}
		f, _ := decodeFrame(b, h)
		return badRecord{frame: f, off: off, n: h.length}, true
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	metaLen, idLen := int64(binary.LittleEndian.Uint32(b[16:])), int64(b[25])
	switch k := kind(b[24]); {
	case k == kindRemoved && metaLen == 8 && n == frameSize+idLen+metaLen,
		(k == kindUpdate || k == kindRetried) && n == frameSize+idLen+metaLen,
		k == kindLeased && metaLen == 0 && n == frameSize+idLen:
		return bad, false
	}
	if n < frameSize || n > int64(len(b)) {
		n = int64(len(b))
	}
	return badRecord{frame: frame{text: b[:n]}, off: off, n: n}, true
}

// nextFrame finds the next place from off on where a record of this life
// begins; -1 when there is none. Text cannot imitate one, for it was sent by
// somebody who does not know the salt.
func nextFrame(b []byte, off int64, salt uint64) int64 {
	var pattern [8]byte
	binary.LittleEndian.PutUint64(pattern[:], salt)
	for at := off + 8; at < int64(len(b)); {
		i := bytes.Index(b[at:], pattern[:])
		if i < 0 {
			return -1
		}
		begin := at + int64(i) - 8
		if begin%frameAlign == 0 {
			if h, ok := decodeFrameHeader(b[begin:], salt); ok && begin+h.length <= int64(len(b)) {
				return begin
			}
		}
		at += int64(i) + 1
	}
	return -1
}

// list is what a footer would say of a record found.
func (f *foundFrame) list() (footed, error) {
	r := footed{kind: f.kind, id: queue.ID(bytes.Clone([]byte(f.id))), off: uint32(f.off), n: uint32(f.n)}
	if f.kind == kindRemoved {
		r.received = int64(lifeOf(f.meta))
	}
	if f.kind == kindMessage || f.kind == kindUpdate || f.kind == kindRetried {
		rec, err := decode(f.id, f.meta)
		if err != nil {
			return r, err
		}
		r.received, r.next = rec.ReceivedAt.UnixMilli(), dueIn(rec)
	}
	return r, nil
}
