// Package queue is the contract of safe keeping: what it means to hold a
// message between the moment a client is told 250 and the moment an
// application has taken it.
//
// It names the nouns (ID, Envelope, Message, Draft, Lease) and the interface a
// backend implements; it knows no disk, no wire and no adapter. The backends
// are [github.com/incoming-mx/incoming/queue/diskqueue], which survives a power
// cut, and [github.com/incoming-mx/incoming/queue/memqueue], which does not.
// Package queuetest holds any other backend against this contract.
package queue

import (
	"context"
	"errors"
	"io"
	"time"
)

// What a backend may answer. Compare with [errors.Is]; a backend wraps them
// with its own detail.
var (
	// ErrFull: the queue holds as many messages as it may. Passing; the
	// client is told 421 and comes back.
	ErrFull = errors.New("queue: full")
	// ErrNoSpace: the storage has no room (blocks, quota or inodes). Passing;
	// deliveries go on, for they free space.
	ErrNoSpace = errors.New("queue: no space left")
	// ErrBusy: the process lacks a resource for the moment (file descriptors).
	ErrBusy = errors.New("queue: out of a passing resource")
	// ErrSick: the storage answers with errors; nothing may be promised until
	// a probe has passed.
	ErrSick = errors.New("queue: storage is failing")
	// ErrTooLarge: this message can never fit in this queue.
	ErrTooLarge = errors.New("queue: message too large for this queue")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("queue: closed")
	// ErrNotFound: no message by that ID (any more).
	ErrNotFound = errors.New("queue: no such message")
	// ErrLeased: the message is in the hands of an adapter and cannot be
	// touched now.
	ErrLeased = errors.New("queue: message is being delivered")
	// ErrIncomplete: the message is not whole, because it never had a 250 or
	// the storage lost some of it; it can be looked at and deleted, never
	// delivered.
	ErrIncomplete = errors.New("queue: message is not whole")
	// ErrLeaseEnded: the lease was settled, given back or lost before.
	ErrLeaseEnded = errors.New("queue: lease has ended")
)

// Space is how much room the storage of a queue has left.
type Space struct {
	Bytes  int64
	Inodes int64 // files that can still be made; negative: nobody counts them
}

// Spacer is a Queue that knows its Space. A backend need not be one.
type Spacer interface {
	// Space may be called as often as one likes. It returns what the storage
	// said when it could not tell.
	Space() (Space, error)
}

// Queue keeps messages from commit to acknowledgement. All methods may be
// called from any goroutine.
type Queue interface {
	// Begin reserves a place for one message and returns the draft to write
	// it to. It returns [ErrFull] when ready, waiting, leased and drafted
	// messages together have reached the configured depth (dead ones do not
	// count), and [ErrNoSpace], [ErrBusy], [ErrSick] or [ErrClosed] as the
	// storage stands. The caller must end every draft with Commit,
	// CommitLeased or Discard.
	Begin(ctx context.Context, env Envelope, origin Origin) (Draft, error)

	// Lease waits for a message that is due and hands it out to this caller
	// alone, oldest ReceivedAt first. It returns ctx.Err() when ctx ends
	// first and ErrClosed after Close. While the queue is paused or sick it
	// waits. The caller must end every lease with Ack, Retry, Bury or
	// Release.
	Lease(ctx context.Context) (Lease, error)

	// Depth counts what is held. It is cheap: no storage is touched.
	Depth() Depth

	// Check tells whether a message of size octets (0: unknown) could be
	// taken now: nil, or an error that is ErrFull, ErrNoSpace, ErrSick or
	// ErrClosed; or ErrTooLarge for a size that can never fit. It is asked at
	// the banner, at MAIL and by readiness, and must be cheap.
	Check(size int64) error

	// Close ends the queue: Lease calls return ErrClosed, drafts can no
	// longer be committed, leases still out are as if the process had died.
	// It waits for commits in progress. A second Close returns nil.
	Close() error
}

// Depth counts the messages of a queue by state.
type Depth struct {
	Ready   int // due now
	Waiting int // due later: a retry that backs off
	Leased  int // in the hands of an adapter
	Dead    int // dead letters
	Drafts  int // being received

	// Oldest is the ReceivedAt of the oldest message that is ready, waiting
	// or leased; zero when there is none.
	Oldest time.Time
}

// Live is the number that the configured depth bounds.
func (d Depth) Live() int { return d.Ready + d.Waiting + d.Leased + d.Drafts }

// Draft is a message being received. It belongs to one goroutine; Write
// streams, and holds no more than the backend's byte budget in memory.
type Draft interface {
	// Write appends message text. An error is final for this draft: it is
	// ErrNoSpace, ErrTooLarge, ErrSick or ErrBusy wrapped with detail.
	io.Writer

	// ID is the message's ID, known from Begin on.
	ID() ID

	// Open reads what was written so far from the start, without prepended
	// fields. It is for policies, before Commit; close it before Commit.
	Open() (io.ReadCloser, error)

	// Commit makes the message durable and then offers it to Lease. When it
	// returns nil, no crash of process or machine loses the message. When it
	// returns an error the message is not in the queue and the draft is
	// gone. ctx carries values only: a commit once begun is finished. The
	// Message returned tells what was stored; its Open answers
	// [ErrLeaseEnded].
	Commit(ctx context.Context, f Final) (*Message, error)

	// CommitLeased commits and leases in one act, so that no worker can take
	// the message first.
	CommitLeased(ctx context.Context, f Final) (Lease, error)

	// Discard drops the draft and frees its place. After Commit it does
	// nothing, so that it can be deferred.
	Discard() error
}

// Final is what is settled about a message only when its text has ended.
type Final struct {
	// Facts is what policies learned. May be nil.
	Facts Facts
	// Prepend is whole header fields with CRLF line ends, put before the
	// text when the message is read, Received first. The stored text is not
	// rewritten.
	Prepend []byte
	// Skip is the octets of the text left out when it is read, sorted and
	// without overlap: header fields a policy removed.
	Skip []Range
	// Quarantine is why a policy marked the message; "" is unmarked.
	Quarantine string
}

// Range is a half-open interval of octets of the stored text.
type Range struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// Lease is one message in the hands of one caller. Its methods are for one
// goroutine; each of Ack, Retry, Bury and Release ends it, and after that every
// method returns [ErrLeaseEnded]. When the end of a lease cannot be written,
// the error says so, the lease has ended all the same, and the message is
// offered again after a second or more: at least once, never lost. A ctx that has ended does not stop
// the end of a lease from being written.
type Lease interface {
	// Message is the message leased, the same pointer at each call. It reads
	// until the lease ends.
	Message() *Message

	// Settle records recipients that are done, for good or ill: they are
	// never offered again, over retries and restarts. An outcome for an
	// address that is not owed is ignored. It narrows Message().Envelope to
	// the recipients still owed. It does not end the lease, and costs no
	// attempt.
	Settle(ctx context.Context, done []Outcome) error

	// Ack ends the message: it was delivered and is removed.
	Ack(ctx context.Context) error

	// Retry offers the message again at a time, and counts an attempt. cause
	// is kept as LastError. A time in the past is now. With a nil cause it is
	// a Release with a time: no attempt is counted, LastError stays.
	Retry(ctx context.Context, at time.Time, cause error) error

	// Bury makes the message a dead letter. The kind comes from a [*Cause]
	// in cause's chain, else it is KindRejected.
	Bury(ctx context.Context, cause error) error

	// Release gives the message back, due now, without counting an attempt.
	Release(ctx context.Context) error
}

// Outcome is how one recipient was settled.
type Outcome struct {
	// Recipient is the address as it stands in the Envelope.
	Recipient string `json:"rcpt"`
	// Rejected is why the application refused this recipient; "" means it
	// was delivered.
	Rejected string `json:"rejected,omitempty"`
}

// Kind says why a message is dead.
type Kind string

const (
	KindRejected Kind = "rejected" // the application said no for good
	KindSpent    Kind = "spent"    // retried until it was too old or tried too often
	KindPanic    Kind = "panic"    // spent, and the last attempt panicked
	KindCorrupt  Kind = "corrupt"  // the storage no longer holds it whole
)

// Cause is an error that says which Kind of dead letter it makes.
type Cause struct {
	Kind Kind
	Err  error
	// Keep is how long the dead letter is kept before the queue removes it: 0 is as
	// the queue does with its Kind, negative for ever.
	Keep time.Duration
}

func (c *Cause) Error() string { return c.Err.Error() }
func (c *Cause) Unwrap() error { return c.Err }

// KeepOf is how long the outermost [*Cause] in err's chain wants its dead letter
// kept; 0 when there is none.
func KeepOf(err error) time.Duration {
	var c *Cause
	if errors.As(err, &c) {
		return c.Keep
	}
	return 0
}

// KindOf is the kind of the outermost [*Cause] in err's chain, else
// KindRejected.
func KindOf(err error) Kind {
	var c *Cause
	if errors.As(err, &c) {
		return c.Kind
	}
	return KindRejected
}
