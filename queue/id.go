package queue

import (
	"crypto/rand"
	"time"
)

// ID names a message over retries and restarts: it is the idempotency key. IDs
// that we make are 26 characters of 0-9A-Z and sort by time of making; a spool
// may hold others, so nothing may be read out of an ID.
type ID string

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID makes an ID for a message received at t: 48 bits of milliseconds, then
// 80 random bits, so that two machines or a clock set back do not collide.
func NewID(t time.Time) ID {
	var b [16]byte
	rand.Read(b[6:]) // never fails: it crashes the program instead
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	// 128 bits as 26 digits of 5 bits, the first of which has only 3.
	var out [26]byte
	hi := uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32 |
		uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7])
	lo := uint64(b[8])<<56 | uint64(b[9])<<48 | uint64(b[10])<<40 | uint64(b[11])<<32 |
		uint64(b[12])<<24 | uint64(b[13])<<16 | uint64(b[14])<<8 | uint64(b[15])
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return ID(out[:])
}
