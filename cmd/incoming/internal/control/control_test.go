package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/incoming-mx/incoming/queue"
)

// fake is a queue of entries in memory.
type fake struct {
	entries []queue.Entry
	done    []string
	paused  bool
}

func (f *fake) List(_ context.Context, filter queue.Filter) iter.Seq2[queue.Entry, error] {
	return func(yield func(queue.Entry, error) bool) {
		for _, e := range f.entries {
			if e.State == "broken" {
				if !yield(queue.Entry{}, errors.New("entry "+string(e.ID)+": meta.json: cut short")) {
					return
				}
			} else if filter.Match(e) && !yield(e, nil) {
				return
			}
		}
	}
}

func (f *fake) Get(_ context.Context, id queue.ID) (queue.Entry, error) {
	for _, e := range f.entries {
		if e.ID == id {
			return e, nil
		}
	}
	return queue.Entry{}, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
}

func (f *fake) Open(ctx context.Context, id queue.ID) (io.ReadCloser, error) {
	if _, err := f.Get(ctx, id); err != nil {
		return nil, err
	}
	if n, cut := strings.CutPrefix(string(id), "cut after "); cut {
		octets, err := strconv.Atoi(n)
		return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", octets)), failing{})), err
	}
	return io.NopCloser(strings.NewReader("Subject: x\r\n\r\n")), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

func (f *fake) act(verb string, id queue.ID) error {
	if id == "leased" {
		return fmt.Errorf("%s: %w", id, queue.ErrLeased)
	}
	if id == "incomplete" {
		return fmt.Errorf("%s: %w", id, queue.ErrIncomplete)
	}
	f.done = append(f.done, verb+" "+string(id))
	return nil
}
func (f *fake) Retry(_ context.Context, id queue.ID) error   { return f.act("retry", id) }
func (f *fake) Requeue(_ context.Context, id queue.ID) error { return f.act("requeue", id) }
func (f *fake) Delete(_ context.Context, id queue.ID) error  { return f.act("delete", id) }
func (f *fake) Pause(context.Context) error                  { f.paused = true; return nil }
func (f *fake) Resume(context.Context) error                 { f.paused = false; return nil }
func (f *fake) Paused() bool                                 { return f.paused }

// start serves f on a socket of its own until the test ends.
func start(t *testing.T, f *fake) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	d := Daemon{
		Queue: f,
		Stats: func() Stats {
			return Stats{Depth: queue.Depth{Ready: 2, Dead: 1, Oldest: time.Unix(5, 0).UTC()}, Paused: f.paused, Held: true}
		},
		Sessions: func() []Session { return []Session{{ID: "s1", Peer: "192.0.2.1:5"}} },
		Busiest:  func() []Peer { return []Peer{{Peer: "2001:db8::/64", Sessions: 3, Refused: 7}} },
		Reload: func(context.Context) (*Report, error) {
			if f.paused {
				return nil, errors.New("incoming.toml:3:1: unknown key x")
			}
			return &Report{Changes: []Change{{Key: "domains", New: "x"}}}, nil
		},
	}
	go func() { done <- Serve(ctx, l, d) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func entries() []queue.Entry {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
	return []queue.Entry{
		{ID: "a", State: queue.StateWaiting, Envelope: queue.Envelope{MailFrom: "s@x.example", RcptTo: []queue.Recipient{{Address: "b\"ü@y.example", Notify: "NEVER"}}},
			Settled: []queue.Outcome{{Recipient: "c@y.example", Rejected: "no"}}, Origin: queue.Origin{ReceivedAt: at, Peer: netip.MustParseAddrPort("192.0.2.1:25").String(), TLS: &queue.TLSInfo{Version: "TLS 1.3"}},
			Size: 10, Attempts: 3, NextAttempt: at.Add(time.Minute), LastError: "x", Facts: queue.Facts{"p.n": json.RawMessage(`{"a":1}`)}, Prepend: []byte("Received: x\r\n\xff"), Skip: []queue.Range{{Start: 1, End: 2}}},
		{ID: "bad", State: "broken"},
		{ID: "../a b/?%", State: queue.StateDead, Dead: &queue.Dead{RejectedAt: at, Reason: "r", Kind: queue.KindSpent}},
	}
}

func TestEntriesComeThroughUnchanged(t *testing.T) {
	t.Parallel()
	f := &fake{entries: entries()}
	c := start(t, f)
	var got []queue.Entry
	var broken []string
	for e, err := range c.List(t.Context(), queue.Filter{}) {
		if err != nil {
			broken = append(broken, err.Error())
			continue
		}
		got = append(got, e)
	}
	if d := cmp.Diff([]queue.Entry{f.entries[0], f.entries[2]}, got); d != "" {
		t.Errorf("-sent +received:\n%s", d)
	}
	if want := []string{"entry bad: meta.json: cut short"}; !slices.Equal(broken, want) {
		t.Errorf("broken: got %q, want %q", broken, want)
	}
	for e, err := range c.List(t.Context(), queue.Filter{States: []queue.State{queue.StateDead}}) {
		if err == nil && e.ID != f.entries[2].ID {
			t.Errorf("the filter was lost: %s", e.ID)
		}
	}
	for _, want := range []queue.Entry{f.entries[0], f.entries[2]} {
		if got, err := c.Get(t.Context(), want.ID); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("get %s: %v\n%s", want.ID, err, cmp.Diff(want, got))
		}
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	c := start(t, &fake{})
	if _, err := c.Get(t.Context(), "x"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := c.Open(t.Context(), "x"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	if err := c.Delete(t.Context(), "leased"); !errors.Is(err, queue.ErrLeased) {
		t.Errorf("delete: %v", err)
	}
	if err := c.Requeue(t.Context(), "incomplete"); !errors.Is(err, queue.ErrIncomplete) {
		t.Errorf("requeue: %v", err)
	}
}

func TestActsAreDone(t *testing.T) {
	t.Parallel()
	f := &fake{}
	c := start(t, f)
	for _, err := range []error{c.Retry(t.Context(), "a"), c.Requeue(t.Context(), "b"), c.Delete(t.Context(), "c"), c.Pause(t.Context())} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := []string{"retry a", "requeue b", "delete c"}; !slices.Equal(f.done, want) || !c.Paused() {
		t.Errorf("done %q, paused %v", f.done, c.Paused())
	}
	if _, err := c.Reload(t.Context()); err == nil || err.Error() != "incoming.toml:3:1: unknown key x" {
		t.Errorf("reload: %v", err)
	}
	if err := c.Resume(t.Context()); err != nil || c.Paused() {
		t.Errorf("resume: %v", err)
	}
	s, err := c.Stats(t.Context())
	if want := (Stats{Depth: queue.Depth{Ready: 2, Dead: 1, Oldest: time.Unix(5, 0).UTC()}, Held: true}); err != nil || s != want {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if ss, err := c.Sessions(t.Context()); err != nil || len(ss) != 1 || ss[0].ID != "s1" {
		t.Errorf("sessions: %+v, %v", ss, err)
	}
	if ps, err := c.Busiest(t.Context()); err != nil || len(ps) != 1 || ps[0].Sessions != 3 || ps[0].Refused != 7 {
		t.Errorf("busiest: %+v, %v", ps, err)
	}
	if r, err := c.Reload(t.Context()); err != nil || len(r.Changes) != 1 {
		t.Errorf("reload: %+v, %v", r, err)
	}
}

func TestABrokenMessageIsNotAShortOne(t *testing.T) {
	t.Parallel()
	for _, octets := range []int64{0, 10, 100_000} {
		id := queue.ID(fmt.Sprintf("cut after %d", octets))
		c := start(t, &fake{entries: []queue.Entry{{ID: id}}})
		r, err := c.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := io.Copy(io.Discard, r); n != octets || err == nil || err.Error() != "input/output error" {
			t.Errorf("%s: %d octets, and then %v", id, n, err)
		}
	}
}

func TestTheSocketIsTheOwnersAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a live socket: %v", err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
}

// mute listens on a socket and, after the answers, says nothing to anybody.
func mute(t *testing.T, answers int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			if n < answers {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					continue
				}
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnull\n")
			}
		}
		for _, c := range open {
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

func TestADaemonThatDoesNotAnswerIsSaidToBeSilent(t *testing.T) {
	t.Parallel()
	const soon = 50 * time.Millisecond
	if _, err := dial(t.Context(), mute(t, 0), soon, time.Hour); !errors.Is(err, ErrSilent) {
		t.Errorf("dial: %v", err)
	}
	c, err := dial(t.Context(), mute(t, 1), time.Hour, soon)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var listed error
	for _, err := range c.List(t.Context(), queue.Filter{}) {
		listed = err
	}
	_, sessions := c.Sessions(t.Context())
	_, opened := c.Open(t.Context(), "x")
	for what, err := range map[string]error{"list": listed, "sessions": sessions, "open": opened, "pause": c.Pause(t.Context())} {
		if !errors.Is(err, ErrSilent) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWhoEndsTheDialIsToldThat(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, mute(t, 0), time.Hour, time.Hour); errors.Is(err, ErrSilent) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
