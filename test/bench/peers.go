package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/incoming-mx/incoming/internal/sched"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/mhale/smtpd"
)

// peerCommand is how this program is told to be one of the Go peers, in a
// process of its own.
const peerCommand = "serve-peer"

// asBatch stands before the kind of a peer that asks to be scheduled as the daemon
// does. Others are as they come.
const asBatch = "batch:"

// peer is a Go library measured by a small server made with it.
func (b *bench) peer(name, stores, kind string) server {
	start := func(ctx context.Context, dir string, secure bool) (*running, error) {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		args := []string{peerCommand, kind, addr, dir}
		if secure {
			args = append(args, b.cert.cert, b.cert.key)
		}
		p, err := spawn(dir, b.self, args...)
		if err != nil {
			return nil, err
		}
		if err := p.answering(ctx, addr); err != nil {
			return nil, err
		}
		return &running{addr: addr, pid: p.cmd.Process.Pid, stop: p.stop}, nil
	}
	return server{name: name, stores: stores, start: start}
}

// servePeer is such a process: KIND ADDR DIR [CERT KEY]. A signal ends it.
func servePeer(args []string) error {
	if len(args) != 3 && len(args) != 5 {
		return errors.New(peerCommand + " wants KIND ADDR DIR [CERT KEY]")
	}
	kind, addr, dir := args[0], args[1], args[2]
	var secure *tls.Config
	if len(args) == 5 {
		pair, err := tls.LoadX509KeyPair(args[3], args[4])
		if err != nil {
			return err
		}
		secure = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	kind, batch := strings.CutPrefix(kind, asBatch)
	if batch {
		if err := sched.Batch(); err != nil {
			return err
		}
	}
	switch kind {
	case "engine":
		return engine(l, secure, smtp.Limits{}, smtp.Timeouts{})
	case "engine-unguarded":
		return engine(l, secure, smtp.Limits{MessageSize: -1, Recipients: -1, Commands: -1, Errors: -1, RefusedRecipients: -1, SessionSize: -1},
			smtp.Timeouts{Command: -1, TLS: -1, Data: -1, Write: -1, Session: -1})
	case "go-smtp":
		return goSMTP(l, secure, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	case "go-smtp-file":
		return goSMTP(l, secure, func(r io.Reader) error { return storeFile(dir, r) })
	case "smtpd":
		s := &smtpd.Server{
			Hostname: "bench.example.org", Appname: "bench", DisableReverseDNS: true, TLSConfig: secure,
			Handler: func(net.Addr, string, []string, []byte) error { return nil },
		}
		return s.Serve(l)
	}
	return fmt.Errorf("no peer %q", kind)
}

// engine is Incoming's own wire alone, with nothing behind it.
func engine(l net.Listener, secure *tls.Config, limits smtp.Limits, timeouts smtp.Timeouts) error {
	cfg := &smtp.Config{Hostname: "bench.example.org", Limits: limits, Timeouts: timeouts}
	if secure != nil {
		cfg.TLSMode, cfg.TLS = smtp.TLSOptional, secure
	}
	open := func(context.Context, *smtp.Conn) (smtp.Session, error) { return discarding{}, nil }
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			// A client that breaks off is one: it tells of what went wrong itself.
			_ = smtp.Serve(context.Background(), nc, cfg, open)
		}()
	}
}

// discarding is the engine's Session and Body in one: it takes everything and
// keeps nothing.
type discarding struct{}

func (discarding) Hello(context.Context, string) error                      { return nil }
func (discarding) Mail(context.Context, smtp.Path, smtp.MailParams) error   { return nil }
func (discarding) Rcpt(context.Context, smtp.Path, smtp.RcptParams) error   { return nil }
func (discarding) Data(context.Context, smtp.DataParams) (smtp.Body, error) { return discarding{}, nil }
func (discarding) Reset()                                                   {}
func (discarding) Close() error                                             { return nil }
func (discarding) Write(p []byte) (int, error)                              { return len(p), nil }
func (discarding) End(context.Context) (string, error)                      { return "", nil }
func (discarding) Abort()                                                   {}

func goSMTP(l net.Listener, secure *tls.Config, data func(io.Reader) error) error {
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return session{data}, nil
	}))
	s.Domain = "bench.example.org"
	s.MaxMessageBytes = 50 << 20
	s.TLSConfig = secure
	return s.Serve(l)
}

// session is a go-smtp session that takes everything.
type session struct{ data func(io.Reader) error }

func (session) Reset()                                 {}
func (session) Logout() error                          { return nil }
func (session) Mail(string, *gosmtp.MailOptions) error { return nil }
func (session) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error               { return s.data(r) }

// storeFile is what a careful author of a small server would do: one file,
// synced, then renamed to its name. The directory is not synced.
func storeFile(dir string, r io.Reader) (err error) {
	name := filepath.Join(dir, rand.Text())
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = os.Rename(name+".tmp", name+".eml")
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Sync()
}
