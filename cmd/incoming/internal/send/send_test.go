package send

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeServer is an SMTP server that answers as reply says; what it accepted is
// in messages.
type fakeServer struct {
	addr string
	// reply is the answer to a line, and to "." for the end of a message; ""
	// closes the connection.
	reply func(line string) string

	mu       sync.Mutex
	messages []string
	dialogue []string
	open     int
	most     int
}

func serve(t *testing.T, reply func(line string) string) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{addr: l.Addr().String(), reply: reply}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { s.session(c) })
		}
	})
	t.Cleanup(func() { l.Close(); sessions.Wait() })
	return s
}

func (s *fakeServer) session(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.open--; s.mu.Unlock() }()
	fmt.Fprint(c, "220 fake ESMTP\r\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		s.mu.Lock()
		s.dialogue = append(s.dialogue, line)
		s.mu.Unlock()
		answer := s.reply(line)
		if answer == "" {
			return
		}
		fmt.Fprint(c, answer+"\r\n")
		if line == "QUIT" {
			return
		}
		if line == "DATA" && strings.HasPrefix(answer, "354") && !s.data(c, r) {
			return
		}
	}
}

// said is the lines that clients have sent so far.
func (s *fakeServer) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dialogue)
}

func (s *fakeServer) data(c net.Conn, r *bufio.Reader) bool {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	answer := s.reply(".")
	if strings.HasPrefix(answer, "2") {
		s.mu.Lock()
		s.messages = append(s.messages, b.String())
		s.mu.Unlock()
	}
	fmt.Fprint(c, answer+"\r\n")
	return answer != ""
}

func accepting(line string) string {
	switch {
	case strings.HasPrefix(line, "EHLO"):
		return "250-fake\r\n250-SIZE 1000000\r\n250 8BITMIME"
	case line == "DATA":
		return "354 go on"
	case line == ".":
		return "250 2.0.0 Ok: queued as X"
	case line == "QUIT":
		return "221 bye"
	}
	return "250 ok"
}

func options(s *fakeServer) Options {
	return Options{Server: s.addr, From: "a@x.example", To: []string{"b@y.example"}, Timeout: time.Minute,
		Message: func(int) []byte { return []byte("Subject: x\r\n\r\n.dot\r\nbody\r\n") }}
}

func TestMessagesArriveByteForByte(t *testing.T) {
	t.Parallel()
	s := serve(t, accepting)
	o := options(s)
	o.Count, o.Connections = 50, 5
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum.Sent != 50 || sum.Failed != 0 || len(s.messages) != 50 || sum.P50 <= 0 || sum.P99 < sum.P50 || sum.Reply != "250 2.0.0 Ok: queued as X" {
		t.Errorf("%+v, %d messages there", sum, len(s.messages))
	}
	for _, m := range s.messages {
		if m != string(o.Message(0)) {
			t.Fatalf("got %q", m)
		}
	}
	if s.most > 5 {
		t.Errorf("%d connections at once, and 5 were asked for", s.most)
	}
}

func TestParametersAreOfferedAndTrue(t *testing.T) {
	t.Parallel()
	s := serve(t, accepting)
	o := options(s)
	o.Message = func(int) []byte { return []byte("é\r\n") }
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := "MAIL FROM:<a@x.example> SIZE=4 BODY=8BITMIME"; !slices.Contains(s.said(), want) {
		t.Errorf("no %q in %q", want, s.said())
	}
}

func TestARefusedMessageIsCountedAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	var ends int
	s := serve(t, func(line string) string {
		if line == "." {
			if ends++; ends == 2 {
				return "554 5.6.0 no"
			}
		}
		return accepting(line)
	})
	o := options(s)
	o.Count = 3
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Sent != 2 || sum.Failed != 1 || !slices.Equal(sum.Errors, []Reason{{"554 5.6.0 no", 1}}) || !slices.Contains(s.said(), "RSET") {
		t.Errorf("%+v after %q", sum.Errors, s.said())
	}
}

func TestARefusedRecipientDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, func(line string) string {
		if line == "RCPT TO:<no@y.example>" {
			return "550 5.1.1 who?"
		}
		return accepting(line)
	})
	o := options(s)
	o.To = []string{"no@y.example", "b@y.example"}
	sum, err := Run(t.Context(), o)
	if err != nil || sum.Sent != 1 || sum.Refused != 1 || sum.Failed != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	o.To = o.To[:1]
	sum, err = Run(t.Context(), o)
	if err != nil || sum.Sent != 0 || sum.Failed != 1 || sum.Errors[0].Text != "no@y.example: 550 5.1.1 who?" {
		t.Errorf("none accepted: %+v, %v", sum.Errors, err)
	}
}

func TestAServerThatBreaksOffIsGivenUpOn(t *testing.T) {
	t.Parallel()
	s := serve(t, func(line string) string {
		if line == "DATA" {
			return ""
		}
		return accepting(line)
	})
	o := options(s)
	o.Count = 1000
	sum, err := Run(t.Context(), o)
	if err != nil || sum.Sent != 0 || sum.Failed != 1000 {
		t.Errorf("%+v, %v", sum, err)
	}
	if n := len(s.said()); n > 4*maxFailedConnections {
		t.Errorf("it went on for %d lines", n)
	}
}

func TestNobodyThereIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, err := Run(t.Context(), Options{Server: addr, To: []string{"a"}, Message: func(int) []byte { return nil }}); err == nil {
		t.Error("no error")
	}
}

func TestSTARTTLSNotOfferedIsAnError(t *testing.T) {
	t.Parallel()
	o := options(serve(t, accepting))
	o.TLS = TLSStart
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "does not offer STARTTLS") {
		t.Errorf("got %v", err)
	}
}

func TestMadeMessagesHaveTheirSize(t *testing.T) {
	t.Parallel()
	make := Made("a@x.example", []string{"b@y.example", "c@y.example"}, 3, 0)
	base := len(make(0))
	for size := base; size < base+200; size++ {
		m := Made("a@x.example", []string{"b@y.example", "c@y.example"}, 3, size)(1)
		if d := len(m) - size; d != 0 || !strings.HasSuffix(string(m), "\r\n") {
			t.Errorf("size %d: %d octets", size, len(m))
		}
	}
	if a, b := string(make(0)), string(make(1)); a == b || !strings.Contains(a, "Subject: incoming send 1 of 3\r\n") {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	d := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	if quantile(d, 50) != 5 || quantile(d, 99) != 10 || quantile(nil, 50) != 0 || quantile(d[:1], 50) != 1 {
		t.Error(quantile(d, 50), quantile(d, 99))
	}
}

// By LMTP the end of a text has a reply for each recipient that was accepted.
func TestByLMTPEachRecipientIsAnswered(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, end             string // the replies to the end
		sent, failed, refused int
		reply                 string
	}{
		{"all", "250 one\r\n250 two", 1, 0, 1, "250 one"},
		{"the second", "452 full\r\n250 two", 1, 0, 2, "250 two"},
		{"none", "452 full\r\n550 no", 0, 1, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(line string) string {
				switch {
				case strings.HasPrefix(line, "EHLO"):
					return "500 this is LMTP"
				case strings.Contains(line, "<c@"):
					return "550 unknown"
				case line == ".":
					return tc.end
				}
				return accepting(line)
			})
			o := options(s)
			o.LMTP, o.To = true, []string{"a@y.example", "c@y.example", "b@y.example"}
			sum, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Sent != tc.sent || sum.Failed != tc.failed || sum.Refused != tc.refused || sum.Reply != tc.reply {
				t.Errorf("got %+v", sum)
			}
			if said := s.said(); !strings.HasPrefix(said[0], "LHLO ") || said[len(said)-1] != "QUIT" {
				t.Errorf("it said %q", said)
			}
		})
	}
}
