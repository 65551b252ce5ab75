package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// player is a server that says what a dialogue tells it to, one dialogue a
// connection. A line is a step:
//
//	S: text      say text and CRLF
//	S| text      say text
//	S* N text    say text N times, with CRLF
//	C: text      wait for a line that begins with text
//	text         read a text to its dot
//	rest         read to the end of the connection
//	hang         do nothing until the test ends
//	close        close it
type player struct {
	address string
	texts   chan string
	stop    chan struct{} // closed when the test ends
}

func play(t *testing.T, dialogues ...string) *player {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	p := &player{address: l.Addr().String(), texts: make(chan string, 16), stop: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if i >= len(dialogues) {
				t.Errorf("a connection more than the %d there are dialogues for", len(dialogues))
				_ = nc.Close()
				continue
			}
			if err := p.one(nc, dialogues[i]); err != nil {
				t.Errorf("connection %d: %v", i+1, err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		close(p.stop)
		<-done
	})
	return p
}

func (p *player) one(nc net.Conn, dialogue string) error {
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	in := bufio.NewReader(nc)
	for step := range strings.Lines(dialogue) {
		step = strings.TrimLeft(strings.TrimRight(step, "\n"), " \t")
		if err := p.step(nc, in, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

func (p *player) step(nc net.Conn, in *bufio.Reader, step string) error {
	mark, arg, _ := strings.Cut(step, " ")
	times := 1
	if mark == "S*" {
		n, rest, _ := strings.Cut(arg, " ")
		var err error
		if times, err = strconv.Atoi(n); err != nil {
			return err
		}
		arg = rest
	}
	switch mark {
	case "":
	case "S:", "S|", "S*":
		text, err := transcript.Unescape(arg)
		if err != nil {
			return err
		}
		if mark != "S|" {
			text += "\r\n"
		}
		for range times {
			if _, err := io.WriteString(nc, text); err != nil && times == 1 {
				return err
			}
		}
	case "C:":
		line, err := in.ReadString('\n')
		if exact := strings.Contains(arg, "<"); err != nil || !strings.HasPrefix(line, arg) || exact && line != arg+"\r\n" {
			return fmt.Errorf("got %q, %v", line, err)
		}
	case "text", "rest":
		return p.read(in, mark == "text")
	case "hang":
		<-p.stop
	case "close":
		return nc.Close()
	default:
		return errors.New("no step")
	}
	return nil
}

// read keeps a text as it comes, without its end.
func (p *player) read(in *bufio.Reader, dot bool) error {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if dot && line == ".\r\n" || !dot && err != nil {
			b.WriteString(strings.TrimSuffix(line, ".\r\n"))
			break
		}
		b.WriteString(line)
		if err != nil {
			return err
		}
	}
	p.texts <- b.String()
	return nil
}

// text is the next that was read.
func (p *player) text(t *testing.T) string {
	t.Helper()
	select {
	case text := <-p.texts:
		return text
	case <-time.After(30 * time.Second):
		t.Fatal("no text has come")
		return ""
	}
}
