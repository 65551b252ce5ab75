package smtp

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// discardSession accepts everything and keeps nothing.
type discardSession struct{ body discardBody }

type discardBody struct{}

func (*discardSession) Hello(context.Context, string) error              { return nil }
func (*discardSession) Mail(context.Context, Path, MailParams) error     { return nil }
func (*discardSession) Rcpt(context.Context, Path, RcptParams) error     { return nil }
func (s *discardSession) Data(context.Context, DataParams) (Body, error) { return &s.body, nil }
func (*discardSession) Reset()                                           {}
func (*discardSession) Close() error                                     { return nil }
func (*discardBody) Write(p []byte) (int, error)                         { return len(p), nil }
func (*discardBody) End(context.Context) (string, error)                 { return "Ok: discarded", nil }
func (*discardBody) Abort()                                              {}

func openDiscard(context.Context, *Conn) (Session, error) { return new(discardSession), nil }

// serveAll serves each connection of ln until it is closed.
func serveAll(ctx context.Context, ln net.Listener, cfg *Config) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		all.Go(func() { _ = Serve(ctx, nc, cfg, openDiscard) })
	}
}

// TestDiscardServer is no test: it is the discarding engine to point a load
// generator at, for as long as INCOMING_DISCARD_FOR says.
//
//	INCOMING_DISCARD=127.0.0.1:2526 INCOMING_DISCARD_FOR=1m go test ./smtp -run TestDiscardServer &
//	smtp-source -d -s 20 -l 4096 -m 100000 127.0.0.1:2526
func TestDiscardServer(t *testing.T) {
	address := os.Getenv("INCOMING_DISCARD")
	if address == "" {
		t.Skip("INCOMING_DISCARD is not set")
	}
	span, err := time.ParseDuration(os.Getenv("INCOMING_DISCARD_FOR"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	serveAll(ctx, ln, &Config{Hostname: "mx.example"})
}
