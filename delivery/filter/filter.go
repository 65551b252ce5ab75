// Package filter asks policies about a message that is in the queue already, before
// an adapter is given it: filters that are too slow to have a client wait for them.
// There they let pass, have it tried again, or reject; they change nothing, and the
// sender is told only where he waits for the verdict (delivery.Acceptance).
package filter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
)

// Options is how the policies are asked. The zero value is the default.
type Options struct {
	// Hostname is ours, as policies are told it.
	Hostname string
	// Chain is as for policies that are asked in a session. Its OnDecision is
	// given a Transaction that has the message's ID.
	Chain policy.ChainOptions
}

// asking asks, then delivers.
type asking struct {
	to       delivery.Adapter
	chain    *policy.Chain
	hostname string
}

var _ delivery.Adapter = (*asking)(nil)

// Unwrap is what delivery.Find looks behind.
func (a *asking) Unwrap() delivery.Adapter { return a.to }

// New puts policies before an adapter. They are asked in order at
// policy.StageMessage, and at no other stage. nil options are the defaults. What the
// adapter says of itself, as a delivery.Accepter or Keeper, is heard all the same.
//
// When no policy objects to a message the verdict is the adapter's; else
//
//   - a refusal of 5xx is delivery.Reject: the message becomes a dead letter, and so
//     it does where a policy would discard or quarantine it, for nothing vanishes
//     behind the queue, and nobody sees a mark there;
//   - a refusal of 4xx, and a policy that broke, are a retry: the policies are asked
//     again at the next attempt. What is to become of mail when a policy fails
//     (policy.Failed) is done.
//
// Header fields and facts of the policies are dropped.
func New(to delivery.Adapter, policies []policy.Policy, o *Options) delivery.Adapter {
	if o == nil {
		o = &Options{}
	}
	return &asking{to: to, chain: policy.NewChain(policies, &o.Chain), hostname: o.Hostname}
}

// Deliver implements delivery.Adapter.
func (a *asking) Deliver(ctx context.Context, m *queue.Message) error {
	t, err := a.transaction(m)
	if err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	if err := a.chain.Check(ctx, policy.StageMessage, t); err != nil {
		var refused *policy.Refusal
		if errors.As(err, &refused) && !refused.Reply.Temporary() {
			return delivery.Reject(err)
		}
		return err
	}
	switch {
	case t.Discarded() != "":
		return delivery.Reject(fmt.Errorf("policy %s: discard", t.Discarded()))
	case t.Quarantined() != "":
		return delivery.Reject(errors.New("policy: quarantine: " + t.Quarantined()))
	}
	return delivery.Call(ctx, a.to, m)
}

// transaction is the message as policies know one.
func (a *asking) transaction(m *queue.Message) (*policy.Transaction, error) {
	env := m.Envelope
	t := &policy.Transaction{Listener: m.Listener, Hostname: a.hostname, Hello: m.Hello, MaxMessageSize: -1, MaxRecipients: -1}
	if peer, err := netip.ParseAddrPort(m.Peer); err == nil { // "" and a peer without an address are none
		t.Peer = peer
	}
	if m.TLS != nil {
		t.TLS = stateOf(m.TLS)
	}
	t.Begin(smtp.ParsePath(env.MailFrom), smtp.MailParams{Size: m.Size, SMTPUTF8: env.SMTPUTF8, Body: env.Body, Ret: env.Ret, EnvID: env.EnvID})
	for _, r := range env.RcptTo {
		t.To = append(t.To, policy.Recipient{Path: smtp.ParsePath(r.Address), Params: smtp.RcptParams{Notify: r.Notify, ORcpt: r.ORcpt}})
	}
	for key, v := range m.Facts {
		set := t.SetFact
		if name, ours := strings.CutPrefix(key, "smtp."); ours {
			key, set = name, t.Found
		}
		if err := set(key, v); err != nil {
			return nil, err
		}
	}
	var err error
	if t.Header, err = m.Header(); err != nil {
		return nil, err
	}
	t.ID, t.Size = string(m.ID), m.Size
	t.OpenText = func() (io.ReadCloser, error) { return m.Open() }
	return t, nil
}

// stateOf is what a queue keeps of TLS, as a connection has it.
func stateOf(info *queue.TLSInfo) *tls.ConnectionState {
	state := &tls.ConnectionState{HandshakeComplete: true, ServerName: info.ServerName}
	for v := uint16(tls.VersionTLS10); v <= tls.VersionTLS13; v++ {
		if tls.VersionName(v) == info.Version {
			state.Version = v
		}
	}
	for _, suites := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range suites {
			if s.Name == info.Cipher {
				state.CipherSuite = s.ID
			}
		}
	}
	return state
}
