package diskqueue

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// TestTheTwoWaysToEncodeAgree fills records at random, so that each is written
// by the short way, the long one, or both.
func TestTheTwoWaysToEncodeAgree(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	maybe := func(s string) string {
		if rnd.IntN(2) == 0 {
			return ""
		}
		return s
	}
	for range 3000 {
		r := &record{hasSize: rnd.IntN(9) > 0, hasCRC: rnd.IntN(9) > 0, crc: rnd.Uint32N(1 << 20)}
		r.ID, r.Size, r.Attempts = "01M85DMBZ8CA7VD49J9ANQ5ZCM", rnd.Int64N(1<<40), rnd.IntN(3)
		r.Envelope = queue.Envelope{MailFrom: maybe("\"a\\b\" <&>@x.example"), SMTPUTF8: rnd.IntN(2) == 0, Body: maybe("8BITMIME")}
		for range rnd.IntN(3) {
			to := queue.Recipient{Address: maybe("ü\u2028\x01@y.example") + "\xff"}
			if rnd.IntN(9) == 0 {
				to.Notify = "NEVER"
			}
			r.Envelope.RcptTo = append(r.Envelope.RcptTo, to)
		}
		r.ReceivedAt = time.UnixMilli(rnd.Int64N(1 << 41))
		if rnd.IntN(2) == 0 {
			r.RequeuedAt, r.NextAttempt = time.UnixMilli(rnd.Int64N(1<<41)), time.UnixMilli(rnd.Int64N(1<<41))
		}
		r.LastError, r.Quarantine = maybe("line\r\n\tbreak"), maybe("spam")
		r.Prepend = []byte(maybe("Received: from x\r\n\tby y\r\n"))
		r.Listener, r.Peer, r.Hello = maybe("mx"), maybe("192.0.2.1:25"), maybe("x.example")
		if rnd.IntN(9) == 0 {
			r.TLS = &queue.TLSInfo{Version: "TLS 1.3"}
		}
		if rnd.IntN(9) == 0 {
			r.Facts = queue.Facts{"a.b": []byte(`{"c":1}`)}
		}
		short, err := r.encode()
		must(t, err)
		long, err := marshal(r.meta(), nil)
		must(t, err)
		if string(short) != string(long) {
			t.Fatalf("%s\nand %s", short, long)
		}
	}
}
