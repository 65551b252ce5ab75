package transcript

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

const (
	short = 4 << 10 // a dialogue up to this is cut everywhere
	edge  = 512     // a longer one at each place of its first and last so many octets
)

// Cuts is every way in which sent is to be played: a name to find it again by,
// and the pieces. The pieces are only valid until the next.
func Cuts(sent []byte, seed uint64) iter.Seq2[string, [][]byte] {
	return func(yield func(string, [][]byte) bool) {
		if !yield("whole", [][]byte{sent}) {
			return
		}
		if len(sent) <= short {
			if !yield("octet by octet", octets(sent)) {
				return
			}
		} else {
			for round := range uint64(8) {
				name := fmt.Sprintf("random pieces, seed %d/%d", seed, round)
				if !yield(name, random(sent, rand.New(rand.NewPCG(seed, round)))) {
					return
				}
			}
		}
		pieces := make([][]byte, 2)
		for i := 1; i < len(sent); i++ {
			if len(sent) > short && i >= edge && i <= len(sent)-edge {
				continue
			}
			pieces[0], pieces[1] = sent[:i], sent[i:]
			if !yield(fmt.Sprintf("cut at %d", i), pieces) {
				return
			}
		}
	}
}

func octets(sent []byte) [][]byte {
	pieces := make([][]byte, len(sent))
	for i := range sent {
		pieces[i] = sent[i : i+1]
	}
	return pieces
}

// random is pieces from one octet to some thousands, most of them small.
func random(sent []byte, r *rand.Rand) [][]byte {
	var pieces [][]byte
	for len(sent) > 0 {
		n := min(1+r.IntN(1<<(1+r.IntN(13))), len(sent))
		pieces = append(pieces, sent[:n])
		sent = sent[n:]
	}
	return pieces
}
