// Package load is mail to try a server with: messages that are made from a seed
// and known again by their number, the client that sends them, and the ledger of
// what was accepted and what was delivered. It knows the wire and no server.
package load

import (
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"strings"
)

// Message is one to send. The seed and its fields make its text: nobody has to
// keep it.
type Message struct {
	Number uint64
	// Size is the text's, in octets; it is at least MinSize.
	Size int
	// Binary messages have a body of any octets, and need BDAT. The others have
	// lines that end in CRLF, some with a dot in front, and go either way.
	Binary bool

	seed uint64
}

// MinSize is that of the smallest message.
const MinSize = 200

// From and To are the envelope of all messages.
const (
	From = "sender@client.example.net"
	To   = "rcpt@example.org"
)

// Text is the message's text, anew with each call.
func (m Message) Text() io.Reader {
	head := fmt.Sprintf("%s%d\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: %d octets\r\n\r\n", tokenField, m.Number, From, To, m.Size)
	return io.MultiReader(strings.NewReader(head), &body{random: rand.NewPCG(m.seed, m.Number), left: m.Size - len(head), binary: m.Binary})
}

// body makes left octets.
type body struct {
	random *rand.PCG
	left   int
	binary bool
	made   []byte // and not yet read
	buffer [1 << 10]byte
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.made) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		b.make()
	}
	n := copy(p, b.made)
	b.made = b.made[n:]
	return n, nil
}

func (b *body) make() {
	if b.binary {
		b.made = b.buffer[:min(b.left, len(b.buffer))]
		for i := range b.made {
			if i%8 == 0 {
				b.fill(b.made[i:min(i+8, len(b.made))])
			}
		}
		b.left -= len(b.made)
		return
	}
	// A line of some length, but never so that one octet is left: it could
	// not be a line.
	word := b.random.Uint64()
	length := min(2+int(word%200), b.left)
	if b.left-length == 1 {
		length++
	}
	line := b.buffer[:length]
	for i := range length - 2 {
		line[i] = letters[(word>>32+uint64(i)*7)%uint64(len(letters))]
	}
	if length > 2 && word>>16%16 == 0 {
		line[0] = '.'
	}
	copy(line[length-2:], "\r\n")
	b.made = line
	b.left -= length
}

const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.0123456789\t\xe9\xff\x80=<>"

func (b *body) fill(p []byte) {
	word := b.random.Uint64()
	for i := range p {
		p[i] = byte(word >> (8 * i))
	}
}

// Spread draws sizes from least to most so that each doubling is as likely as the
// next: most messages are small, and most octets are in big ones.
func Spread(random *rand.Rand, least, most int) int {
	doublings := bits.Len(uint(most / least))
	low := least << random.IntN(doublings)
	return min(low+random.IntN(low), most)
}
