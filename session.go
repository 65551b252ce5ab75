package incoming

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

// session is the seam between the wire and everything behind it: it asks the
// policies, fills a draft, and says 250 when the queue has said so. One
// connection is one session, used by one goroutine.
type session struct {
	srv  *Server
	set  *settings
	conn *smtp.Conn
	live *live

	tx     policy.Transaction
	mailAt time.Duration       // when the transaction began, after the session did
	known  map[string]struct{} // its recipients, once there are many
	body   *body               // of the text that comes; nil else
}

// open is what the engine calls when a connection is up, before the banner.
func (s *Server) open(ctx context.Context, c *smtp.Conn, l *live, set *settings) (smtp.Session, error) {
	ss := &session{srv: s, set: set, conn: c, live: l}
	ss.tx = policy.Transaction{
		Session: c.ID(), Listener: l.listener, Hostname: set.hostname, Peer: c.Peer(), TLS: c.TLS(),
		MaxMessageSize: set.limits.MessageSize, MaxRecipients: set.limits.Recipients,
	}
	l.meet(c)
	if s.forced.Err() != nil {
		_ = c.Close() // it came too late to be closed with the others
	}
	if err := ss.welcome(ctx); err != nil {
		return nil, err
	}
	ss.tx.Connected()
	l.enter(SessionIdle)
	return ss, nil
}

func (s *session) welcome(ctx context.Context) error {
	if err := s.srv.cfg.Queue.Check(0); err != nil {
		if reply := bannerReply(err); reply != nil {
			return &refused{reply: reply, stage: "connect", reason: err.Error()}
		}
	}
	return s.ask(ctx, policy.StageConnect)
}

// ask puts the transaction before the policies.
func (s *session) ask(ctx context.Context, stage policy.Stage) error {
	return s.set.chain.Check(ctx, stage, &s.tx)
}

// Hello implements smtp.Session.
func (s *session) Hello(ctx context.Context, name string) error {
	if state := s.conn.TLS(); state != nil && s.tx.TLS == nil {
		s.tx.Secured(state)
	}
	s.tx.Hello = name
	err := s.ask(ctx, policy.StageHello)
	s.live.again(SessionIdle)
	if err != nil {
		s.tx.Hello = ""
		return &refusedHello{err, name}
	}
	return nil
}

// refusedHello is the refusal of a name. The connection forgets the name, those
// who are told of the refusal should not.
type refusedHello struct {
	error
	name string
}

func (r *refusedHello) Unwrap() error { return r.error }

// Mail implements smtp.Session.
func (s *session) Mail(ctx context.Context, from smtp.Path, p smtp.MailParams) error {
	s.tx.Begin(from, p)
	s.mailAt, s.known = time.Since(s.conn.Started()), nil
	err := s.roomFor(p.Size)
	if err == nil {
		err = s.ask(ctx, policy.StageMail)
	}
	if err != nil {
		s.tx.Reset()
		return err
	}
	s.live.enter(SessionMail)
	return nil
}

// roomFor asks whether the queue could take a message of that size. A full
// queue is no reason yet: it may have room by the time the text comes.
func (s *session) roomFor(size int64) error {
	err := s.srv.cfg.Queue.Check(size)
	if err == nil || errors.Is(err, queue.ErrFull) {
		return nil
	}
	return s.queueRefused("mail", "", err)
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(ctx context.Context, to smtp.Path, p smtp.RcptParams) error {
	to, postmaster := s.set.resolve(to)
	if s.owed(to) {
		return nil // it is kept once, and was judged already
	}
	s.tx.To = append(s.tx.To, policy.Recipient{Path: to, Params: p})
	// RFC 5321 §4.5.1: postmaster is always there.
	if !postmaster {
		if err := s.ask(ctx, policy.StageRcpt); err != nil {
			s.tx.To = s.tx.To[:len(s.tx.To)-1]
			return err
		}
	}
	if s.known != nil {
		s.known[rcptKey(to)] = struct{}{}
	}
	s.live.enter(SessionRcpt)
	return nil
}

// resolve gives a bare <postmaster> its domain, and tells whether to is a
// postmaster of ours.
func (set *settings) resolve(to smtp.Path) (_ smtp.Path, postmaster bool) {
	if !mailbox.IsPostmaster(to.Local) {
		return to, false
	}
	if to.Domain == "" {
		domain := set.ours.first
		if domain == "" {
			domain = set.hostname
		}
		return smtp.Path{Local: "postmaster", Domain: domain}, true
	}
	return to, set.ours.has(to.Domain)
}

// fewRecipients is how many are looked through one by one, before an index of
// them pays.
const fewRecipients = 16

// owed reports whether the transaction has that recipient: domains compare by
// A-label, local parts as they are.
func (s *session) owed(to smtp.Path) bool {
	if s.known == nil && len(s.tx.To) > fewRecipients {
		s.known = make(map[string]struct{})
		for _, r := range s.tx.To {
			s.known[rcptKey(r.Path)] = struct{}{}
		}
	}
	if s.known != nil {
		_, ok := s.known[rcptKey(to)]
		return ok
	}
	for _, r := range s.tx.To {
		if r.Path.Local == to.Local && mailbox.Fold(r.Path.Domain) == mailbox.Fold(to.Domain) {
			return true
		}
	}
	return false
}

func rcptKey(p smtp.Path) string { return p.Local + "@" + mailbox.Fold(p.Domain) }

// Data implements smtp.Session.
func (s *session) Data(ctx context.Context, _ smtp.DataParams) (smtp.Body, error) {
	if err := s.ask(ctx, policy.StageData); err != nil {
		return nil, err
	}
	b := &body{s: s, ctx: ctx, at: time.Now()}
	if s.tx.Discarded() != "" {
		b.id = queue.NewID(b.at)
	} else if err := b.begin(); err != nil {
		return nil, err
	}
	if s.set.chain.Taps() {
		ctx, b.untap = context.WithCancel(ctx)
		b.tap = s.set.chain.Tap(ctx, &s.tx)
	}
	s.body = b
	s.live.enter(SessionData)
	return b, nil
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.dropDraft()
	s.tx.Reset()
	s.live.enter(SessionIdle)
}

// Close implements smtp.Session.
func (s *session) Close() error {
	s.dropDraft()
	return nil
}

// dropDraft makes sure that a text which did not come to its end leaves nothing
// behind.
func (s *session) dropDraft() {
	if s.body != nil {
		s.body.Abort()
	}
}

// envelope is the transaction's, as the queue keeps it.
func (s *session) envelope() queue.Envelope {
	p := s.tx.FromParams
	env := queue.Envelope{MailFrom: s.tx.From.String(), RcptTo: make([]queue.Recipient, len(s.tx.To)),
		SMTPUTF8: p.SMTPUTF8, Body: p.Body, Ret: p.Ret, EnvID: p.EnvID}
	for i, r := range s.tx.To {
		env.RcptTo[i] = queue.Recipient{Address: r.Path.String(), Notify: r.Params.Notify, ORcpt: r.Params.ORcpt}
	}
	return env
}

func (s *session) origin(at time.Time) queue.Origin {
	o := queue.Origin{ReceivedAt: at, Listener: s.live.listener, Hello: s.tx.Hello}
	if s.tx.Peer.IsValid() {
		o.Peer = s.tx.Peer.String()
	}
	if state := s.conn.TLS(); state != nil {
		o.TLS = &queue.TLSInfo{Version: tls.VersionName(state.Version),
			Cipher: tls.CipherSuiteName(state.CipherSuite), ServerName: state.ServerName}
	}
	return o
}

// queueRefused is the refusal for an error of the queue, of which it tells.
func (s *session) queueRefused(stage string, id queue.ID, err error) error {
	reason, reply := queueReply(err)
	who := sessionOf(s.conn, s.live.listener)
	telemetry.Emit(s.srv.hooks.MessageEnqueueError, telemetry.MessageEnqueueError{
		Session: who, ID: string(id), Reason: reason, Err: err, Size: max(s.tx.Size, s.tx.FromParams.Size)})
	if reason == "full" {
		live := int64(s.srv.cfg.Queue.Depth().Live())
		telemetry.Emit(s.srv.hooks.LimitHit, telemetry.LimitHit{Session: who, Limit: "queue.depth", Use: live + 1, Max: live})
	}
	return &refused{reply: reply, stage: stage, reason: err.Error()}
}
