package deliverytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// store is an adapter that does as it should, and keeps copies by ID.
type store struct {
	mu     sync.Mutex
	copies map[queue.ID]Copy
	closed bool
}

func (s *store) Deliver(ctx context.Context, m *queue.Message) error {
	text, err := m.Open()
	if err != nil {
		return err
	}
	defer text.Close()
	c, err := Read(m.Envelope.Addresses(), text)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("closed")
	}
	s.copies[m.ID] = c
	return nil
}

func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *store) arrived() ([]Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.copies)), nil
}

func open() (*store, Place) {
	s := &store{copies: map[queue.ID]Copy{}}
	return s, Place{Adapter: s, Arrived: s.arrived, Once: true}
}

func TestAnAdapterThatDoesAsItShouldPasses(t *testing.T) {
	Run(t, func(*testing.T) Place {
		_, p := open()
		return p
	})
}

// A suite that cannot fail proves nothing.
func TestEachFaultOfAnAdapterIsFound(t *testing.T) {
	type deliver = func(s *store, ctx context.Context, m *queue.Message) error
	for name, c := range map[string]struct {
		bad  deliver
		says string
	}{
		"it takes what it has not": {func(*store, context.Context, *queue.Message) error { return nil }, "nothing has arrived"},
		"it rejects what passes": {func(s *store, ctx context.Context, m *queue.Message) error {
			if err := s.Deliver(ctx, m); err != nil {
				return delivery.Reject(err)
			}
			return nil
		}, "want one that is tried again"},
		"it keeps a part": {func(s *store, ctx context.Context, m *queue.Message) error {
			text, err := m.Open()
			if err != nil {
				return err
			}
			defer text.Close()
			c, err := Read(m.Envelope.Addresses(), text)
			s.mu.Lock()
			s.copies[m.ID] = c
			s.mu.Unlock()
			return err
		}, "what arrived is"},
		"it keeps a message in memory": {func(s *store, ctx context.Context, m *queue.Message) error {
			text, err := m.Open()
			if err != nil {
				return err
			}
			defer text.Close()
			if _, err := bytes.NewBuffer(make([]byte, 0, 2*m.Size)).ReadFrom(text); err != nil {
				return err
			}
			return s.Deliver(ctx, m)
		}, "memory has grown"},
		"it leaves a reader open": {func(s *store, ctx context.Context, m *queue.Message) error {
			if _, err := m.Open(); err != nil {
				return err
			}
			return s.Deliver(ctx, m)
		}, "readers open"},
		"it answers for others": {func(s *store, ctx context.Context, m *queue.Message) error {
			if err := s.Deliver(ctx, m); err != nil {
				return err
			}
			results := map[string]error{"a@y.example": nil}
			for _, rcpt := range m.Envelope.Addresses() {
				results[rcpt] = nil
			}
			return delivery.PerRecipient(results)
		}, "who is not owed"},
		"it changes the message": {func(s *store, ctx context.Context, m *queue.Message) error {
			slices.Reverse(m.Envelope.RcptTo)
			return s.Deliver(ctx, m)
		}, "was changed"},
		"it makes another of each attempt": {func(s *store, ctx context.Context, m *queue.Message) error {
			other := m.Narrow(m.Envelope.RcptTo)
			other.ID = queue.ID(fmt.Sprint(m.ID, m.Attempt))
			return s.Deliver(ctx, other)
		}, "lies there 2 times"},
		"it repairs line ends": {func(s *store, ctx context.Context, m *queue.Message) error {
			text, err := m.Open()
			if err != nil {
				return err
			}
			defer text.Close()
			all, err := io.ReadAll(text)
			if err != nil {
				return err
			}
			all = bytes.ReplaceAll(all, []byte("\r\n"), []byte("\n"))
			return s.Deliver(ctx, NewMessage(queue.Entry{ID: m.ID, Envelope: m.Envelope}, string(all)))
		}, "what arrived is"},
	} {
		t.Run(name, func(t *testing.T) {
			var said string
			for _, check := range slices.Concat(verdicts, texts, faults) {
				s, p := open()
				p.Adapter = delivery.AdapterFunc(func(ctx context.Context, m *queue.Message) error { return c.bad(s, ctx, m) })
				said += failure(t, func(tb testing.TB) { check.run(newSuite(tb, p)) })
				if strings.Contains(said, c.says) {
					return
				}
			}
			t.Errorf("said %q, want %q", said, c.says)
		})
	}
}

// failure is what f fails a test with; "" when it does not.
func failure(t *testing.T, f func(testing.TB)) string {
	tb := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tb)
	}()
	<-done
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.said.String()
}

type failing struct {
	testing.TB
	mu   sync.Mutex
	said strings.Builder
}

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(&f.said, format+"\n", args...)
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Fatal(args ...any) {
	f.Errorf("%s", fmt.Sprint(args...))
	runtime.Goexit()
}

func (f *failing) Skip(...any) { runtime.Goexit() }
