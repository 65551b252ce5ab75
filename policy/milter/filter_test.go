package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	gomilter "github.com/d--j/go-milter"
	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transaction is a message at StageMessage.
func transaction(text string, to ...string) *policy.Transaction {
	t := &policy.Transaction{Session: "s1", Listener: "mx", Hostname: "mx.test", Hello: "c.example",
		Peer: netip.MustParseAddrPort("192.0.2.7:4711")}
	t.Begin(smtp.ParsePath("a@x.example"), smtp.MailParams{Size: 12, Body: "8BITMIME"})
	if to == nil {
		to = []string{"b@y.example"}
	}
	for _, r := range to {
		t.To = append(t.To, policy.Recipient{Path: smtp.ParsePath(r)})
	}
	t.ID, t.Header, t.Size = "01ID", header.Parse([]byte(text)), int64(len(text))
	t.OpenText = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	return t
}

// filter is a filter that is well: it writes down what it is told, and answers as
// the funcs say, those that are nil to go on.
type filter struct {
	gomilter.NoOpMilter
	protocol gomilter.OptProtocol
	actions  gomilter.OptAction
	ask      map[gomilter.MacroStage][]string // the macros it asks for

	connect, mail, chunk, header *gomilter.Response
	rcpt                         func(to string) *gomilter.Response
	end                          func(m gomilter.Modifier) (*gomilter.Response, error)

	mu    sync.Mutex
	heard []string
	body  bytes.Buffer
	sizes []int // of the chunks
}

func (f *filter) hear(what string, r *gomilter.Response) (*gomilter.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, what)
	if r == nil {
		r = gomilter.RespContinue
	}
	return r, nil
}

// told is all that it heard.
func (f *filter) told() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.heard, "\n")
}

// given is the macros that it was given, of those of a list.
func given(m gomilter.Modifier, names ...string) string {
	var all []string
	for _, name := range names {
		if v, ok := m.GetEx(name); ok {
			all = append(all, name+"="+v)
		}
	}
	return strings.Join(all, " ")
}

func (f *filter) Connect(host, family string, port uint16, addr string, m gomilter.Modifier) (*gomilter.Response, error) {
	return f.hear(fmt.Sprintf("connect %s %s %d %s: %s", host, family, port, addr,
		given(m, "j", "v", "_", "{daemon_name}", "{client_addr}", "{client_name}", "{client_port}", "i", "{i}", "client_addr")), f.connect)
}

func (f *filter) Helo(name string, m gomilter.Modifier) (*gomilter.Response, error) {
	return f.hear("hello "+name+": "+given(m, "{tls_version}", "{cipher}", "{cipher_bits}"), nil)
}

func (f *filter) MailFrom(from, args string, m gomilter.Modifier) (*gomilter.Response, error) {
	return f.hear(fmt.Sprintf("mail %s %q: %s", from, args, given(m, "i", "{mail_addr}", "{mail_host}", "{mail_mailer}")), f.mail)
}

func (f *filter) RcptTo(to, args string, m gomilter.Modifier) (*gomilter.Response, error) {
	var r *gomilter.Response
	if f.rcpt != nil {
		r = f.rcpt(to)
	}
	return f.hear(fmt.Sprintf("rcpt %s %q: %s", to, args, given(m, "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}")), r)
}

func (f *filter) Data(m gomilter.Modifier) (*gomilter.Response, error) { return f.hear("data", nil) }

func (f *filter) Header(name, value string, m gomilter.Modifier) (*gomilter.Response, error) {
	return f.hear(fmt.Sprintf("header %s %q", name, value), f.header)
}

func (f *filter) Headers(m gomilter.Modifier) (*gomilter.Response, error) {
	return f.hear("end of header", nil)
}

func (f *filter) BodyChunk(chunk []byte, m gomilter.Modifier) (*gomilter.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body.Write(chunk)
	f.sizes = append(f.sizes, len(chunk))
	if f.chunk != nil {
		return f.chunk, nil
	}
	return gomilter.RespContinue, nil
}

func (f *filter) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	if f.end != nil {
		return f.end(m)
	}
	return gomilter.RespAccept, nil
}

// serve has the filter listen, and is where.
func (f *filter) serve(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	actions := f.actions
	if actions == 0 {
		actions = offered
	}
	options := []gomilter.Option{gomilter.WithMilter(func() gomilter.Milter { return f }), gomilter.WithActions(actions), gomilter.WithProtocols(f.protocol)}
	for stage, names := range f.ask {
		options = append(options, gomilter.WithMacroRequest(stage, names))
	}
	s := gomilter.NewServer(options...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ln); err != nil && !errors.Is(err, gomilter.ErrServerClosed) {
			t.Errorf("the filter: %v", err)
		}
	}()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "inet:" + ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// raw has a filter listen that is not well: it is what behave does with each
// connection.
func raw(t *testing.T, behave func(net.Conn)) string {
	t.Helper()
	ln := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				behave(nc)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return "inet:" + ln.Addr().String()
}

// made is the policy of a filter.
func made(t *testing.T, o Options) *Milter {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
