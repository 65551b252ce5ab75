package mailauth

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// BenchmarkMessage is what mailauth takes of the processor for a signed message of 4
// KB, the DNS aside.
func BenchmarkMessage(b *testing.B) {
	text := []byte(crlf(sign(b, "example.com", plain+strings.Repeat(strings.Repeat("x", 76)+"\n", 46))))
	v, err := New(Options{Resolver: good()})
	if err != nil {
		b.Fatal(err)
	}
	chain := policy.NewChain([]policy.Policy{v}, nil)
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		tx := &policy.Transaction{Hostname: "mx.example.org", Hello: "mail.example.com", Peer: netip.MustParseAddrPort("192.0.2.1:25")}
		tx.Begin(smtp.ParsePath("a@example.com"), smtp.MailParams{})
		w := chain.Tap(ctx, tx)
		if _, err := w.Write(text); err != nil {
			b.Fatal(err)
		}
		tx.Header = header.Parse(text)
		tx.OpenText = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
		if err := chain.Check(ctx, policy.StageHeader, tx); err != nil {
			b.Fatal(err)
		}
		if err := chain.Check(ctx, policy.StageMessage, tx); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}
