package mailauth

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/policy/resolver"
)

// budgeted asks a resolver and bounds the time in which one message waits for it:
// the clock runs while at least one question is open, so that what is asked side by
// side costs once, and a text that takes long to arrive costs nothing.
type budgeted struct {
	resolver resolver.Resolver

	mu    sync.Mutex
	left  time.Duration
	open  int
	since time.Time // when open left zero
	texts map[string]*textAnswer
}

// textAnswer is the answer to a question for TXT records. What is asked for early, by
// two mechanisms, or by two walks, is asked once.
type textAnswer struct {
	done  chan struct{} // closed when the answer is there
	texts []string
	err   error
}

func newBudget(r resolver.Resolver, budget time.Duration) *budgeted {
	return &budgeted{resolver: r, left: budget}
}

// begin is a ctx for one question, and what ends it.
func (b *budgeted) begin(ctx context.Context) (context.Context, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.open == 0 {
		b.since = now
	}
	b.open++
	ctx, cancel := context.WithDeadline(ctx, b.since.Add(b.left))
	return ctx, func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.open--; b.open == 0 {
			b.left -= time.Since(b.since)
		}
	}
}

// ask asks within the budget. A resolver's answer that came because the time was up
// is no answer.
func ask[T any](ctx context.Context, b *budgeted, name string, question func(context.Context) (T, error)) (T, error) {
	ctx, end := b.begin(ctx)
	defer end()
	if ctx.Err() == nil {
		got, err := question(ctx)
		if err == nil || ctx.Err() == nil {
			return got, passing(err, name)
		}
	}
	var none T
	return none, &net.DNSError{Err: "no answer in the time that a message may wait for the DNS", Name: name, IsTimeout: true, IsTemporary: true}
}

// passing makes every error but "there is nothing" one that passes, for what cannot
// be told now is neither a yes nor a no.
func passing(err error, name string) error {
	if err == nil || notFound(err) {
		return err
	}
	dns := net.DNSError{Err: err.Error(), Name: name}
	if e, ok := err.(*net.DNSError); ok {
		dns = *e
	}
	dns.IsTemporary = true
	return &dns
}

// LookupTXT asks each name once a message.
func (b *budgeted) LookupTXT(ctx context.Context, name string) ([]string, error) {
	b.mu.Lock()
	t, found := b.texts[name]
	if !found {
		t = &textAnswer{done: make(chan struct{})}
		if b.texts == nil {
			b.texts = make(map[string]*textAnswer)
		}
		b.texts[name] = t
	}
	b.mu.Unlock()
	if found {
		<-t.done // whoever asked first is bound by the same budget
		return t.texts, t.err
	}
	t.err = &net.DNSError{Err: "the question broke off", Name: name, IsTemporary: true} // unless it is answered
	defer close(t.done)
	t.texts, t.err = ask(ctx, b, name, func(ctx context.Context) ([]string, error) { return b.resolver.LookupTXT(ctx, name) })
	return t.texts, t.err
}

func (b *budgeted) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, b, name, func(ctx context.Context) ([]*net.MX, error) { return b.resolver.LookupMX(ctx, name) })
}

func (b *budgeted) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return ask(ctx, b, host, func(ctx context.Context) ([]net.IPAddr, error) { return b.resolver.LookupIPAddr(ctx, host) })
}

func (b *budgeted) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return ask(ctx, b, addr, func(ctx context.Context) ([]string, error) { return b.resolver.LookupAddr(ctx, addr) })
}

// notFound reports whether err is the DNS's word that there is nothing.
func notFound(err error) bool {
	dns, ok := err.(*net.DNSError)
	return ok && dns.IsNotFound
}
