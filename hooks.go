package incoming

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// listen hangs the hooks into the engine's configuration of one listener. What
// nobody listens to is not made.
func (s *Server) listen(c *smtp.Config, listener string, proxied bool) {
	h := s.hooks
	who := func(c *smtp.Conn) telemetry.Session { return sessionOf(c, listener) }
	c.OnConnect = func(c *smtp.Conn) { telemetry.Emit(h.SessionConnect, telemetry.SessionConnect{Session: who(c)}) }
	c.OnAccepted = func(c *smtp.Conn) { telemetry.Emit(h.SessionAccepted, telemetry.SessionAccepted{Session: who(c)}) }
	c.OnClosed = func(c *smtp.Conn, end smtp.Closing) {
		if proxied && end.Reason == "error" && notOfTheNet(end.Err) {
			s.closedInSilence(who(c), end.Err)
		}
		telemetry.Emit(h.SessionClosed, telemetry.SessionClosed{Session: who(c), Reason: end.Reason, Err: end.Err,
			Duration: end.Duration, Messages: end.Messages, BytesIn: end.BytesIn, BytesOut: end.BytesOut})
	}
	c.OnRefused = func(c *smtp.Conn, r smtp.Refusal) { telemetry.Emit(h.SessionRejected, rejection(who(c), r)) }
	c.OnLimit = func(c *smtp.Conn, limit string, use, max int64) {
		telemetry.Emit(h.LimitHit, telemetry.LimitHit{Session: who(c), Limit: limit, Use: use, Max: max})
	}
	c.OnSmuggling = func(c *smtp.Conn, what string) {
		telemetry.Emit(h.SmugglingBlocked, telemetry.SmugglingBlocked{Session: who(c), What: what})
	}
	c.OnHandshake = func(c *smtp.Conn, state *tls.ConnectionState, took time.Duration, err error) {
		telemetry.Emit(h.TLSHandshake, handshake(who(c), state, took, err))
	}
	c.OnPanic = func(c *smtp.Conn, where string, value any, stack []byte) {
		telemetry.Emit(h.Panic, telemetry.Panic{Where: where, ID: c.ID(), Value: value, Stack: stack})
	}
	if h.SessionDialogue != nil {
		c.OnDialogue = func(c *smtp.Conn, fromPeer bool, line string) {
			h.SessionDialogue(telemetry.SessionDialogue{Session: who(c), FromPeer: fromPeer, Line: line})
		}
	}
}

func sessionOf(c *smtp.Conn, listener string) telemetry.Session {
	hello, _ := c.Hello()
	return telemetry.Session{ID: c.ID(), Listener: listener, Peer: c.Peer(), Hello: hello}
}

// rejection tells of a refusal, with what our own errors know beyond the reply.
func rejection(who telemetry.Session, r smtp.Refusal) telemetry.SessionRejected {
	e := telemetry.SessionRejected{Session: who, Stage: r.Stage, Reply: r.Reply.String(), Code: r.Reply.Code,
		Reason: r.Reason, MailFrom: r.MailFrom, Rcpt: r.Rcpt}
	if r.Err != nil {
		e.Reason = r.Err.Error()
	}
	var hello *refusedHello
	if errors.As(r.Err, &hello) {
		e.Hello = hello.name
	}
	var ours *refused
	var theirs *policy.Refusal
	switch {
	case errors.As(r.Err, &ours):
		e.Stage = ours.stage
	case errors.As(r.Err, &theirs):
		e.Stage, e.Policy, e.Reason = theirs.Stage.String(), theirs.Policy, theirs.Reason
		e.Because = telemetry.Because{Ref: theirs.Ref, Rule: theirs.Rule, Inputs: theirs.Inputs, Took: theirs.Took}
	}
	return e
}

func handshake(who telemetry.Session, state *tls.ConnectionState, took time.Duration, err error) telemetry.TLSHandshake {
	e := telemetry.TLSHandshake{Session: who, Duration: took, Err: err, Reason: handshakeFailure(err)}
	if state != nil && state.Version != 0 {
		e.Version, e.Cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
		e.ServerName = state.ServerName
	}
	return e
}

// handshakeFailure is why a handshake failed, in a word; "" when it did not.
func handshakeFailure(err error) string {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, smtp.ErrNoTurn):
		return "turn"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.As(err, &record):
		return "not_tls"
	case errors.As(err, &op) && op.Op == "remote error":
		return "alert"
	// The others crypto/tls tells apart by their text alone.
	case strings.Contains(err.Error(), "unsupported versions"):
		return "version"
	case strings.Contains(err.Error(), "cipher suite"):
		return "cipher"
	}
	return "error"
}

// decided is a policy.ChainOptions' OnDecision.
func (s *Server) decided(t *policy.Transaction, d policy.Decision) {
	telemetry.Emit(s.hooks.PolicyDecision, telemetry.PolicyDecision{
		Session: telemetry.Session{ID: t.Session, Listener: t.Listener, Peer: t.Peer, Hello: t.Hello}, ID: t.ID,
		Policy: d.Policy, Stage: d.Stage.String(), Decision: string(d.Kind), Reason: d.Reason, Duration: d.Took,
		Because: telemetry.Because{Ref: d.Ref, Rule: d.Rule, Inputs: d.Inputs, Took: d.Took}, Observed: d.Observed,
	})
}

// policyPanicked is a policy.ChainOptions' OnPanic.
func (s *Server) policyPanicked(t *policy.Transaction, name string, value any, stack []byte) {
	telemetry.Emit(s.hooks.Panic, telemetry.Panic{Where: "policy " + name, ID: t.Session, Value: value, Stack: stack})
}

// versionOf names the TLS version of a connection; "" in clear.
func versionOf(c *smtp.Conn) string {
	if state := c.TLS(); state != nil {
		return tls.VersionName(state.Version)
	}
	return ""
}
