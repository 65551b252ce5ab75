package filter

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
)

const text = "Subject: s\r\n\r\nbody\r\n"

func message() *queue.Message {
	return deliverytest.NewMessage(queue.Entry{ID: "01ID", Envelope: queue.Envelope{SMTPUTF8: true,
		RcptTo: []queue.Recipient{{Address: "b@y.example", Notify: "NEVER"}, {Address: "c@y.example"}}},
		Origin: queue.Origin{Listener: "mx", Peer: "192.0.2.7:4711", Hello: "c.example",
			TLS: &queue.TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.test"}},
		Quarantine: "marked before",
		Facts:      queue.Facts{"smtp.bare_line_ends": json.RawMessage(`{"lf":1}`), "a.fact": json.RawMessage("7")}}, text)
}

// counted is an adapter that counts.
type counted struct{ n int }

func (c *counted) Deliver(context.Context, *queue.Message) error {
	c.n++
	return errors.New("the adapter's")
}

func says(err error) policy.Policy {
	return policy.OnMessage(func(context.Context, *policy.Transaction) error { return err })
}

func TestAPolicyIsToldOfTheMessageAsItWas(t *testing.T) {
	t.Parallel()
	asked := 0
	p := policy.Func(func(_ context.Context, stage policy.Stage, tx *policy.Transaction) error {
		asked++
		r, err := tx.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if stage != policy.StageMessage || string(got) != text || tx.Header.Get("Subject") != "s" || tx.Size != int64(len(text)) || tx.ID != "01ID" ||
			!tx.From.IsNull() || len(tx.To) != 2 || tx.To[0].Path.String() != "b@y.example" || tx.To[0].Params.Notify != "NEVER" || !tx.FromParams.SMTPUTF8 ||
			tx.Peer.String() != "192.0.2.7:4711" || tx.Hello != "c.example" || tx.Listener != "mx" || tx.Hostname != "mx.test" ||
			tx.TLS == nil || tx.TLS.Version != 0x304 || tx.TLS.CipherSuite != 0x1301 || tx.TLS.ServerName != "mx.test" ||
			string(tx.Fact("a.fact")) != "7" || tx.Fact("smtp.bare_line_ends") == nil {
			t.Errorf("at %v told %+v, text %q", stage, tx, got)
		}
		return nil
	})
	to := &counted{}
	if err := New(to, []policy.Policy{p}, &Options{Hostname: "mx.test"}).Deliver(t.Context(), message()); err == nil || err.Error() != "the adapter's" {
		t.Errorf("verdict %v", err)
	}
	if asked != 1 || to.n != 1 {
		t.Errorf("asked %d times, delivered %d times", asked, to.n)
	}
}

// What a policy answers behind the queue: it lets pass, has it tried again, or
// rejects, and nothing vanishes.
func TestWhatAPolicyAnswersIsAVerdict(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, c := range map[string]struct {
		answer    error
		delivered bool
		rejected  bool
	}{
		"no objection":   {nil, true, false},
		"5xx":            {policy.Reject("no"), false, true},
		"4xx":            {policy.Tempfail("later"), false, false},
		"discard":        {policy.Discard, false, true},
		"quarantine":     {policy.Quarantine("odd"), false, true},
		"broke":          {down, false, false},
		"fails":          {policy.Failed(down, policy.FailTempfail), false, false},
		"fails, accept":  {policy.Failed(down, policy.FailAccept), true, false},
		"fails, reject":  {policy.Failed(down, policy.FailReject), false, true},
		"a success code": {&smtp.Reply{Code: 250}, false, false},
	} {
		to := &counted{}
		var told []policy.Decision
		a := New(to, []policy.Policy{says(c.answer)}, &Options{Chain: policy.ChainOptions{OnDecision: func(tx *policy.Transaction, d policy.Decision) {
			if tx.ID != "01ID" {
				t.Errorf("%s: told of %q", name, tx.ID)
			}
			told = append(told, d)
		}}})
		err := a.Deliver(t.Context(), message())
		var reject *delivery.RejectError
		if errors.As(err, &reject) != c.rejected || (to.n == 1) != c.delivered || err == nil {
			t.Errorf("%s: verdict %v, delivered %d times", name, err, to.n)
		}
		if (len(told) == 1) != (c.answer != nil) {
			t.Errorf("%s: told %+v", name, told)
		}
	}
}

func TestWhatIsOnlyObservedLetsPass(t *testing.T) {
	t.Parallel()
	to := &counted{}
	a := New(to, []policy.Policy{policy.Observe(says(policy.Reject("no")))}, nil)
	if _ = a.Deliver(t.Context(), message()); to.n != 1 {
		t.Error("it was not delivered")
	}
}

// A message without a header, a peer, TLS or facts is a message too.
func TestABareMessageIsAskedAbout(t *testing.T) {
	t.Parallel()
	m := deliverytest.NewMessage(queue.Entry{ID: "01ID", Envelope: queue.Envelope{MailFrom: "a@x.example",
		RcptTo: []queue.Recipient{{Address: "b@y.example"}}}, Origin: queue.Origin{Peer: "@"}}, "")
	p := policy.OnMessage(func(_ context.Context, tx *policy.Transaction) error {
		if tx.Peer.IsValid() || tx.TLS != nil || tx.From.String() != "a@x.example" || tx.Facts() != nil {
			t.Errorf("told %+v", tx)
		}
		return policy.Tempfail("later")
	})
	if err := New(&counted{}, []policy.Policy{p}, nil).Deliver(t.Context(), m); err == nil || !strings.Contains(err.Error(), "later") {
		t.Errorf("verdict %v", err)
	}
}

// accepter is an adapter that says when senders are answered.
type accepter struct {
	counted
	says delivery.Acceptance
}

func (a *accepter) Waits() bool                                   { return true }
func (a *accepter) Acceptance(*queue.Message) delivery.Acceptance { return a.says }

func TestWhenSendersAreAnsweredIsStillTheAdaptersToSay(t *testing.T) {
	t.Parallel()
	to := &accepter{says: delivery.Acceptance{Mode: delivery.Sync}}
	a, is := delivery.Find[delivery.Accepter](New(to, nil, nil))
	if !is || !a.Waits() || a.Acceptance(message()).Mode != delivery.Sync {
		t.Error("it does not say so any more")
	}
	if _, is := delivery.Find[delivery.Accepter](New(&counted{}, nil, nil)); is {
		t.Error("an adapter that says nothing of it is made to")
	}
}

func TestFiltersBeforeSuchAnAdapterAreAsked(t *testing.T) {
	t.Parallel()
	to := &accepter{}
	err := New(to, []policy.Policy{says(policy.Reject("no"))}, nil).Deliver(t.Context(), message())
	var reject *delivery.RejectError
	if !errors.As(err, &reject) || to.n != 0 {
		t.Errorf("verdict %v, delivered %d times", err, to.n)
	}
}
