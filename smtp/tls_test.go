package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/transcript"
)

// testTLS is a server's configuration with a certificate of its own for
// mx.example.
func testTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.example"},
		DNSNames:     []string{"mx.example"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// serveOne serves one connection over loopback and returns the client's end.
// The served channel has what Serve returned.
func serveOne(t *testing.T, cfg *Config, s *fake) (client *net.TCPConn, served chan error) {
	return serveBy(t, cfg, func(_ context.Context, c *Conn) (Session, error) {
		s.conn = c
		return s, nil
	})
}

// serveOneTo is serveOne for a Session that need not know its Conn.
func serveOneTo(t *testing.T, cfg *Config, s Session) (client *net.TCPConn, served chan error) {
	return serveBy(t, cfg, func(context.Context, *Conn) (Session, error) { return s, nil })
}

func serveBy(t *testing.T, cfg *Config, open func(context.Context, *Conn) (Session, error)) (client *net.TCPConn, served chan error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served = make(chan error, 1)
	client, err = net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Hostname = "mx.example"
	go func() { served <- Serve(t.Context(), nc, cfg, open) }()
	return client, served
}

// talk is a dialog over a real connection.
func talk(t *testing.T, nc net.Conn) *dialog {
	return &dialog{t: t, nc: nc, lines: bufio.NewReader(nc), began: time.Now()}
}

func startTLS(t *testing.T, d *dialog, config *tls.Config) *tls.Conn {
	t.Helper()
	d.ask("STARTTLS", "220 2.0.0 ")
	config.InsecureSkipVerify = true // of a test's own certificate
	client := tls.Client(d.nc, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return client
}

// tickets is a session cache that counts what it is given.
type tickets struct{ put atomic.Int32 }

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.put.Add(1)
	}
}

// TestStartTLSWipesWhatWasSaid: T02, T03 and T05. The hello and the transaction
// are gone, STARTTLS is offered no more, and no ticket is sent (T06).
func TestStartTLSWipesWhatWasSaid(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &fake{}
			var handshakes atomic.Int32
			cfg := &Config{TLSMode: TLSOptional, TLS: testTLS(t), OnHandshake: func(_ *Conn, state *tls.ConnectionState, _ time.Duration, err error) {
				if err != nil || state.Version != version || state.ServerName != "mx.example" {
					t.Errorf("%+v, %v", state, err)
				}
				handshakes.Add(1)
			}}
			nc, served := serveOne(t, cfg, s)
			d := talk(t, nc)
			d.envelope()
			var cache tickets
			client := startTLS(t, d, &tls.Config{ServerName: "mx.example", MinVersion: version, MaxVersion: version, ClientSessionCache: &cache})
			d = talk(t, client)
			d.ask("DATA", "503 5.5.1")
			if name, _ := s.conn.Hello(); name != "" || s.conn.TLS() == nil {
				t.Errorf("hello %q, TLS %v", name, s.conn.TLS())
			}
			d.ask("MAIL FROM:<a@x.example>", "503 5.5.1 Send EHLO first")
			d.ask("STARTTLS", "503 5.5.1")
			d.send("EHLO c.example\r\n")
			for {
				line, err := d.lines.ReadString('\n')
				if err != nil || strings.Contains(line, "STARTTLS") {
					t.Fatalf("%q, %v", line, err)
				}
				if line[3] == ' ' {
					break
				}
			}
			d.ask("MAIL FROM:<a@x.example>", "250")
			d.ask("RCPT TO:<b@y.example>", "250")
			d.ask("DATA", "354")
			d.ask(strings.Repeat("0123456789", 10000)+"\r\n.", "250 2.0.0 ")
			d.ask("QUIT", "221")
			if line, err := d.lines.ReadString('\n'); err != io.EOF {
				t.Errorf("%q, %v: want a TLS close_notify", line, err)
			}
			_ = nc.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
			log, faults := s.saw()
			if want := []string{"hello c.example esmtp=false", "mail <a@x.example>", "rcpt <b@y.example>", "reset", "hello c.example esmtp=true"}; !slices.Equal(log[:5], want) {
				t.Errorf("saw %q", log)
			}
			if len(faults) > 0 || cache.put.Load() != 0 || handshakes.Load() != 1 {
				t.Errorf("faults %q, %d tickets, %d handshakes", faults, cache.put.Load(), handshakes.Load())
			}
		})
	}
}

// TestNoTicketUnlessAskedFor: T06. What counts is what a client receives: a ticket
// comes before the first reply under TLS 1.3, and with the handshake under 1.2.
func TestNoTicketUnlessAskedFor(t *testing.T) {
	t.Parallel()
	given := testTLS(t)
	choose := func(*tls.ClientHelloInfo) (*tls.Config, error) { return given, nil }
	chooses, sendsNone := &tls.Config{GetConfigForClient: choose}, &tls.Config{GetConfigForClient: choose, SessionTicketsDisabled: true}
	nothing := given.Clone()
	nothing.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
	for name, c := range map[string]struct {
		config  *tls.Config
		tickets bool
	}{
		"not asked": {given, false}, "not asked, chosen for the client": {chooses, false}, "not asked, none but those chosen": {sendsNone, false}, "not asked, nothing chosen": {nothing, false},
		"asked": {given, true}, "asked, chosen for the client": {chooses, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			nc, served := serveOne(t, &Config{TLSMode: TLSImplicit, TLS: c.config, SessionTickets: c.tickets}, &fake{})
			var cache tickets
			client := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.example", ClientSessionCache: &cache, MaxVersion: version})
			if err := client.Handshake(); err != nil {
				t.Fatalf("%s, %s: %v, served %v", name, tls.VersionName(version), err, <-served)
			}
			d := talk(t, client)
			d.want("220")
			d.ask("QUIT", "221")
			_ = nc.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if got := cache.put.Load() > 0; got != c.tickets {
				t.Errorf("%s, %s: %d tickets", name, tls.VersionName(version), cache.put.Load())
			}
			if given.SessionTicketsDisabled {
				t.Fatal("the caller's configuration was changed")
			}
		}
	}
}

// TestPipelinedStartTLSInTheNextSegment: what comes between STARTTLS and the
// handshake is taken for a handshake, never for a command (T01, T08).
func TestPipelinedStartTLSInTheNextSegment(t *testing.T) {
	t.Parallel()
	s := &fake{}
	var failed error
	nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t), OnHandshake: func(_ *Conn, state *tls.ConnectionState, _ time.Duration, err error) {
		failed = err
		if state == nil {
			t.Error("no state")
		}
	}}, s)
	d := talk(t, nc)
	d.want("220")
	d.ask("EHLO x", "250")
	d.ask("STARTTLS", "220")
	d.send("EHLO evil\r\n" + evil)
	if line, err := d.lines.ReadString('\n'); err == nil && line[0] >= '2' && line[0] <= '5' {
		t.Errorf("answered %q", line)
	}
	if err := <-served; err == nil || failed == nil {
		t.Errorf("Serve: %v, handshake: %v", err, failed)
	}
	if log, _ := s.saw(); len(log) != 1 {
		t.Errorf("saw %q", log)
	}
}

// TestWhoLeavesWithoutAWordHasTriedNoHandshake: C03. A balancer that looks whether a
// listener with TLS from the first octet is there is no failure of TLS; who began
// and left is.
func TestWhoLeavesWithoutAWordHasTriedNoHandshake(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, says string
		reset      bool
		reason     string
		tried      bool
	}{
		{"closes", "", false, "eof", false},
		{"resets", "", true, "reset", false},
		{"begins and closes", "\x16", false, "tls", true},
		{"begins and resets", "\x16\x03\x01", true, "tls", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var end Closing
			tried := false
			nc, served := serveOne(t, &Config{TLSMode: TLSImplicit, TLS: testTLS(t), OnClosed: func(_ *Conn, c Closing) { end = c },
				OnHandshake: func(*Conn, *tls.ConnectionState, time.Duration, error) { tried = true }}, &fake{})
			if _, err := io.WriteString(nc, tc.says); err != nil {
				t.Fatal(err)
			}
			if tc.reset {
				if err := nc.SetLinger(0); err != nil {
					t.Fatal(err)
				}
			}
			if err := nc.Close(); err != nil {
				t.Fatal(err)
			}
			<-served
			if tried != tc.tried || end.Reason != tc.reason {
				t.Errorf("tried %v, ended %+v", tried, end)
			}
		})
	}
}

// TestNoSplitBehindStartTLSIsObeyed: T01 and T08. Wherever what was sent behind
// STARTTLS is cut, it is refused with it or taken for a handshake that fails;
// no octet of it is a command.
func TestNoSplitBehindStartTLSIsObeyed(t *testing.T) {
	t.Parallel()
	cfg := &Config{Hostname: "mx.example", TLSMode: TLSOptional, TLS: testTLS(t)}
	const before, behind = "HELO x\r\nSTARTTLS\r\n", "EHLO evil\r\n" + evil + "QUIT\r\n"
	const greeting = "220 mx.example ESMTP incoming\r\n250 mx.example\r\n"
	ends := map[string]int{}
	for name, pieces := range transcript.Cuts([]byte(before+behind), 1) {
		p := play(cfg, nil, pieces)
		said, ok := strings.CutPrefix(p.said, greeting)
		if !ok || len(p.saw) != 1 || len(p.faults) > 0 {
			t.Fatalf("%s: saw %q, said %q, %q", name, p.saw, p.said, p.faults)
		}
		switch refused := "554 5.5.1 Nothing may follow STARTTLS before the handshake\r\n"; {
		case said == refused && p.end.Reason == closedJunk.String() && slices.Equal(p.events, []string{"smuggling starttls_pipelined"}):
		case strings.HasPrefix(said, "220 2.0.0 Ready to start TLS\r\n") && p.end.Reason == closedTLS.String() && strings.Count(said, "\n") == 1:
		default:
			t.Fatalf("%s: ended %q, said %q, %q", name, p.end.Reason, said, p.events)
		}
		ends[p.end.Reason]++
	}
	if len(ends) != 2 {
		t.Errorf("ended %v: want both ways", ends)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t)}, &fake{})
	d := talk(t, nc)
	d.want("220")
	d.ask("STARTTLS", "220")
	client := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := client.Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if err := <-served; err == nil {
		t.Error("no error")
	}
}

// TestEndOfTLSIsTheEnd: B14. After close_notify in the middle of a chunk an
// octet in clear is not read.
func TestEndOfTLSIsTheEnd(t *testing.T) {
	t.Parallel()
	s := &fake{}
	var end Closing
	nc, served := serveOne(t, &Config{TLSMode: TLSOptional, TLS: testTLS(t), OnClosed: func(_ *Conn, c Closing) { end = c }}, s)
	d := talk(t, nc)
	d.want("220")
	client := startTLS(t, d, &tls.Config{})
	d = talk(t, client)
	d.ask("EHLO x", "250")
	d.ask("MAIL FROM:<a@x.example>", "250")
	d.ask("RCPT TO:<b@y.example>", "250")
	d.send("BDAT 10\r\nabc")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := nc.SetWriteDeadline(time.Time{}); err != nil { // CloseWrite has set one
		t.Fatal(err)
	}
	if _, err := nc.Write([]byte("d\r\n" + evil)); err != nil {
		t.Fatal(err)
	}
	if said, over := toTheEnd(nc); !over {
		t.Errorf("TLS has ended, and %v later the connection is still served; it said %q", untilOver, said)
		_ = nc.Close() // so that it ends
	}
	<-served
	if end.Reason != closedEOFInData.String() {
		t.Errorf("%+v", end)
	}
	log, faults := s.saw()
	if log[len(log)-1] != "abort" || len(faults) > 0 {
		t.Errorf("saw %q, %q", log, faults)
	}
}

func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	s := &fake{}
	nc, served := serveOne(t, &Config{TLSMode: TLSImplicit, TLS: testTLS(t)}, s)
	client := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	d := talk(t, client)
	d.envelope()
	d.ask("STARTTLS", "503 5.5.1")
	d.ask("DATA", "354")
	d.ask("a\r\n.", "250")
	d.ask("QUIT", "221")
	_ = nc.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if s.conn.TLS() == nil {
		t.Error("no TLS state")
	}
}

// TestRequiredTLS: T15, with TLS in the end.
func TestRequiredTLS(t *testing.T) {
	t.Parallel()
	nc, served := serveOne(t, &Config{TLSMode: TLSRequired, TLS: testTLS(t)}, &fake{})
	d := talk(t, nc)
	d.want("220")
	d.ask("EHLO x", "250")
	d.ask("MAIL FROM:<a@x.example>", "530 5.7.0")
	d = talk(t, startTLS(t, d, &tls.Config{}))
	d.ask("MAIL FROM:<a@x.example>", "503 5.5.1")
	d.ask("EHLO x", "250")
	d.ask("MAIL FROM:<a@x.example>", "250")
	d.ask("QUIT", "221")
	_ = nc.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTLSModeWithoutTLSIsAnError(t *testing.T) {
	t.Parallel()
	nc := transcript.NewConn(nil)
	err := Serve(t.Context(), nc, &Config{Hostname: "mx.example", TLSMode: TLSOptional}, openDiscard)
	if said, _ := nc.Said(); err == nil || len(said) > 0 || !nc.Closed() {
		t.Errorf("%v, %q", err, said)
	}
}

// TestPanicInACertificateCallbackIsSurvived: the connection ends, the process
// does not.
func TestPanicInACertificateCallbackIsSurvived(t *testing.T) {
	t.Parallel()
	panicked := ""
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("boom") }}
	nc, served := serveOne(t, &Config{TLSMode: TLSImplicit, TLS: config, OnPanic: func(_ *Conn, where string, _ any, _ []byte) { panicked = where }}, &fake{})
	if err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("a handshake without a certificate")
	}
	if err := <-served; err == nil || panicked != "tls handshake" {
		t.Errorf("%v, %q", err, panicked)
	}
}
