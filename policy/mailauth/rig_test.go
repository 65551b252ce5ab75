package mailauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/incoming-mx/incoming/smtp"
)

// letter is a message and how it came.
type letter struct {
	peer, helo, from string
	text             string // with LF, made CRLF
}

// verdict is what became of it.
type verdict struct {
	*Results
	t     *policy.Transaction
	reply *smtp.Reply // nil: accepted
	ref   *policy.Refusal
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// send takes m through a chain of one Verifier, as a session does.
func send(t *testing.T, o Options, m letter) verdict {
	t.Helper()
	text := []byte(crlf(m.text))
	return sendText(t, o, m, header.Parse(text), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }, text)
}

func sendText(t *testing.T, o Options, m letter, h header.Header, open func() (io.ReadCloser, error), tapped []byte) verdict {
	t.Helper()
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Without a deadline: 50 MB take their time under the race detector.
	chain := policy.NewChain([]policy.Policy{v}, &policy.ChainOptions{Timeout: -1})
	tx := &policy.Transaction{Hostname: "mx.example.org", Hello: m.helo}
	if m.peer != "" {
		tx.Peer = netip.AddrPortFrom(netip.MustParseAddr(m.peer), 25)
	}
	tx.Begin(smtp.ParsePath(m.from), smtp.MailParams{})
	w := chain.Tap(ctx, tx)
	if w == nil {
		t.Fatal("it does not read along")
	}
	if _, err := w.Write(tapped); err != nil {
		t.Fatal(err)
	}
	tx.Header, tx.OpenText = h, open
	err = errors.Join(chain.Check(ctx, policy.StageHeader, tx), chain.Check(ctx, policy.StageMessage, tx))
	got := verdict{t: tx}
	errors.As(err, &got.reply)
	errors.As(err, &got.ref)
	if raw := tx.Fact(Fact); raw != nil {
		if err := json.Unmarshal(raw, &got.Results); err != nil {
			t.Fatal(err)
		}
	} else if got.ref == nil {
		t.Fatal("no fact")
	}
	return got
}

// field is the Authentication-Results field that was put on top.
func (v verdict) field() string { return string(v.t.Prepended()) }

var _ resolver.Resolver = zone(nil)
