package policy

import (
	"context"
	"net/netip"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/smtp"
)

// OnConnect asks f when a client has connected; its peer is invalid when it has
// no IP address.
func OnConnect(f func(ctx context.Context, peer netip.AddrPort, t *Transaction) error) Policy {
	return on("on_connect", StageConnect, func(ctx context.Context, t *Transaction) error { return f(ctx, t.Peer, t) })
}

// OnHello asks f at each EHLO and HELO.
func OnHello(f func(ctx context.Context, name string, t *Transaction) error) Policy {
	return on("on_hello", StageHello, func(ctx context.Context, t *Transaction) error { return f(ctx, t.Hello, t) })
}

// OnMail asks f at MAIL; from.IsNull() is a bounce or an automatic reply.
func OnMail(f func(ctx context.Context, from smtp.Path, t *Transaction) error) Policy {
	return on("on_mail", StageMail, func(ctx context.Context, t *Transaction) error { return f(ctx, t.From, t) })
}

// OnRcpt asks f about each recipient.
func OnRcpt(f func(ctx context.Context, to smtp.Path, t *Transaction) error) Policy {
	return on("on_rcpt", StageRcpt, func(ctx context.Context, t *Transaction) error { return f(ctx, t.Rcpt().Path, t) })
}

// OnData asks f when the recipients are known, before the text is let in.
func OnData(f func(ctx context.Context, t *Transaction) error) Policy {
	return on("on_data", StageData, f)
}

// OnHeader asks f when the header is in and the rest of the text is not.
func OnHeader(f func(ctx context.Context, h header.Header, t *Transaction) error) Policy {
	return on("on_header", StageHeader, func(ctx context.Context, t *Transaction) error { return f(ctx, t.Header, t) })
}

// OnMessage asks f when the whole message is in, before it is kept and before
// the sender is told 250: the last moment to say no to the sender. t.Open reads
// it.
func OnMessage(f func(ctx context.Context, t *Transaction) error) Policy {
	return on("on_message", StageMessage, f)
}

// at is a policy of one stage.
type at struct {
	name  string
	stage Stage
	check func(context.Context, *Transaction) error
}

func on(name string, stage Stage, check func(context.Context, *Transaction) error) Policy {
	return &at{name: name, stage: stage, check: check}
}

// Name is what Named calls it.
func (p *at) Name() string { return p.name }

// Asks implements Asker.
func (p *at) Asks(stage Stage) bool { return stage == p.stage }

func (p *at) Check(ctx context.Context, stage Stage, t *Transaction) error {
	if stage != p.stage {
		return nil
	}
	return p.check(ctx, t)
}

// asksAt reports whether p has anything to ask at a stage, as far as is known.
func asksAt(p Policy, stage Stage) bool {
	a, ok := p.(Asker)
	return !ok || a.Asks(stage)
}
