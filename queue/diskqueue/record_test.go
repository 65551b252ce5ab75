package diskqueue

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
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
	scannedAny := 0
	var used []byte
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
		used, err = r.encodeInto(used) // a buffer that held the one before, of any length
		must(t, err)
		if string(used) != string(long) {
			t.Fatalf("%s\nand %s in a used buffer", long, used)
		}
		var scanned metaJSON
		if !scanMeta(short, &scanned) {
			continue
		}
		scannedAny++
		var read metaJSON
		must(t, json.Unmarshal(short, &read))
		if len(read.RcptTo) == 0 {
			read.RcptTo = nil
		}
		if !reflect.DeepEqual(scanned, read) {
			t.Fatalf("%+v\nand %+v of %s", scanned, read, short)
		}
		for _, torn := range [][]byte{short[:rnd.IntN(len(short))], append(short, ' ')} {
			var m metaJSON
			if scanMeta(torn, &m) {
				t.Fatalf("%q is read: %+v", torn, m)
			}
		}
	}
	if scannedAny < 100 {
		t.Errorf("%d of 3000 were read the short way", scannedAny)
	}
}

func BenchmarkDecode(b *testing.B) {
	r := &record{hasSize: true, hasCRC: true, crc: 7}
	r.ID, r.Size = "01M85DMBZ8CA7VD49J9ANQ5ZCM", 4096
	r.Envelope = queue.Envelope{MailFrom: "from@x.example", RcptTo: []queue.Recipient{{Address: "to@y.example"}}}
	r.ReceivedAt = time.UnixMilli(1 << 40)
	r.Prepend = []byte("Received: from x.example ([192.0.2.1])\r\n\tby y.example with ESMTP id 01M85DMBZ8CA7VD49J9ANQ5ZCM\r\n\tfor <to@y.example>; Tue, 24 Nov 2026 12:00:00 +0000\r\n")
	r.Listener, r.Peer, r.Hello = "mx", "192.0.2.1:25", "x.example"
	meta, err := r.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(r.ID, meta); err != nil {
			b.Fatal(err)
		}
	}
}
