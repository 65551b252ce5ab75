package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// The bounds of an access list's file.
const (
	maxAccessFile = 64 << 20
	// checkAccessEvery is how often, at most, the file is looked at.
	checkAccessEvery = time.Second
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
	path string
	opts AccessListOptions

	inForce atomic.Pointer[rules]
	next    atomic.Int64  // when the file is to be looked at again, Unix nanoseconds
	reading chan struct{} // holds one value while nobody reads the file
	read    state         // of the file as last read; its owner holds reading
}

// AccessListOptions may be nil.
type AccessListOptions struct {
	// OnReload is told when the file was read again because it had changed:
	// the number of rules now in force, or why those before stay. It is
	// called inline by a session.
	OnReload func(rules int, err error)
}

// state is a file as it was when it was read, good or bad.
type state struct {
	info fs.FileInfo // nil when it could not be looked at
	sum  [sha256.Size]byte
	at   time.Time
	err  string
}

// OpenAccessList reads an access list. The error names the file and the line,
// and how to mend it.
func OpenAccessList(path string, o *AccessListOptions) (*AccessList, error) {
	l := &AccessList{path: path, reading: make(chan struct{}, 1)}
	l.reading <- struct{}{}
	if o != nil {
		l.opts = *o
	}
	if _, err := l.load(); err != nil {
		return nil, err
	}
	l.next.Store(time.Now().Add(checkAccessEvery).UnixNano())
	return l, nil
}

// Name is "access_list".
func (l *AccessList) Name() string { return "access_list" }

// Len is the number of rules in force.
func (l *AccessList) Len() int { return l.inForce.Load().n }

// Reload reads the file now, changed or not. At an error the rules before stay
// in force. OnReload is not told.
func (l *AccessList) Reload() error {
	<-l.reading
	defer func() { l.reading <- struct{}{} }()
	_, err := l.load()
	return err
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
	return Because(fmt.Errorf("%s:%d: %s: %w", l.path, r.line, r.text, reply), fmt.Sprintf("line_%d", r.line), slog.String("rule", r.text))
}

// reloadIfChanged looks at the file when it is time to. One session does; the
// others go on with the rules there are.
func (l *AccessList) reloadIfChanged() {
	now, next := time.Now(), l.next.Load()
	if now.UnixNano() < next || !l.next.CompareAndSwap(next, now.Add(checkAccessEvery).UnixNano()) {
		return
	}
	select {
	case <-l.reading:
		defer func() { l.reading <- struct{}{} }()
	default:
		return
	}
	if !l.changed() {
		return
	}
	before := l.read
	same, err := l.load()
	if same && l.read.err == before.err {
		return
	}
	if l.opts.OnReload != nil {
		l.opts.OnReload(l.Len(), err)
	}
}

// changed reports whether the file may be another than was read.
func (l *AccessList) changed() bool {
	info, err := os.Stat(l.path)
	if err != nil || l.read.info == nil {
		return true // load finds out
	}
	old := l.read.info
	if !os.SameFile(info, old) || info.Size() != old.Size() || !info.ModTime().Equal(old.ModTime()) {
		return true
	}
	// Written again within the file system's clock tick, it looks the same.
	return l.read.at.Sub(old.ModTime()) < 2*time.Second
}

// load reads the file and puts its rules in force. same says that it holds
// what it held at the last load.
func (l *AccessList) load() (same bool, err error) {
	s := state{at: time.Now()}
	defer func() {
		if err != nil {
			s.err = err.Error()
		}
		l.read = s
	}()
	text, info, err := readBounded(l.path, maxAccessFile)
	if err != nil {
		s.sum = l.read.sum
		return true, fmt.Errorf("access list: %w", err)
	}
	s.info, s.sum = info, sha256.Sum256(text)
	same = s.sum == l.read.sum
	if same && l.inForce.Load() != nil && l.read.err == "" {
		return true, nil
	}
	rs, err := parseRules(l.path, text)
	if err != nil {
		return same, fmt.Errorf("access list: %w", err)
	}
	l.inForce.Store(rs)
	return same, nil
}

func readBounded(path string, most int64) ([]byte, fs.FileInfo, error) {
	// Before it is opened: opening a pipe waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // it was only read
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(text)) > most {
		return nil, nil, fmt.Errorf("%s is larger than %d octets", path, most)
	}
	return text, info, nil
}
