package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/memqueue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

const ehloMailRcpt = `
	S: 220 mx.test ESMTP incoming
	C: EHLO client.test
	S: 250
	C: MAIL FROM:<a@example.net>
	S: 250 2.1.0
	C: RCPT TO:<b@example.org>
	S: 250 2.1.5
`

// toData is a dialogue up to the text.
const toData = ehloMailRcpt + `
	C: DATA
	S: 354
`

// newQueue is a queue in memory that is closed with the test.
func newQueue(t *testing.T, o *memqueue.Options) *memqueue.Queue {
	q := memqueue.New(o)
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// tamper is a queue in which a test has its hands. A nil func leaves the call
// as it is.
type tamper struct {
	queue.Queue
	check  func(size int64) error
	begin  func() error
	write  func(total int) error
	commit func(do func() (*queue.Message, error)) (*queue.Message, error)
	lease  func()
}

func (q *tamper) Check(size int64) error {
	if q.check != nil {
		if err := q.check(size); err != nil {
			return err
		}
	}
	return q.Queue.Check(size)
}

// Space is what the queue knows of it.
func (q *tamper) Space() (queue.Space, error) {
	if spacer, ok := q.Queue.(queue.Spacer); ok {
		return spacer.Space()
	}
	return queue.Space{}, errors.New("nobody knows")
}

func (q *tamper) Begin(ctx context.Context, env queue.Envelope, o queue.Origin) (queue.Draft, error) {
	if q.begin != nil {
		if err := q.begin(); err != nil {
			return nil, err
		}
	}
	d, err := q.Queue.Begin(ctx, env, o)
	return &tamperedDraft{Draft: d, q: q}, err
}

func (q *tamper) Lease(ctx context.Context) (queue.Lease, error) {
	l, err := q.Queue.Lease(ctx)
	if err == nil && q.lease != nil {
		q.lease()
	}
	return l, err
}

type tamperedDraft struct {
	queue.Draft
	q     *tamper
	total int
}

func (d *tamperedDraft) Write(p []byte) (int, error) {
	d.total += len(p)
	if d.q.write != nil {
		if err := d.q.write(d.total); err != nil {
			return 0, err
		}
	}
	return d.Draft.Write(p)
}

func (d *tamperedDraft) Commit(ctx context.Context, f queue.Final) (*queue.Message, error) {
	if d.q.commit == nil {
		return d.Draft.Commit(ctx, f)
	}
	m, err := d.q.commit(func() (*queue.Message, error) { return d.Draft.Commit(ctx, f) })
	if err != nil {
		err = errors.Join(err, d.Draft.Discard()) // a draft is gone after Commit
	}
	return m, err
}

// sink is a queue that forgets: it holds no text, so that what memory is used is
// the server's.
type sink struct{ queue.Queue }

func (q sink) Begin(_ context.Context, _ queue.Envelope, o queue.Origin) (queue.Draft, error) {
	return &sinkDraft{id: queue.NewID(o.ReceivedAt)}, nil
}

type sinkDraft struct{ id queue.ID }

func (d *sinkDraft) ID() queue.ID                 { return d.id }
func (d *sinkDraft) Write(p []byte) (int, error)  { return len(p), nil }
func (d *sinkDraft) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
func (d *sinkDraft) Discard() error               { return nil }

func (d *sinkDraft) Commit(context.Context, queue.Final) (*queue.Message, error) {
	m := queue.NewMessage(queue.Entry{ID: d.id}, nil)
	m.Expire()
	return m, nil
}

func (d *sinkDraft) CommitLeased(context.Context, queue.Final) (queue.Lease, error) {
	return nil, errors.New("sink: holds nothing to lease")
}

// journal is a list of what happened, in order.
type journal struct {
	mu     sync.Mutex
	events []string
	more   chan struct{}
}

func newJournal() *journal { return &journal{more: make(chan struct{}, 1)} }

func (j *journal) add(event string) {
	j.mu.Lock()
	j.events = append(j.events, event)
	j.mu.Unlock()
	select {
	case j.more <- struct{}{}:
	default:
	}
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// await waits until an event with that prefix has happened.
func (j *journal) await(t *testing.T, prefix string) {
	t.Helper()
	timeout := time.After(incomingtest.Wait)
	for {
		if slices.ContainsFunc(j.all(), func(e string) bool { return strings.HasPrefix(e, prefix) }) {
			return
		}
		select {
		case <-j.more:
		case <-timeout:
			t.Fatalf("no %q in %v, but: %q", prefix, incomingtest.Wait, j.all())
		}
	}
}

// recordSenders is a policy that writes down each MAIL that reached it.
func recordSenders(j *journal) incoming.Policy {
	return policy.OnMail(func(_ context.Context, from smtp.Path, _ *policy.Transaction) error {
		j.add("MAIL " + from.String())
		return nil
	})
}

// spyListener lets a test see what the server writes.
type spyListener struct {
	net.Listener
	wrote func(p []byte)
}

func (l spyListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spyConn{nc, l.wrote}, nil
}

type spyConn struct {
	net.Conn
	wrote func(p []byte)
}

func (c spyConn) Write(p []byte) (int, error) {
	c.wrote(p)
	return c.Conn.Write(p)
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// eventHooks writes down the facts of sessions and messages.
func eventHooks(j *journal) telemetry.Hooks {
	return telemetry.Hooks{
		SessionConnect:  func(telemetry.SessionConnect) { j.add("connect") },
		SessionAccepted: func(telemetry.SessionAccepted) { j.add("accepted") },
		SessionRejected: func(e telemetry.SessionRejected) {
			j.add("rejected " + e.Stage + " " + e.Reply + " policy=" + e.Policy + " reason=" + e.Reason)
		},
		SessionClosed:       func(e telemetry.SessionClosed) { j.add("closed " + e.Reason) },
		MessageQueued:       func(e telemetry.MessageQueued) { j.add("queued " + e.ID) },
		MessageDiscarded:    func(e telemetry.MessageDiscarded) { j.add("discarded " + e.Policy) },
		MessageEnqueueError: func(e telemetry.MessageEnqueueError) { j.add("enqueue_error " + e.Reason) },
		PolicyDecision:      func(e telemetry.PolicyDecision) { j.add("decision " + e.Policy + " " + e.Decision) },
		LimitHit:            func(e telemetry.LimitHit) { j.add("limit " + e.Limit) },
		SmugglingBlocked:    func(e telemetry.SmugglingBlocked) { j.add("smuggling " + e.What) },
		TLSHandshake:        func(e telemetry.TLSHandshake) { j.add("tls " + e.Version) },
		TLSCertificate:      func(e telemetry.TLSCertificate) { j.add(fmt.Sprintf("certificate %d %v", e.Number, e.NotAfter)) },
		Trouble:             func(e telemetry.Trouble) { j.add("trouble " + e.Kind) },
		Panic:               func(e telemetry.Panic) { j.add("panic " + e.Where) },
	}
}

func prefixes(ps ...string) (out []netip.Prefix) {
	for _, p := range ps {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

var ref = regexp.MustCompile(` \(ref [2-9A-HJ-NP-Z]{8}\)`)

// withoutRef is a reply, or text with one in it, without the reference that a
// policy's refusal ends in.
func withoutRef(s string) string { return ref.ReplaceAllString(s, "") }
