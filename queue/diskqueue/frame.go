package diskqueue

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/incoming-mx/incoming/queue"
)

// What the journal's files are made of: docs/disk-format.md has the layout in
// full. All numbers are little-endian.
const (
	// A header is written twice into a segment's first block, the second time
	// at secondHeader, for what is in a segment is worth nothing without.
	// Records begin behind the block, so that no record shares one with it.
	headerSize   = 64
	secondHeader = 2048
	headersSize  = secondHeader + headerSize
	firstRecord  = 4096
	trailerSize  = 48

	// frameSize is what stands before the ID, the meta and the text of a
	// record. Records begin at multiples of frameAlign.
	frameSize  = 32
	frameAlign = 8

	journalVersion = 1
)

var (
	headerMagic  = [8]byte{'I', 'N', 'C', 'O', 'M', 'I', 'N', 'G'}
	trailerMagic = [8]byte{'I', 'N', 'C', 'F', 'O', 'O', 'T', '1'}
)

// kind is what a record says of a message.
type kind uint8

const (
	_           kind = iota
	kindMessage      // here it is, with its meta and its text, and not in delivery
	kindUpdate       // this is its meta from now on
	kindRemoved      // it is no more; meta is the seq of the life that it lay in
	kindLeased       // it is in delivery
	_                // was used before the first release
	kindRetried      // it is not, and this is its meta from now on
	endOfKinds
)

// header is what a segment's life begins with. A life is the time from one
// writing of the header to the next: what an earlier one left behind it has
// another salt, and is never read.
type segmentHeader struct {
	size int64 // of the file
	seq  uint64
	salt uint64
}

// encode is what is written where a segment begins.
func (h *segmentHeader) encode() []byte {
	b := make([]byte, headersSize)
	copy(b, headerMagic[:])
	binary.LittleEndian.PutUint32(b[8:], journalVersion)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.size))
	binary.LittleEndian.PutUint64(b[24:], h.seq)
	binary.LittleEndian.PutUint64(b[32:], h.salt)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	copy(b[secondHeader:], b[:headerSize])
	return b
}

// headerState is what a header says of its segment.
type headerState int

const (
	headerFree   headerState = iota // no life, or one that never began
	headerLive                      // a life
	headerLater                     // of a later version than ours
	headerBroken                    // it was something, and is not whole
)

// decodeHeaders reads what a segment begins with, from whichever header is
// whole.
func decodeHeaders(b []byte) (segmentHeader, headerState) {
	first, state := decodeHeader(b[:headerSize])
	second, other := decodeHeader(b[secondHeader:headersSize])
	switch {
	case state == headerLive || state == headerLater:
		return first, state
	case other == headerLive || other == headerLater || other == headerBroken:
		return second, other
	}
	return first, state
}

// decodeHeader tells a life that ended (its first octet is zero), one whose
// beginning was torn (the checksum was written last, and is not there), and
// one that was damaged.
func decodeHeader(b []byte) (segmentHeader, headerState) {
	var h segmentHeader
	if b[0] == 0 || binary.LittleEndian.Uint32(b[60:]) == 0 {
		return h, headerFree
	}
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		if b[60] == 0 || b[61] == 0 || b[62] == 0 || b[63] == 0 {
			return h, headerFree // torn within the checksum, or a damage that looks like it
		}
		return h, headerBroken
	}
	if !bytes.Equal(b[:8], headerMagic[:]) {
		return h, headerBroken
	}
	if binary.LittleEndian.Uint32(b[8:]) > journalVersion {
		return h, headerLater
	}
	h.size = int64(binary.LittleEndian.Uint64(b[16:]))
	h.seq = binary.LittleEndian.Uint64(b[24:])
	h.salt = binary.LittleEndian.Uint64(b[32:])
	return h, headerLive
}

// frame is a record as it lies in a segment.
type frame struct {
	kind    kind
	durable uint32 // the octets of the segment known to be synced when it was written
	id      queue.ID
	meta    []byte
	text    []byte
}

// frameLen is the octets that a record takes, without what aligns the next.
func frameLen(id queue.ID, meta, text int64) int64 {
	return frameSize + int64(len(id)) + meta + text
}

func aligned(n int64) int64 { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// beginFrame appends the frame of a record whose text follows, length octets in
// all; endFrame is to be called when all of it is there.
func beginFrame(b []byte, k kind, salt uint64, durable uint32, id queue.ID, meta []byte, length int64) []byte {
	var h [frameSize]byte
	binary.LittleEndian.PutUint32(h[4:], uint32(length))
	binary.LittleEndian.PutUint64(h[8:], salt)
	binary.LittleEndian.PutUint32(h[16:], uint32(len(meta)))
	binary.LittleEndian.PutUint32(h[20:], durable)
	h[24], h[25] = byte(k), byte(len(id))
	at := len(b)
	b = append(b, h[:]...)
	b = append(b, id...)
	binary.LittleEndian.PutUint32(b[at+28:], headChecksum(b[at:], len(id)))
	return append(b, meta...)
}

// headChecksum is over the frame and the ID behind it, but for the checksums.
func headChecksum(b []byte, idLen int) uint32 {
	return crc32.Update(crc32.Checksum(b[4:28], castagnoli), castagnoli, b[frameSize:frameSize+idLen])
}

// endFrame writes the checksum of the record that begins at b[at] and is the
// last one in b, and aligns what follows.
func endFrame(b []byte, at int) []byte {
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	for (len(b)-at)%frameAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// headSize is the most that the frame and the ID of a record take.
const headSize = frameSize + 255

// frameHeader is the first octets of a record, checked by a checksum of their
// own, which covers the ID too, and against the life they lie in.
type frameHeader struct {
	crc     uint32
	length  int64
	metaLen int64
	durable uint32
	kind    kind
	idLen   int64
}

func decodeFrameHeader(b []byte, salt uint64) (h frameHeader, ok bool) {
	if len(b) < frameSize || len(b) < frameSize+int(b[25]) ||
		binary.LittleEndian.Uint64(b[8:]) != salt ||
		binary.LittleEndian.Uint32(b[28:]) != headChecksum(b, int(b[25])) {
		return h, false
	}
	h = frameHeader{
		crc:     binary.LittleEndian.Uint32(b),
		length:  int64(binary.LittleEndian.Uint32(b[4:])),
		metaLen: int64(binary.LittleEndian.Uint32(b[16:])),
		durable: binary.LittleEndian.Uint32(b[20:]),
		kind:    kind(b[24]),
		idLen:   int64(b[25]),
	}
	return h, h.kind > 0 && h.kind < endOfKinds && frameSize+h.idLen+h.metaLen <= h.length
}

// decodeFrame takes a whole record apart. whole is false when its checksum does
// not fit: what it says is then not to be relied on.
func decodeFrame(b []byte, h frameHeader) (f frame, whole bool) {
	b = b[:h.length]
	f = frame{kind: h.kind, durable: h.durable}
	f.id = queue.ID(b[frameSize : frameSize+h.idLen])
	f.meta = b[frameSize+h.idLen : frameSize+h.idLen+h.metaLen]
	f.text = b[frameSize+h.idLen+h.metaLen:]
	return f, crc32.Checksum(b[4:], castagnoli) == h.crc
}

// footed is a record as the footer of a segment tells of it.
type footed struct {
	kind     kind
	id       queue.ID
	off, n   uint32
	received int64 // milliseconds since 1970, of a message and an update; of one that is no more, the life it lay in
	next     int64 // when it is due; likewise
}

// footedLen is the octets of a footed record in a footer.
func footedLen(id queue.ID) int64 { return 2 + int64(len(id)) + 4 + 4 + 8 + 8 }

func (r *footed) append(b []byte) []byte {
	b = append(b, byte(r.kind), byte(len(r.id)))
	b = append(b, r.id...)
	b = binary.LittleEndian.AppendUint32(b, r.off)
	b = binary.LittleEndian.AppendUint32(b, r.n)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.received))
	return binary.LittleEndian.AppendUint64(b, uint64(r.next))
}

// encodeFooter is the end of a sealed segment: what is in it, and a trailer
// that is the file's last octets and says where that begins.
func encodeFooter(records []footed, salt uint64) []byte {
	n := trailerSize
	for i := range records {
		n += int(footedLen(records[i].id))
	}
	b := make([]byte, 0, n)
	for i := range records {
		b = records[i].append(b)
	}
	var t [trailerSize]byte
	copy(t[:], trailerMagic[:])
	binary.LittleEndian.PutUint64(t[8:], salt)
	binary.LittleEndian.PutUint64(t[16:], uint64(len(b)))
	binary.LittleEndian.PutUint64(t[24:], uint64(len(records)))
	binary.LittleEndian.PutUint32(t[32:], crc32.Checksum(b, castagnoli))
	binary.LittleEndian.PutUint32(t[44:], crc32.Checksum(t[:44], castagnoli))
	return append(b, t[:]...)
}

// trailer is the last octets of a segment that is sealed.
type trailer struct {
	length int64
	count  uint64
	crc    uint32
}

func decodeTrailer(b []byte, salt uint64) (t trailer, ok bool) {
	if len(b) < trailerSize || !bytes.Equal(b[:8], trailerMagic[:]) ||
		binary.LittleEndian.Uint64(b[8:]) != salt ||
		binary.LittleEndian.Uint32(b[44:]) != crc32.Checksum(b[:44], castagnoli) {
		return t, false
	}
	return trailer{
		length: int64(binary.LittleEndian.Uint64(b[16:])),
		count:  binary.LittleEndian.Uint64(b[24:]),
		crc:    binary.LittleEndian.Uint32(b[32:]),
	}, true
}

// decodeFooter reads the records of a footer; nil and false when it is not
// what the trailer says.
func decodeFooter(b []byte, t trailer) ([]footed, bool) {
	if int64(len(b)) != t.length || crc32.Checksum(b, castagnoli) != t.crc {
		return nil, false
	}
	records := make([]footed, 0, min(t.count, uint64(len(b))/26))
	for len(b) > 0 {
		if len(b) < 2 || int64(len(b)) < footedLen("")+int64(b[1]) {
			return nil, false
		}
		r := footed{kind: kind(b[0]), id: queue.ID(b[2 : 2+int(b[1])])}
		b = b[2+int(b[1]):]
		r.off, r.n = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		r.received, r.next = int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:]))
		b = b[24:]
		records = append(records, r)
	}
	return records, uint64(len(records)) == t.count
}
