package queuetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// hammers run everything beside everything.
var hammers = []check{
	{"EveryMessageEndsOnce", everyMessageEndsOnce},
}

// hammer is the state that many goroutines share.
type hammer struct {
	*suite
	places chan struct{} // as many as may be live at once
	mu     sync.Mutex
	inHand map[queue.ID]bool
	acked  map[queue.ID]bool
	dead   map[queue.ID]bool
	left   int

	leasing context.Context // ends when none is left
	over    context.CancelFunc
}

// everyMessageEndsOnce commits from many sides and ends leases in every way:
// each message is read whole and is acked or dead, once, and with one holder
// at a time.
func everyMessageEndsOnce(s *suite) {
	const producers, each, consumers = 6, 40, 6
	h := &hammer{
		suite: s, places: make(chan struct{}, Depth/2), left: producers * each,
		inHand: map[queue.ID]bool{}, acked: map[queue.ID]bool{}, dead: map[queue.ID]bool{},
	}
	h.leasing, h.over = context.WithCancel(s.ctx)
	defer h.over()
	var wg sync.WaitGroup
	for i := range producers {
		wg.Go(func() { h.produce(each, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	for i := range consumers {
		wg.Go(func() { h.consume(rand.New(rand.NewPCG(uint64(i), 2))) })
	}
	wg.Go(h.look)
	wg.Wait()
	if s.Failed() {
		return
	}
	s.depth("at the end", queue.Depth{Dead: len(h.dead)})
	if len(h.acked)+len(h.dead) != producers*each {
		s.Errorf("%d acked and %d dead of %d", len(h.acked), len(h.dead), producers*each)
	}
	if _, ok := s.q.(queue.Inspector); ok && len(s.list(queue.Filter{})) != len(h.dead) {
		s.Errorf("%d listed, want the %d dead", len(s.list(queue.Filter{})), len(h.dead))
	}
}

func (h *hammer) produce(n int, rnd *rand.Rand) {
	for range n {
		select {
		case h.places <- struct{}{}:
		case <-h.ctx.Done():
			h.Error("out of patience: no place")
			return
		}
		body := make([]byte, rnd.IntN(20_000))
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		sum := sha256.Sum256(body)
		if err := h.commit(hex.EncodeToString(sum[:]), body, rnd.IntN(8) == 0); err != nil {
			h.Error(err)
			return
		}
	}
}

func (h *hammer) commit(sum string, body []byte, discardFirst bool) error {
	d, err := h.q.Begin(h.ctx, to("a@y.example", "b@y.example"), queue.Origin{ReceivedAt: now()})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if discardFirst {
		if err := d.Discard(); err != nil {
			return fmt.Errorf("discard: %w", err)
		}
		return h.commit(sum, body, false)
	}
	defer d.Discard()
	for chunk := range bytes.Lines(body) {
		if _, err := d.Write(chunk); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	_, err = d.Commit(h.ctx, queue.Final{Prepend: []byte("Sum: " + sum + "\r\n\r\n")})
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (h *hammer) consume(rnd *rand.Rand) {
	for {
		l, err := h.q.Lease(h.leasing)
		if err != nil {
			if h.ctx.Err() != nil || h.leasing.Err() == nil {
				h.Errorf("Lease: %v", err)
			}
			return
		}
		if err := h.handle(l, rnd.IntN(10)); err != nil {
			h.Errorf("%s: %v", l.Message().ID, err)
			return
		}
	}
}

func (h *hammer) handle(l queue.Lease, choice int) error {
	m := l.Message()
	h.mu.Lock()
	if h.inHand[m.ID] || h.acked[m.ID] || h.dead[m.ID] {
		h.mu.Unlock()
		return errors.New("leased though it is in hand or has ended")
	}
	h.inHand[m.ID] = true
	h.mu.Unlock()
	if err := verify(m); err != nil {
		return err
	}
	if choice == 9 && len(m.Envelope.RcptTo) == 2 {
		if err := l.Settle(h.ctx, []queue.Outcome{{Recipient: "a@y.example"}}); err != nil {
			return err
		}
	}
	h.mu.Lock()
	delete(h.inHand, m.ID)
	final := choice < 6
	if final {
		if choice == 0 {
			h.dead[m.ID] = true
		} else {
			h.acked[m.ID] = true
		}
	}
	h.mu.Unlock()
	var err error
	switch choice {
	case 0:
		err = l.Bury(h.ctx, errTest)
	case 1, 2, 3, 4, 5:
		err = l.Ack(h.ctx)
	case 6:
		err = l.Release(h.ctx)
	default:
		err = l.Retry(h.ctx, time.Now().Add(time.Duration(choice-7)*5*time.Millisecond), errTest)
	}
	if err == nil && final {
		h.ended()
	}
	return err
}

func (h *hammer) ended() {
	<-h.places
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left--; h.left == 0 {
		h.over()
	}
}

// verify reads a message and compares it with the sum in front of it.
func verify(m *queue.Message) error {
	r, err := m.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	head, body, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	sum := sha256.Sum256(body)
	if string(head) != "Sum: "+hex.EncodeToString(sum[:]) {
		return errors.New("read other bytes than were written")
	}
	return nil
}

// look watches while the others work.
func (h *hammer) look() {
	in, _ := h.q.(queue.Inspector)
	for {
		select {
		case <-h.leasing.Done():
			if h.ctx.Err() != nil {
				h.Error("out of patience: messages are left")
			}
			return
		case <-time.After(time.Millisecond):
		}
		if live := h.q.Depth().Live(); live < 0 || live > Depth {
			h.Errorf("%d live", live)
		}
		if in == nil {
			continue
		}
		for e, err := range in.List(h.ctx, queue.Filter{}) {
			if err != nil {
				h.Errorf("List: %v", err)
				return
			}
			if _, err := in.Get(h.ctx, e.ID); err != nil && !errors.Is(err, queue.ErrNotFound) {
				h.Errorf("Get: %v", err)
			}
		}
	}
}
