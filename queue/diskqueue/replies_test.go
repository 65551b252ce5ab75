package diskqueue

import (
	"fmt"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/queue"
)

// TestWhateverCallFailsTheReplySaysSo lets each call of a transaction fail, by each
// error, once and from then on: the client gets the reply for that, and with a 250
// the message is there when the spool is opened again. Q02, Q05.
func TestWhateverCallFailsTheReplySaysSo(t *testing.T) {
	t.Parallel()
	for _, journal := range []bool{false, true} {
		t.Run(fmt.Sprintf("journal %t", journal), func(t *testing.T) {
			t.Parallel()
			reply := map[error]string{queue.ErrNoSpace: "452 4.3.1", queue.ErrBusy: "451 4.3.0", queue.ErrSick: "451 4.3.0"}
			sane := &world{t: t, journal: journal, mem: crashfs.New()}
			if got, _ := sane.sendFailing(func() { sane.fs.Reset() }); got[:3] != "250" {
				t.Fatal(got)
			}
			calls, failed := len(sane.fs.Calls()), 0
			for _, no := range errnos {
				for _, onward := range []bool{false, true} {
					for at := 1; at <= calls; at++ {
						w := &world{t: t, journal: journal, mem: crashfs.New(), kept: map[queue.ID]string{}}
						w.what = fmt.Sprintf("call %d fails by %v, onward %t", at, no, onward)
						got, step := w.sendFailing(func() { w.arm(at, no, onward) })
						if hits := w.failed(); len(hits) > 0 {
							w.what += fmt.Sprintf(" (%s)", hits[0])
							failed++
						}
						want := reply[kindFor(no)]
						if step == "" && kindFor(no) == queue.ErrSick {
							want = "421 4.3.2"
						}
						if got[:3] != "250" && !strings.HasPrefix(got, want) {
							w.errorf("the reply is %q, want %q or 250", got, want)
						}
						if strings.Contains(got, worldSpool) || strings.Contains(got, no.Error()) {
							w.errorf("a reply shows what is ours: %q", got)
						}
						w.open()
						live, most := w.q.Depth().Live(), 0
						if got[:3] == "250" || onward && kindFor(no) == queue.ErrSick { // no call could take it back
							most = 1
						}
						if got[:3] == "250" && live == 0 || live > most {
							w.errorf("%q, and %d messages", got, live)
						}
						w.must(w.q.Close())
					}
				}
			}
			t.Logf("%d calls failed", failed)
			if failed < 50 {
				t.Errorf("only %d calls failed", failed)
			}
		})
	}
}

// sendFailing sends a message to a server over a new spool, after arm, and returns
// the last reply, and to what: the banner is to nothing.
func (w *world) sendFailing(arm func()) (reply, step string) {
	w.open()
	defer func() { w.must(w.q.Close()) }()
	w.must(w.q.Pause(w.t.Context()))
	srv := incomingtest.NewServer(w.t, incoming.Config{Queue: w.q})
	defer func() { w.must(srv.Stop()) }()
	w.q.space.mu.Lock()
	w.q.space.asked = time.Time{} // so that the banner asks for free space, and not what comes a second later
	w.q.space.mu.Unlock()
	arm()
	c, err := textproto.Dial("tcp", srv.Addr)
	w.must(err)
	defer c.Close()
	for _, step = range []string{"", "EHLO x.example", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA", letter + "."} {
		if step != "" {
			w.must(c.PrintfLine("%s", step))
		}
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			w.errorf("after %q: %v", step, err)
		}
		if reply = fmt.Sprintf("%d %s", code, text); code >= 400 {
			break
		}
	}
	if w.disarm != nil {
		w.disarm()
	}
	return reply, step
}
