package incoming_test

import (
	"crypto/tls"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/queue"
)

func TestNewTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	pair := testcert.NewCA(t).Issue(t, testcert.Options{})
	cert, key := pair.WriteFiles(t, t.TempDir())
	_, otherKey := testcert.NewCA(t).Issue(t, testcert.Options{}).WriteFiles(t, t.TempDir())
	for _, c := range []struct {
		name string
		edit func(*incoming.Config)
		want []string
	}{
		{"no queue", func(cfg *incoming.Config) { cfg.Queue = nil }, []string{"Queue"}},
		{"two faults", func(cfg *incoming.Config) { cfg.Queue, cfg.Domains = nil, []string{"a@b"} }, []string{"Queue", "a@b"}},
		{"hostname", func(cfg *incoming.Config) { cfg.Hostname = "mx.example.org (really)" }, []string{"hostname", "(really)"}},
		{"nil policy", func(cfg *incoming.Config) { cfg.Policies = []incoming.Policy{nil} }, []string{"policy 1 is nil"}},
		{"network of the lenient", func(cfg *incoming.Config) { cfg.Lenient = []netip.Prefix{{}} }, []string{"Lenient"}},
		{"network", func(cfg *incoming.Config) { cfg.RejectBareNewline = []netip.Prefix{{}} }, []string{"RejectBareNewline"}},
		{"exempt", func(cfg *incoming.Config) { cfg.Limits.Exempt = []netip.Prefix{{}} }, []string{"Limits.Exempt"}},
		{"no listener", func(cfg *incoming.Config) { cfg.Listeners = []incoming.Listener{} }, []string{"Listeners"}},
		{"address", listener(incoming.Listener{Name: "mx", Address: "localhost"}), []string{`listener "mx"`, "host:port"}},
		{"same name", func(cfg *incoming.Config) {
			cfg.Listeners = []incoming.Listener{{Name: "mx", Address: ":0"}, {Name: "mx", Address: ":1"}}
		}, []string{`listener "mx"`, "that name"}},
		{"same address", func(cfg *incoming.Config) {
			cfg.Listeners = []incoming.Listener{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:1"}}
		}, []string{`listener "127.0.0.1:1"`}},
		{"mode", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: 9}), []string{`listener "mx"`, "TLS mode 9"}},
		{"no certificate", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSOptional}), []string{"certificate"}},
		{"no key", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSOptional, CertFile: cert}), []string{"key"}},
		{"certificate without TLS", listener(incoming.Listener{Name: "mx", Address: ":0", CertFile: cert, KeyFile: key}), []string{"disabled"}},
		{"missing file", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSImplicit, CertFile: cert + "x", KeyFile: key}),
			[]string{`listener "mx"`, cert + "x", "no such file"}},
		{"key of another", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, CertFile: cert, KeyFile: otherKey}),
			[]string{`listener "mx"`, otherKey, "does not match"}},
		{"a further one without its key", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, CertFile: cert, KeyFile: key,
			Certificates: []incoming.CertificateFiles{{CertFile: cert}}}), []string{`listener "mx"`, "no key file"}},
		{"further ones, and no TLS", listener(incoming.Listener{Name: "mx", Address: ":0", Certificates: []incoming.CertificateFiles{{CertFile: cert, KeyFile: key}}}),
			[]string{`listener "mx"`, "disabled"}},
		{"a further one that is no pair", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, CertFile: cert, KeyFile: key,
			Certificates: []incoming.CertificateFiles{{CertFile: cert, KeyFile: otherKey}}}), []string{`listener "mx"`, "does not match", otherKey}},
		{"no such version", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, CertFile: cert, KeyFile: key, TLSMin: 0x0300}),
			[]string{`listener "mx"`, "0x0300"}},
		{"two floors", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, TLSMin: tls.VersionTLS12,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{{}}}}), []string{`listener "mx"`, "TLSMin"}},
		{"empty TLSConfig", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, TLSConfig: &tls.Config{}}),
			[]string{`listener "mx"`, "no certificate"}},
		{"both", listener(incoming.Listener{Name: "mx", Address: ":0", TLS: incoming.TLSRequired, CertFile: cert, KeyFile: key, TLSConfig: &tls.Config{}}),
			[]string{`listener "mx"`, "both"}},
	} {
		cfg := incoming.Config{Queue: newQueue(t, nil)}
		c.edit(&cfg)
		_, err := incoming.New(cfg)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
}

func listener(l incoming.Listener) func(*incoming.Config) {
	return func(cfg *incoming.Config) { cfg.Listeners = []incoming.Listener{l} }
}

// Q22.
func TestTheZeroConfigIsGoodButForItsQueue(t *testing.T) {
	t.Parallel()
	s, err := incoming.New(incoming.Config{Queue: newQueue(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	st := s.Status()
	if st.Hostname != host || len(st.Listeners) != 1 || st.Listeners[0].Name != "127.0.0.1:2525" || st.Ready() {
		t.Errorf("status %+v", st)
	}
	if a := s.Addr(""); a != nil {
		t.Errorf("New has bound %v", a)
	}
}

func TestStatusSaysWhyItIsNotReady(t *testing.T) {
	t.Parallel()
	var sick error
	q := &tamper{Queue: newQueue(t, nil), check: func(int64) error { return sick }}
	s, run := start(t, incoming.Config{Queue: q})
	if st := s.Status(); !st.Ready() || st.Started.IsZero() || st.Listeners[0].Addr == nil {
		t.Errorf("status %+v", st)
	}
	for _, sick = range []error{queue.ErrSick, queue.ErrNoSpace, queue.ErrFull} {
		if st := s.Status(); st.Ready() || !strings.Contains(strings.Join(st.NotReady, "\n"), sick.Error()) {
			t.Errorf("%v: status %+v", sick, st)
		}
	}
	sick = nil
	if err := run(); err != nil {
		t.Error(err)
	}
	if st := s.Status(); st.Ready() || !st.Draining {
		t.Errorf("status %+v", st)
	}
}

func TestSessionsTellWhereEachStands(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{})
	var clients []*incomingtest.Client
	want := []incoming.SessionState{incoming.SessionIdle, incoming.SessionIdle, incoming.SessionMail, incoming.SessionRcpt, incoming.SessionData, incoming.SessionIdle}
	for _, dialogue := range []string{"S: 220", "S: 220\nC: EHLO client.test\nS: 250", "S: 220\nC: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 250",
		ehloMailRcpt, toData, toData + "C: .\nS: 250"} {
		c := srv.Dial()
		c.Play(dialogue)
		clients = append(clients, c)
	}
	clients[4].Write("X: y")
	waitFor(t, "the octets to be counted", func() bool {
		for i := range srv.Sessions() {
			if i.State == incoming.SessionData && i.BytesIn > 60 {
				return true
			}
		}
		return false
	})
	i := 0
	for s := range srv.Sessions() {
		if s.State != want[i] || s.ID == "" || s.Listener != "test" || !s.Peer.IsValid() || s.BytesOut == 0 || s.Since.IsZero() || s.InState.Before(s.Since) {
			t.Errorf("session %d: %+v, want %s", i, s, want[i])
		}
		if i == 1 && s.Hello != "client.test" || i == 5 && s.Messages != 1 {
			t.Errorf("session %d: %+v", i, s)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d sessions", i)
	}
	for _, c := range clients {
		c.Close()
	}
	waitFor(t, "the sessions to end", func() bool { return srv.Status().Sessions == 0 })
}
