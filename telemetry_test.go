package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/queue/diskqueue"
	"github.com/incoming-mx/incoming/telemetry"
)

// told is every event of every hook.
type told struct {
	mu     sync.Mutex
	events map[string][]reflect.Value
	more   chan struct{}
}

// hooks is hooks of which each, whatever there are, writes its event down.
func (w *told) hooks() telemetry.Hooks {
	var h telemetry.Hooks
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func(event []reflect.Value) []reflect.Value {
			w.mu.Lock()
			w.events[name] = append(w.events[name], event[0])
			w.mu.Unlock()
			select {
			case w.more <- struct{}{}:
			default:
			}
			return nil
		}))
	}
	return h
}

// has reports whether one event of a hook has all those fields.
func (w *told) has(hook string, fields []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events[hook], func(e reflect.Value) bool {
		return !slices.ContainsFunc(fields, func(f string) bool { return e.FieldByName(f).IsZero() })
	})
}

func (w *told) await(t *testing.T, hook, fields string) {
	t.Helper()
	timeout := time.After(incomingtest.Wait)
	for !w.has(hook, strings.Fields(fields)) {
		select {
		case <-w.more:
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("no %s with %s, but: %+v", hook, fields, w.events[hook])
		}
	}
}

// onceBroke fails the first Accept.
type onceBroke struct {
	net.Listener
	failed atomic.Bool
}

func (l *onceBroke) Accept() (net.Conn, error) {
	if l.failed.CompareAndSwap(false, true) {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// carried is what an event of each hook says of its fact.
var carried = map[string]string{
	"SessionConnect":      "ID Listener Peer",
	"SessionAccepted":     "ID Listener Peer",
	"SessionRejected":     "ID Listener Peer Hello Stage Reply Code Reason Policy MailFrom Rcpt",
	"SessionClosed":       "ID Listener Peer Reason Duration Messages BytesIn BytesOut",
	"SessionDialogue":     "ID FromPeer Line",
	"MessageQueued":       "ID Listener Peer Hello MailFrom Rcpts Size MessageID TLS Depth Commit Duration",
	"MessageDiscarded":    "ID Peer Policy MailFrom Rcpts Size",
	"MessageEnqueueError": "Peer Reason Err Size",
	"DeliveryResult":      "ID Attempt Outcome Reason Duration Age MailFrom Rcpts",
	"DeliveryHeld":        "Held Failures Reason",
	"DeliveryDead":        "ID Kind Reason Attempt MailFrom Rcpts",
	"SessionCrowd":        "Max BusiestMax",
	"QueueDepth":          "",
	"QueueSwept":          "ID MailFrom Rcpts Reason Kind DeadAt",
	"PolicyDecision":      "ID Peer Policy Stage Decision Reason Duration",
	"LimitHit":            "ID Peer Limit Use Max",
	"SmugglingBlocked":    "ID Peer What",
	"TLSHandshake":        "ID Peer Version Cipher Duration",
	"TLSCertificate":      "Listener Number File Names NotAfter",
	"SpoolError":          "Op ID Err",
	"SpoolSpace":          "Bytes Inodes",
	"Trouble":             "Kind Listener Text Err",
	"Panic":               "Where ID Value Stack",
}

// gate is a policy that does what the sender's or recipient's name asks for.
func gate(_ context.Context, stage policy.Stage, tx *policy.Transaction) error {
	switch {
	case stage == policy.StageRcpt && tx.Rcpt().Path.Local == "nobody":
		return fmt.Errorf("not on the list: %w", policy.Reject("No"))
	case stage == policy.StageMessage && tx.From.Local == "forget":
		return policy.Discard
	case stage == policy.StageMail && tx.From.Local == "panic":
		panic("a policy's bug")
	}
	return nil
}

// One server, with a real spool, is taken through all that can be told.
func TestEachFactIsTold(t *testing.T) {
	t.Parallel()
	w := &told{events: map[string][]reflect.Value{}, more: make(chan struct{}, 1)}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "committed", "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	spool, err := diskqueue.Open(dir, &diskqueue.Options{Hooks: w.hooks(), DeadAge: time.Nanosecond, DeadSweep: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	})
	var full atomic.Bool
	q := &tamper{Queue: spool, begin: func() error {
		if full.Load() {
			return queue.ErrFull
		}
		return nil
	}}
	ca := testcert.NewCA(t)
	cert, key := ca.Issue(t, testcert.Options{}).WriteFiles(t, t.TempDir())
	srv := incomingtest.NewServer(t, incoming.Config{
		Queue: q, Hooks: w.hooks(), Policies: []incoming.Policy{policy.Named("gate", policy.Func(gate))},
		Limits: incoming.Limits{Recipients: 1}, Delivery: incoming.Delivery{Backoff: time.Millisecond, BackoffCap: time.Millisecond},
		Listeners: []incoming.Listener{{Name: "mx", Net: &onceBroke{Listener: loopback(t)}, TLS: incoming.TLSOptional,
			CertFile: cert, KeyFile: key}},
		Adapter: incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			switch m.Envelope.MailFrom {
			case "reject@example.net":
				return incoming.Reject(errors.New("unwanted"))
			case "retry@example.net":
				return errors.New("not now")
			}
			return nil
		}),
	})

	c := srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250")
	c.StartTLS(ca.ClientConfig("localhost"))
	c.Play(`
		C: EHLO client.test
		S: 250
		C: MAIL FROM:<panic@example.net>
		S: 451 4.3.0
		C: MAIL FROM:<reject@example.net>
		S: 250
		C: RCPT TO:<nobody@example.org>
		S: 550 5.7.1 No
		C: RCPT TO:<b@example.org>
		S: 250
		C: RCPT TO:<c@example.org>
		S: 452 4.5.3
		C: DATA
		S: 354
	`)
	c.Write("Message-ID: <1@example.net>\r\n\r\na\n.\nb\r\n.\r\n").Expect("250")
	c.Play("C: QUIT\nS: 221")
	srv.Send("forget@example.net", []string{"b@example.org"}, "X: y\r\n\r\n")
	w.await(t, "DeliveryDead", carried["DeliveryDead"])
	srv.Send("retry@example.net", []string{"b@example.org"}, "X: y\r\n\r\n") // 16 times, then the hold
	full.Store(true)
	c = srv.Dial()
	c.Play("S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<a@example.net> SIZE=7\nS: 250\nC: RCPT TO:<b@example.org>\nS: 250\nC: DATA\nS: 421 4.3.2")

	hooks := reflect.TypeFor[telemetry.Hooks]()
	for i := range hooks.NumField() {
		name := hooks.Field(i).Name
		fields, ok := carried[name]
		if !ok {
			t.Errorf("what does %s carry?", name)
		}
		w.await(t, name, fields)
	}
}
