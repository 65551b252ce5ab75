package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const tokenField = "X-Token: "

// ErrBrokenOff is of a delivery that ended because its reader failed: nothing was
// delivered, neither whole nor in part.
var ErrBrokenOff = errors.New("the delivery broke off")

// Seed is what a test draws everything from: INCOMING_SEED, or another each time.
// It is logged, so that a run can be had again.
func Seed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if text := os.Getenv("INCOMING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("INCOMING_SEED: %v", err)
		}
	}
	t.Logf("INCOMING_SEED=%d", seed)
	return seed
}

// Ledger makes messages and keeps account of them. Its methods may be called from
// many goroutines.
type Ledger struct {
	seed uint64
	draw func(*rand.Rand) (size int, binary bool)

	mu     sync.Mutex
	random *rand.Rand
	sent   map[uint64]*entry
}

type entry struct {
	message   Message
	accepted  bool
	delivered int
}

// NewLedger makes messages out of seed, as draw wants each to be.
func NewLedger(seed uint64, draw func(*rand.Rand) (size int, binary bool)) *Ledger {
	return &Ledger{seed: seed, draw: draw, random: rand.New(rand.NewPCG(seed, 0)), sent: make(map[uint64]*entry)}
}

// Next is a message that was not there before.
func (l *Ledger) Next() Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, binary := l.draw(l.random)
	m := Message{Number: uint64(len(l.sent) + 1), Size: max(size, MinSize), Binary: binary, seed: l.seed}
	l.sent[m.Number] = &entry{message: m}
	return m
}

// Accepted notes that the server answered 250 to the message.
func (l *Ledger) Accepted(m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[m.Number].accepted = true
}

// Delivered reads what came out: fields that the server put on top, and under
// them the text of a message, which is noted if it is there to the last octet and
// nothing after it. The error is ErrBrokenOff, or says what was delivered that
// nobody sent.
func (l *Ledger) Delivered(r io.Reader) error {
	watched := &watch{r: r}
	err := l.delivered(bufio.NewReaderSize(watched, 64<<10))
	if watched.err != nil {
		return fmt.Errorf("%w: %w", ErrBrokenOff, watched.err)
	}
	return err
}

func (l *Ledger) delivered(r *bufio.Reader) error {
	first, err := beneath(r)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(first, tokenField), "\r\n"), 10, 64)
	if err != nil {
		return fmt.Errorf("what is delivered begins with %.80q", first)
	}
	l.mu.Lock()
	e := l.sent[number]
	l.mu.Unlock()
	if e == nil {
		return fmt.Errorf("message %d is delivered and was never sent", number)
	}
	if err := same(io.MultiReader(strings.NewReader(first), r), e.message.Text()); err != nil {
		return fmt.Errorf("message %d of %d octets: %w", number, e.message.Size, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.delivered++
	return nil
}

// beneath reads the fields that a server and an adapter put on top, and returns
// the line under them.
func beneath(r *bufio.Reader) (string, error) {
	ours := []string{"Return-Path: ", "Delivered-To: ", "Received: "}
	for top := true; ; top = false {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("what is delivered ends in its header, with %.80q", line)
		}
		folded := !top && (line[0] == ' ' || line[0] == '\t')
		if !folded && !slices.ContainsFunc(ours, func(field string) bool { return strings.HasPrefix(line, field) }) {
			return line, nil
		}
	}
}

// same wants two texts alike to the last octet.
func same(got, want io.Reader) error {
	var a, b [32 << 10]byte
	for at := 0; ; {
		n, err := io.ReadFull(got, a[:])
		m, werr := io.ReadFull(want, b[:])
		if !bytes.Equal(a[:n], b[:m]) {
			i := 0
			for i < min(n, m) && a[i] == b[i] {
				i++
			}
			return fmt.Errorf("delivered otherwise than it was sent, from octet %d on: %.40q, and it was %.40q", at+i, a[i:n], b[i:m])
		}
		if err != nil || werr != nil { // both have ended
			return nil
		}
		at += n
	}
}

// watch keeps the error of a reader that fails.
type watch struct {
	r   io.Reader
	err error
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// Account is what a ledger knows.
type Account struct {
	Sent, Accepted int
	Octets         int64 // of the accepted
	Delivered      int   // once or more
	Unasked        int   // of those, how many got no 250
	Twice          int   // of those, how many more than once
	Missing        []Message
}

// Account sums up. Missing is what was accepted and not delivered.
func (l *Ledger) Account() (a Account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.sent {
		a.Sent++
		if e.accepted {
			a.Accepted++
			a.Octets += int64(e.message.Size)
			if e.delivered == 0 {
				a.Missing = append(a.Missing, e.message)
			}
		}
		if e.delivered > 0 {
			a.Delivered++
			if !e.accepted {
				a.Unasked++
			}
		}
		if e.delivered > 1 {
			a.Twice++
		}
	}
	return a
}

func (a Account) String() string {
	return fmt.Sprintf("%d messages sent, %d got a 250 (%d MB); %d delivered, %d of them without one, %d twice or more; %d missing",
		a.Sent, a.Accepted, a.Octets/1e6, a.Delivered, a.Unasked, a.Twice, len(a.Missing))
}
