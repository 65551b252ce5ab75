// Package deliverytest holds an adapter against the contract of
// delivery.Adapter: what arrives is what was received, an ID may come again, only
// those owed are answered for, nothing is taken in part, and whatever passes is a
// retry. An adapter's own test calls [Run].
//
//	func TestTheAdapterKeepsTheContract(t *testing.T) {
//		deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
//			box := newMailbox(t)
//			return deliverytest.Place{Adapter: mine.New(box), Arrived: box.copies, Once: true}
//		})
//	}
//
// The tests use the wall clock with long patience and none depends on being
// fast. Run them with the race detector: some are there for its sake.
package deliverytest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Place is an adapter and what lies where it delivers to.
type Place struct {
	// Adapter is held against the contract. One that is an io.Closer is closed
	// in the end.
	Adapter delivery.Adapter

	// Arrived is what lies there, in any order, once the deliveries so far have
	// returned. It is called often. Nil for a place that cannot be looked at:
	// then only verdicts are tested.
	Arrived func() ([]Copy, error)

	// Once says that an ID delivered a second time leaves one copy there.
	Once bool
}

// Copy is one message as it lies at a place.
type Copy struct {
	// To is the recipients that the place was told; nil when it is not told
	// them.
	To []string
	// Size is the octets of the text, and Sum their SHA-256: of the text that
	// the message's Open yields, without what the adapter puts around it.
	Size int64
	Sum  [sha256.Size]byte
}

// Read is the Copy of a text, which it reads to its end and does not keep: a
// test looks at how much memory 50 MB take, and a place that holds them would
// count.
func Read(to []string, text io.Reader) (Copy, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, text, make([]byte, 32<<10))
	c := Copy{To: to, Size: n}
	h.Sum(c.Sum[:0])
	return c, err
}

// check is one sentence of the contract.
type check struct {
	name string
	run  func(s *suite)
}

// Run tests the adapters that open makes. open is called once for each test and
// returns a new adapter to a place where nothing lies; t is the test that uses
// it, and cleans up after it. Let the test that calls Run not be parallel to
// others: one of its own measures memory.
func Run(t *testing.T, open func(t *testing.T) Place) {
	t.Helper()
	for _, checks := range [][]check{texts, verdicts, faults} {
		for _, c := range checks {
			t.Run(c.name, func(t *testing.T) {
				c.run(newSuite(t, open(t)))
			})
		}
	}
}

// NewMessage is a message with the text and the envelope of e, to try an adapter
// with; e.Size is set to the text's.
func NewMessage(e queue.Entry, text string) *queue.Message {
	e.Size = int64(len(text))
	return queue.NewMessage(e, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ io.ReaderAt }

func (raw) Close() error { return nil }

// entry is a message from sender@x.example to those, with an ID of its own.
func entry(id queue.ID, to ...string) queue.Entry {
	e := queue.Entry{ID: id}
	e.Envelope.MailFrom = "sender@x.example"
	for _, a := range to {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: a})
	}
	e.Hello, e.Peer, e.Listener = "client.example", "192.0.2.1:4711", "test"
	return e
}

func (c Copy) String() string { return fmt.Sprintf("%d octets (%.4x…) to %q", c.Size, c.Sum, c.To) }

// deliver is one attempt, which must end in time.
func (s *suite) deliver(ctx context.Context, m *queue.Message) error {
	s.Helper()
	came := make(chan error, 1)
	go func() { came <- delivery.Call(ctx, s.Adapter, m) }()
	select {
	case err := <-came:
		return err
	case <-s.patience:
		s.Fatal("Deliver has not returned in a minute")
		return nil
	}
}
