package send

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// Made returns a func that makes messages: from and to in the header, a subject
// that counts, and text up to size octets in all, if size is more than what the
// header needs.
func Made(from string, to []string, count, size int) func(n int) []byte {
	host := "localhost"
	if at := strings.LastIndexByte(from, '@'); at >= 0 {
		host = from[at+1:]
	}
	return func(n int) []byte {
		var b bytes.Buffer
		if from != "" {
			fmt.Fprintf(&b, "From: <%s>\r\n", from)
		}
		fmt.Fprintf(&b, "To: <%s>\r\n", strings.Join(to, ">,\r\n <"))
		fmt.Fprintf(&b, "Subject: incoming send %d of %d\r\n", n+1, max(count, 1))
		fmt.Fprintf(&b, "Date: %s\r\n", time.Now().Format(time.RFC1123Z))
		fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", rand.Text(), host)
		b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nSent by incoming send.\r\n")
		fillTo(&b, size)
		return b.Bytes()
	}
}

// fillTo adds lines of 76 letters until b has size octets.
func fillTo(b *bytes.Buffer, size int) {
	const letters = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwx\r\n"
	b.Grow(max(0, size-b.Len()))
	for left := size - b.Len(); left > 0; left = size - b.Len() {
		switch {
		case left >= len(letters):
			b.WriteString(letters)
		case left >= 2:
			b.WriteString(letters[:left-2] + "\r\n")
		default:
			b.Truncate(b.Len() - 2)
			b.WriteString("x\r\n")
		}
	}
}
