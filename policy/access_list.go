package policy

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/incoming-mx/incoming/internal/listfile"
)

// AccessList allows and denies clients by network, hello name, sender and
// recipient, by the rules of a file. The file is read again when it changes; one
// with an error is reported, and the rules before it stay in force. A denied
// client gets 554 5.7.1 at connect, else 550 5.7.1. Its name is access_list.
//
// The file has a rule a line: "allow" or "deny", what to look at, and a pattern.
// Empty lines, and what follows a "#" at the start of a line or after a space,
// are comments.
//
//	deny  network    192.0.2.0/24           an address or a network, IPv4 or IPv6
//	deny  hello      dialup.example.net     a name in EHLO or HELO
//	deny  hello      *.dialup.example.net   every name under it, itself not
//	allow sender     friend@example.org     an address
//	deny  sender     @example.org           every address of a domain
//	deny  sender     @*.example.org         every address of its subdomains
//	deny  sender     <>                     the null sender of bounces
//	deny  recipient  former@example.com     likewise for recipients
//	allow recipient  <postmaster>           the one address without a domain
//	deny  hello      *                      any
//
// The first rule from the top that matches decides, and without one nothing is
// objected to. A deny rule refuses as early as the answer is sure: one for a
// network at connect, unless an allow rule above it looks at something that is
// not known yet; then when it is. Case does not count, domains are compared by
// A-label, and a local part in quotes is the one without them.
//
// Allow means that this list has no objection; later policies are asked. About
// <postmaster> and the postmaster of its own domains a server asks no policy: at
// RCPT they are always let in.
type AccessList struct {
	file *listfile.File
	opts AccessListOptions

	inForce atomic.Pointer[rules]
}

// AccessListOptions may be nil.
type AccessListOptions struct {
	// OnReload is told when the file was read again because it had changed:
	// the number of rules now in force, or why those before stay. It is
	// called inline by a session.
	OnReload func(rules int, err error)
}

// OpenAccessList reads an access list. The error names the file and the line,
// and how to mend it.
func OpenAccessList(path string, o *AccessListOptions) (*AccessList, error) {
	l := new(AccessList)
	if o != nil {
		l.opts = *o
	}
	var err error
	l.file, err = listfile.Open(path, func(text []byte) error {
		rs, err := parseRules(path, text)
		if err == nil {
			l.inForce.Store(rs)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("access list: %w", err)
	}
	return l, nil
}

// Name is "access_list".
func (l *AccessList) Name() string { return "access_list" }

// Len is the number of rules in force.
func (l *AccessList) Len() int { return l.inForce.Load().n }

// Reload reads the file now, changed or not. At an error the rules before stay
// in force. OnReload is not told.
func (l *AccessList) Reload() error {
	if err := l.file.Reload(); err != nil {
		return fmt.Errorf("access list: %w", err)
	}
	return nil
}

// Check asks the rules at StageConnect, StageHello, StageMail and StageRcpt.
func (l *AccessList) Check(_ context.Context, stage Stage, t *Transaction) error {
	if stage > StageRcpt {
		return nil
	}
	l.reloadIfChanged()
	r := l.inForce.Load().deny(stage, t)
	if r == nil {
		return nil
	}
	reply := replyDenied
	if stage == StageConnect {
		reply = replyDeniedHere
	}
	return Because(fmt.Errorf("%s:%d: %s: %w", l.file.Path(), r.line, r.text, reply), fmt.Sprintf("line_%d", r.line), slog.String("rule", r.text))
}

func (l *AccessList) reloadIfChanged() {
	news, err := l.file.Again()
	if !news || l.opts.OnReload == nil {
		return
	}
	if err != nil {
		err = fmt.Errorf("access list: %w", err)
	}
	l.opts.OnReload(l.Len(), err)
}
