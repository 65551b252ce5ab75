// Package logging turns telemetry into log/slog lines: one a fact, with the
// same keys everywhere.
//
// At Info: "accepted" for a message, "refused" for each refusal, "delivery" for
// each attempt, and what an operator should know. At Debug: connections and the
// dialogue. At Warn and Error: what wants looking at.
//
// What a client can choose is written so that no handler can be fooled by it: in
// one line, in printable characters, and bounded in length.
package logging

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/telemetry"
)

// Addresses is how mail addresses are logged: one of the constants; "" is Full,
// and any other value None.
type Addresses string

const (
	// Full logs addresses as they are.
	Full Addresses = "full"
	// Hash logs the first 16 hex digits of an address's SHA-256, in lower
	// case, its domain in A-labels, its local part in NFC and without quotes:
	// one address can be followed without being read. Whoever can guess the
	// address can check the guess, unless Options.HashKey is set.
	Hash Addresses = "hash"
	// None leaves them out.
	None Addresses = "none"
)

// Options may be nil: the defaults.
type Options struct {
	Addresses Addresses
	// HashKey makes Hash an HMAC-SHA-256 with this key.
	HashKey []byte
	// NoDialogue leaves out the dialogue, even at Debug, and its cost.
	NoDialogue bool
}

// New makes hooks that log to l.
func New(l *slog.Logger, o *Options) telemetry.Hooks {
	lg := &logger{l: l}
	if o != nil {
		lg.opts = *o
	}
	switch lg.opts.Addresses {
	case "":
		lg.opts.Addresses = Full
	case Full, Hash:
	default:
		lg.opts.Addresses = None
	}
	h := telemetry.Hooks{
		SessionConnect:      lg.sessionConnect,
		SessionAccepted:     lg.sessionAccepted,
		SessionRejected:     lg.sessionRejected,
		SessionClosed:       lg.sessionClosed,
		SessionCrowd:        lg.sessionCrowd,
		SessionDialogue:     lg.sessionDialogue,
		MessageQueued:       lg.messageQueued,
		MessageDiscarded:    lg.messageDiscarded,
		MessageEnqueueError: lg.messageEnqueueError,
		DeliveryResult:      lg.deliveryResult,
		DeliveryHeld:        lg.deliveryHeld,
		DeliveryDead:        lg.deliveryDead,
		QueueDepth:          lg.queueDepth,
		QueueSwept:          lg.queueSwept,
		PolicyDecision:      lg.policyDecision,
		LimitHit:            lg.limitHit,
		SmugglingBlocked:    lg.smugglingBlocked,
		TLSHandshake:        lg.tlsHandshake,
		TLSCertificate:      lg.tlsCertificate,
		SpoolError:          lg.spoolError,
		SpoolSpace:          lg.spoolSpace,
		Trouble:             lg.trouble,
		Panic:               lg.panicked,
	}
	if lg.opts.NoDialogue {
		h.SessionDialogue = nil
	}
	return h
}

type logger struct {
	l    *slog.Logger
	opts Options
}

// line is one log line in the making. Its methods leave out what is empty.
type line struct {
	lg    *logger
	level slog.Level
	attrs []slog.Attr
	off   bool
}

// unlogged is every line that nobody wants.
var unlogged = &line{off: true}

// linePool is those that were written: one is 700 octets, a sixth of all that
// an accepted message allocated.
var linePool = sync.Pool{New: func() any {
	return &line{attrs: make([]slog.Attr, 0, 16)} // what an accepted message has at most
}}

func (lg *logger) at(level slog.Level) *line {
	if !lg.l.Enabled(context.Background(), level) {
		return unlogged
	}
	n := linePool.Get().(*line)
	n.lg, n.level = lg, level
	return n
}

// log gives the line to the handler, without a source: it would always be this
// one, and to find it takes an eighth of the time that a line takes. The line
// must not be used any more.
func (n *line) log(msg string) {
	if n.off {
		return
	}
	r := slog.NewRecord(time.Now(), n.level, msg, 0)
	r.AddAttrs(n.attrs...)
	// As slog.Logger does: nobody could be told that the log cannot be written.
	_ = n.lg.l.Handler().Handle(context.Background(), r)
	clear(n.attrs) // the record has copies
	n.attrs = n.attrs[:0]
	linePool.Put(n)
}

func (n *line) add(key string, value slog.Value) *line {
	if n.off {
		return n
	}
	n.attrs = append(n.attrs, slog.Attr{Key: key, Value: value})
	return n
}

// session adds what names a session.
func (n *line) session(s telemetry.Session) *line {
	if n.off {
		return n
	}
	n.text("session", s.ID).text("listener", s.Listener)
	if s.Peer.IsValid() {
		n.text("peer", s.Peer.String())
	}
	return n.text("helo", s.Hello)
}

// text adds what anyone may have chosen.
func (n *line) text(key, s string) *line {
	if s == "" || n.off {
		return n
	}
	return n.add(key, slog.StringValue(clean(s, maxText)))
}

// always is text for a key that is there even when there is nothing to say.
func (n *line) always(key, s string) *line {
	if n.off {
		return n
	}
	return n.add(key, slog.StringValue(clean(s, maxText)))
}

// free adds text in which mail addresses may stand.
func (n *line) free(key, s string) *line {
	if n.off {
		return n
	}
	return n.text(key, n.lg.scrub(s))
}

// sender adds the reverse-path of a message; the null one is "<>".
func (n *line) sender(from string) *line {
	if from == "" {
		return n.text("mail_from", "<>")
	}
	return n.address("mail_from", from)
}

func (n *line) address(key, a string) *line {
	if a == "<>" {
		return n.text(key, a) // nobody's
	}
	if a == "" || n.off || n.lg.opts.Addresses == None {
		return n
	}
	return n.text(key, n.lg.address(a))
}

// maxRcpts bounds how many recipients a line names.
const maxRcpts = 100

func (n *line) rcpts(to []string) *line {
	if n.off || n.lg.opts.Addresses == None {
		return n
	}
	shown := make([]string, 0, min(len(to), maxRcpts+1))
	for i, a := range to {
		if i == maxRcpts {
			shown = append(shown, fmt.Sprintf("and %d more", len(to)-i))
			break
		}
		shown = append(shown, clean(n.lg.address(a), maxText))
	}
	return n.add("rcpts", slog.AnyValue(shown))
}

func (n *line) err(key string, err error) *line {
	if err == nil || n.off {
		return n
	}
	return n.free(key, err.Error())
}

func (n *line) num(key string, v int64) *line { return n.add(key, slog.Int64Value(v)) }

// flag adds what is so; what is not is left out.
func (n *line) flag(key string, is bool) *line {
	if !is || n.off {
		return n
	}
	return n.add(key, slog.BoolValue(true))
}

// because adds what a policy's answer rests on.
func (n *line) because(b telemetry.Because) *line {
	if n.off {
		return n
	}
	n.text("ref", b.Ref).text("rule", b.Rule)
	if len(b.Inputs) > 0 {
		in := &line{lg: n.lg, level: n.level}
		for _, a := range b.Inputs {
			in.input(a)
		}
		n.add("inputs", slog.GroupValue(in.attrs...))
	}
	if b.Took > 0 {
		n.took("duration", b.Took)
	}
	return n
}

// input adds what a policy looked at.
func (n *line) input(a slog.Attr) {
	switch v := a.Value.Resolve(); {
	case a.Key == "mail_from" || a.Key == "rcpt":
		n.address(a.Key, v.String())
	case v.Kind() == slog.KindInt64, v.Kind() == slog.KindUint64, v.Kind() == slog.KindFloat64, v.Kind() == slog.KindBool:
		n.add(clean(a.Key, maxText), v)
	case v.Kind() == slog.KindDuration:
		n.took(clean(a.Key, maxText), v.Duration())
	default:
		n.free(clean(a.Key, maxText), v.String())
	}
}

// took adds a duration as text with its unit, the same in every format.
func (n *line) took(key string, d time.Duration) *line {
	if n.off {
		return n
	}
	return n.add(key, slog.StringValue(d.Round(time.Microsecond).String()))
}

func (n *line) when(key string, t time.Time) *line {
	if t.IsZero() || n.off {
		return n
	}
	return n.add(key, slog.StringValue(t.UTC().Format(time.RFC3339)))
}
