package incoming_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
)

// TestIdleTLSNeedsNoBigStack: once the garbage collector has looked at it, a
// connection that is idle under TLS after a message has a stack of 4 KiB, like one
// in clear. It is not parallel: it measures the process.
func TestIdleTLSNeedsNoBigStack(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes bigger frames")
	}
	const n = 300
	stacks := func() uint64 {
		var m runtime.MemStats
		for range 5 { // it shrinks by half each time
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	ca := testcert.NewCA(t)
	srv := incomingtest.NewServer(t, incoming.Config{Listeners: []incoming.Listener{{Address: "127.0.0.1:0", TLS: incoming.TLSOptional,
		TLSConfig: ca.Issue(t, testcert.Options{}).ServerConfig()}}})
	r := bufio.NewReader(nil)
	say := func(nc net.Conn, command, code string) {
		t.Helper()
		if _, err := nc.Write([]byte(command)); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || line[:3] != code {
				t.Fatalf("%q was answered %q, %v", command, line, err)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	open := func(secure bool) {
		var nc net.Conn
		nc, err := net.Dial("tcp", srv.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if err := nc.SetDeadline(time.Now().Add(incomingtest.Wait)); err != nil {
			t.Fatal(err)
		}
		r.Reset(nc)
		say(nc, "", "220")
		if secure {
			say(nc, "STARTTLS\r\n", "220")
			nc = tls.Client(nc, ca.ClientConfig("localhost"))
			r.Reset(nc)
		}
		say(nc, "EHLO client.test\r\n", "250")
		say(nc, "MAIL FROM:<a@example.net>\r\n", "250")
		say(nc, "RCPT TO:<b@example.org>\r\n", "250")
		say(nc, "DATA\r\n", "354")
		say(nc, "Subject: x\r\n\r\ntext\r\n.\r\n", "250")
	}
	for range n {
		open(false)
	}
	before := stacks()
	for range n {
		open(true)
	}
	each := (stacks() - before) / n
	t.Logf("%d octets of stack a connection", each)
	if each > 4<<10+512 {
		t.Errorf("%d octets of stack a connection, want at most 4 KiB", each)
	}
}
