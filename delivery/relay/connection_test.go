package relay

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/internal/testcert"
)

const transaction1 = "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\ntext\nS: 250 ok\n"

func TestAConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	srv := play(t, hello()+transaction1+transaction1+
		"C: MAIL\nS: 250 ok\nC: RCPT\nS: 550 no\nC: RSET\nS: 250 ok\nC: EHLO\nS: 250 x\n"+
		"C: MAIL\nS: 550 no\n"+transaction1+"C: QUIT\nS: 221 bye\n")
	a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
	for i, want := range []string{"done", "done", "rejected", "rejected", "done"} {
		if got := deliver(t, a, message(text, "b@y"))["b@y"]; kind(got) != want {
			t.Errorf("message %d: %v, want %s", i+1, got, want)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestAConnectionThatWasClosedMeanwhileIsReplaced(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"closed": "close", "closed with a word": "S: 421 4.4.2 idle\nclose", "a word and no more": "S: 421 4.4.2 idle",
		"a word, and it waits for us": "C: MAIL\nS: 421 4.4.2 idle\nrest"} {
		srv := play(t, hello()+transaction1+end, hello()+transaction1+"C: QUIT\nS: 221 bye\n")
		a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
		for i := range 2 {
			if got := deliver(t, a, message(text, "b@y"))["b@y"]; got != nil {
				t.Errorf("%s: message %d: %v", name, i+1, got)
			}
			srv.text(t)
		}
	}
}

// A message that cannot be said leaves a kept connection as it is: another would say
// the same of it.
func TestAMessageThatIsTooLargeCostsNoConnection(t *testing.T) {
	t.Parallel()
	srv := play(t, hello("SIZE 100")+transaction1+transaction1+"C: QUIT\nS: 221 bye\n")
	a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
	for i, m := range []struct{ text, want string }{{text, "done"}, {strings.Repeat(text, 100), "rejected"}, {text, "done"}} {
		if got := deliver(t, a, message(m.text, "b@y"))["b@y"]; kind(got) != m.want {
			t.Errorf("message %d: %v, want %s", i+1, got, m.want)
		}
	}
}

// What was begun is not said twice in one attempt.
func TestAKeptConnectionThatBreaksInATransactionIsARetry(t *testing.T) {
	t.Parallel()
	srv := play(t, hello()+transaction1+"C: MAIL\nS: 250 ok\nclose")
	a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
	for _, want := range []string{"done", "retry"} {
		wants(t, deliver(t, a, message(text, "b@y")), "b@y", want)
	}
}

func TestTLSIsAsAsked(t *testing.T) {
	t.Parallel()
	ca, other := testcert.NewCA(t), testcert.NewCA(t)
	conf := ca.Issue(t, testcert.Options{}).ServerConfig()
	for name, c := range map[string]struct {
		offered, implicit bool
		mode              TLSMode
		client            *tls.Config
		want, says        string
		lmtp              bool
	}{
		"optional, offered":            {offered: true, mode: TLSOptional, want: "done"},
		"optional, offered, LMTP":      {offered: true, mode: TLSOptional, want: "done", lmtp: true},
		"optional, not offered":        {mode: TLSOptional, want: "done"},
		"required, known":              {offered: true, mode: TLSRequired, client: ca.ClientConfig("localhost"), want: "done"},
		"required, unknown":            {offered: true, mode: TLSRequired, client: other.ClientConfig("localhost"), want: "retry", says: "unknown authority"},
		"required, another's":          {offered: true, mode: TLSRequired, client: ca.ClientConfig("other.example"), want: "retry", says: "not other.example"},
		"required, not offered":        {mode: TLSRequired, client: ca.ClientConfig("localhost"), want: "retry", says: "not offered"},
		"required, not looked at":      {offered: true, mode: TLSRequired, client: &tls.Config{InsecureSkipVerify: true}, want: "done"},
		"implicit, known":              {implicit: true, mode: TLSImplicit, client: ca.ClientConfig("localhost"), want: "done"},
		"implicit, unknown":            {implicit: true, mode: TLSImplicit, client: other.ClientConfig("localhost"), want: "retry", says: "unknown authority"},
		"implicit, the system's alone": {implicit: true, mode: TLSImplicit, want: "retry", says: "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := &store{}, listen(t, "tcp", "127.0.0.1:0")
			s.tls = !strings.Contains(name, "not offered")
			address := l.Addr().String()
			var starttls *tls.Config
			if c.offered {
				starttls = conf
			}
			if c.implicit {
				l = tls.NewListener(l, conf)
			}
			serve(t, s, l, c.lmtp, starttls)
			got := deliver(t, newAdapter(t, Config{Address: address, LMTP: c.lmtp, TLS: c.mode, TLSConfig: c.client}), message(text, "b@y"))
			wants(t, got, "b@y", c.want)
			if err := got["b@y"]; err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %s", err, c.says)
			}
			if copies, _ := s.arrived(); (len(copies) == 1) != (c.want == "done") {
				t.Errorf("%d have arrived", len(copies))
			}
		})
	}
}

// CVE-2011-0411, the other way round: what stands in clear behind the reply to
// STARTTLS was not said in TLS.
func TestTextInClearBehindSTARTTLSIsNoReply(t *testing.T) {
	t.Parallel()
	srv := play(t, hello("STARTTLS")+`C: STARTTLS
S| 220 go\r\n250 welcome\r\n
rest`)
	err := deliver(t, newAdapter(t, Config{Address: srv.address}), message(text, "b@y"))["b@y"]
	if kind(err) != "retry" || !strings.Contains(err.Error(), "in clear") {
		t.Error(err)
	}
}

func TestMoreThanAFewConnectionsAreNotKept(t *testing.T) {
	t.Parallel()
	s, l := &store{}, listen(t, "tcp", "127.0.0.1:0")
	serve(t, s, l, false, nil)
	a := newAdapter(t, Config{Address: l.Addr().String(), TLS: TLSDisabled})
	came := make(chan error, 3*most)
	for range 3 * most {
		go func() { came <- a.Deliver(t.Context(), message(text, "b@y")) }()
	}
	for range 3 * most {
		if err := <-came; err != nil {
			t.Error(err)
		}
	}
	a.kept.mu.Lock()
	n := len(a.kept.conns)
	a.kept.mu.Unlock()
	if n == 0 || n > most {
		t.Errorf("%d connections are kept", n)
	}
}

func TestAKeptConnectionIsEndedAfterAWhile(t *testing.T) {
	t.Parallel()
	srv := play(t, hello()+transaction1+"C: QUIT\nS: 221 bye\n")
	a := newAdapter(t, Config{Address: srv.address, TLS: TLSDisabled})
	wants(t, deliver(t, a, message(text, "b@y")), "b@y", "done")
	a.kept.mu.Lock()
	a.kept.conns[0].until.Reset(time.Millisecond)
	a.kept.mu.Unlock()
	a.kept.timers.Wait()
	if c, err := a.kept.take(); c != nil || err != nil {
		t.Errorf("%v, %v is kept", c, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Deliver(t.Context(), message(text, "b@y")); delivery.Final(err) {
		t.Errorf("after Close: %v", err)
	}
}
