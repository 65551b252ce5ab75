package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/route"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
	"github.com/incoming-mx/incoming/telemetry"
)

func TestAnAdaptersVerdictIsTheReply(t *testing.T) {
	t.Parallel()
	own := &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: "We take no invoices"}
	inside := errors.New("row 7 of the secret table")
	for name, c := range map[string]struct {
		verdict error
		reply   string
	}{
		"taken":                           {nil, "250 2.0.0 Ok: queued as "},
		"rejected":                        {incoming.Reject(inside), "550 5.7.1 Message refused"},
		"rejected in own words":           {incoming.Reject(fmt.Errorf("%w: %w", inside, own)), "554 5.6.0 We take no invoices"},
		"failed":                          {inside, "451 4.3.0 Message could not be delivered now, try again later"},
		"failed, in words of a rejection": {fmt.Errorf("%w: %w", inside, own), "451 4.3.0 Message could not be delivered now, try again later"},
		"rejected in own words, each":     {delivery.PerRecipient(map[string]error{"b@example.org": incoming.Reject(fmt.Errorf("%w: %w", inside, own))}), "554 5.6.0 We take no invoices"},
	} {
		for _, mode := range []delivery.Mode{delivery.Sync, delivery.Hybrid, delivery.Durable} {
			var mu sync.Mutex
			queued := 0
			var refusals []telemetry.SessionRejected
			q := newQueue(t, nil)
			srv := incomingtest.NewServer(t, incoming.Config{Queue: q,
				Adapter:  incoming.AdapterFunc(func(context.Context, *incoming.Message) error { return c.verdict }),
				Delivery: incoming.Delivery{Accept: incoming.Acceptance{Mode: mode}},
				Hooks: telemetry.Hooks{
					MessageQueued: func(telemetry.MessageQueued) {
						mu.Lock()
						defer mu.Unlock()
						queued++
					},
					SessionRejected: func(e telemetry.SessionRejected) {
						mu.Lock()
						defer mu.Unlock()
						refusals = append(refusals, e)
					}}})
			want := c.reply
			if mode == delivery.Durable {
				want = "250 2.0.0 Ok: queued as "
			}
			client := srv.Dial()
			client.Play(toData)
			got := client.Text("Subject: x\r\n\r\nbody\r\n").Expect(want[:3])
			if !strings.HasPrefix(strings.TrimSpace(got), want[4:]) || strings.Contains(got, "secret") {
				t.Errorf("%s, %s: %q, want %q", name, mode, got, want)
			}
			client.Send("MAIL FROM:<a@example.net>").Expect("250") // the session goes on
			mu.Lock()
			if want[0] == '2' != (queued == 1) {
				t.Errorf("%s, %s: told of %d accepted messages", name, mode, queued)
			}
			mu.Unlock()
			if want[0] != '2' {
				if d := q.Depth(); d.Live() != 0 {
					t.Errorf("%s, %s: left behind %+v", name, mode, d)
				}
				mu.Lock()
				if len(refusals) != 1 || refusals[0].Stage != "delivery" || !strings.Contains(refusals[0].Reason, "secret") {
					t.Errorf("%s, %s: told of %+v", name, mode, refusals)
				}
				mu.Unlock()
			}
		}
	}
}

// The verdict of a route is one for each recipient.
func TestARoutesRejectionIsInItsAdaptersWordsWhenAllSayTheSame(t *testing.T) {
	t.Parallel()
	no := func(text string) delivery.Adapter {
		return delivery.AdapterFunc(func(context.Context, *incoming.Message) error {
			return incoming.Reject(&smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 6, 0}, Text: text})
		})
	}
	first, err := route.Address("first@example.org")
	if err != nil {
		t.Fatal(err)
	}
	for other, want := range map[string]string{"No invoices": "5.6.0 No invoices", "No orders": "5.7.1 Message refused"} {
		wait := incoming.Acceptance{Mode: delivery.Sync}
		table, err := route.New([]route.Route{
			{Name: "first", When: []route.Condition{first}, Accept: wait, To: []route.Destination{{Name: "x", Adapter: no("No invoices")}}},
			{Name: "rest", Accept: wait, To: []route.Destination{{Name: "y", Adapter: no(other)}}}})
		if err != nil {
			t.Fatal(err)
		}
		c := incomingtest.NewServer(t, incoming.Config{Queue: newQueue(t, nil), Adapter: table}).Dial()
		c.Play("S: 220\nC: EHLO h\nS: 250\nC: MAIL FROM:<a@example.net>\nS: 250\nC: RCPT TO:<first@example.org>\nS: 250\n" +
			"C: RCPT TO:<second@example.org>\nS: 250\nC: DATA\nS: 354")
		if got := c.Text("Subject: x\r\n\r\n").Expect("55"); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// broken cannot say when a sender is answered.
type broken struct{ incoming.Adapter }

func (broken) Waits() bool { return true }

func (broken) Acceptance(*incoming.Message) incoming.Acceptance { panic("no idea") }

func TestAnAdapterThatPanicsWhenAskedWhoWaitsIsGivenTheMessageByTheQueue(t *testing.T) {
	t.Parallel()
	came, panics := make(chan queue.ID, 1), make(chan telemetry.Panic, 1)
	srv := incomingtest.NewServer(t, incoming.Config{Queue: newQueue(t, nil),
		Adapter: broken{incoming.AdapterFunc(func(_ context.Context, m *incoming.Message) error {
			came <- m.ID
			return nil
		})},
		Hooks: telemetry.Hooks{Panic: func(p telemetry.Panic) { panics <- p }}})
	c := srv.Dial()
	c.Play(toData)
	c.Text("X: y\r\n\r\n").Expect("250")
	if id, p := <-came, <-panics; p.Where != "acceptance" || p.ID != string(id) {
		t.Errorf("told of %+v, the message is %s", p, id)
	}
}

// choosy says itself when a sender is answered: by a field of the message.
type choosy struct{ incoming.Adapter }

func (choosy) Waits() bool { return true }

func (choosy) Acceptance(m *incoming.Message) incoming.Acceptance {
	h, err := m.Header()
	if err == nil && h.Has("X-Wait") {
		return incoming.Acceptance{Mode: delivery.Sync}
	}
	return incoming.Acceptance{}
}

func TestAnAdapterSaysOfEachMessageWhetherItsSenderWaits(t *testing.T) {
	t.Parallel()
	srv := incomingtest.NewServer(t, incoming.Config{Queue: newQueue(t, nil),
		Adapter:  choosy{incoming.AdapterFunc(func(context.Context, *incoming.Message) error { return incoming.Reject(nil) })},
		Delivery: incoming.Delivery{Accept: incoming.Acceptance{Mode: delivery.Sync}}}) // the adapter has the say
	for text, want := range map[string]string{"X-Wait: y\r\n\r\n": "550", "X-No: y\r\n\r\n": "250"} {
		c := srv.Dial()
		c.Play(toData)
		c.Text(text).Expect(want)
	}
}
