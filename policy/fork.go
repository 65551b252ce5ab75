package policy

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// A policy that may wait is given a Transaction of its own: when it has to be
// given up, the session goes on with the original, and the two share nothing
// that either still writes.

func (t *Transaction) fork() *Transaction {
	f := *t
	f.sharedFacts, f.texts, f.gaveUp = true, nil, false
	f.removed = slices.Clip(f.removed)
	if t.OpenText != nil {
		f.texts = &texts{open: t.OpenText}
		f.OpenText = f.texts.Open
	}
	return &f
}

// join ends a fork: t takes over what the policy changed, if it has returned.
func (t *Transaction) join(f *Transaction, returned bool) {
	if f.texts != nil {
		f.texts.end()
	}
	if returned {
		t.connFacts, t.txFacts, t.factsSize = f.connFacts, f.txFacts, f.factsSize
		t.sharedFacts = f.sharedFacts
		t.prepend, t.removed = f.prepend, f.removed
		t.discardedBy, t.quarantined = f.discardedBy, f.quarantined
	}
	if !returned || f.gaveUp {
		// Someone goes on reading what t has: t writes to copies.
		t.gaveUp, t.sharedFacts = true, true
		t.To = slices.Clone(t.To)
	}
}

var errTextEnded = errors.New("policy: the text was read after Check should have returned")

// texts opens the text for one call and closes what the call left open, so that
// a policy given up does not read a draft that is gone.
type texts struct {
	open func() (io.ReadCloser, error)

	mu      sync.Mutex // held during a read, so that end waits for it
	ended   bool
	readers []*text
}

func (ts *texts) Open() (io.ReadCloser, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.ended {
		return nil, errTextEnded
	}
	r, err := ts.open()
	if err != nil {
		return nil, err
	}
	t := &text{all: ts, r: r}
	ts.readers = append(ts.readers, t)
	return t, nil
}

func (ts *texts) end() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.ended = true
	for _, t := range ts.readers {
		t.r.Close() // it was only read: nothing can be lost
	}
	ts.readers = nil
}

type text struct {
	all *texts
	r   io.ReadCloser
}

func (t *text) Read(p []byte) (int, error) {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	if t.all.ended {
		return 0, errTextEnded
	}
	return t.r.Read(p)
}

func (t *text) Close() error {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	i := slices.Index(t.all.readers, t)
	if i < 0 {
		return nil
	}
	t.all.readers = slices.Delete(t.all.readers, i, i+1)
	return t.r.Close()
}
