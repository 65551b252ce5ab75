package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/control"
	"github.com/incoming-mx/incoming/queue"
)

const rowFormat = "%-26s  %-7s  %7s  %7s  %5s  %s\n"

// envelopeText is sender and recipients in short.
func envelopeText(e queue.Entry) string {
	to := e.Envelope.Addresses()
	if len(to) == 0 {
		for _, o := range e.Settled {
			to = append(to, o.Recipient)
		}
	}
	text := address(e.Envelope.MailFrom) + " → "
	switch len(to) {
	case 0:
		return text + "nobody"
	case 1:
		return text + address(to[0])
	}
	return text + fmt.Sprintf("%s and %d more", address(to[0]), len(to)-1)
}

// remark is what a row ends with: when a message is tried next, and why it is
// not delivered yet, or dead.
func remark(e queue.Entry, now time.Time) string {
	switch {
	case e.Dead != nil:
		return fmt.Sprintf("  [%s: %s]", e.Dead.Kind, clean(e.Dead.Reason))
	case e.State == queue.StateWaiting && e.LastError != "":
		return fmt.Sprintf("  [next in %s: %s]", span(e.NextAttempt.Sub(now)), clean(e.LastError))
	case e.Quarantine != "":
		return fmt.Sprintf("  [quarantine: %s]", clean(e.Quarantine))
	}
	return ""
}

// showEntry writes all of e, a fact a line; apart is an empty line before it.
func showEntry(w io.Writer, e queue.Entry, now time.Time, apart bool) error {
	var b strings.Builder
	if apart {
		b.WriteByte('\n')
	}
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s "+format+"\n", append([]any{name + ":"}, args...)...)
	}
	field("id", "%s", clean(string(e.ID)))
	field("state", "%s", e.State)
	if e.Dead != nil {
		field("dead since", "%s", stamp(e.Dead.RejectedAt, now))
		if e.Dead.Keep > 0 {
			field("kept until", "%s", e.Dead.RejectedAt.Add(e.Dead.Keep).Format(time.RFC3339))
		}
		field("reason", "%s: %s", e.Dead.Kind, clean(e.Dead.Reason))
	}
	field("from", "%s", address(e.Envelope.MailFrom))
	for _, r := range e.Envelope.RcptTo {
		field("to", "%s", address(r.Address)+dsn(r))
	}
	for _, o := range e.Settled {
		if o.Rejected != "" {
			field("rejected", "%s: %s", address(o.Recipient), clean(o.Rejected))
		} else {
			field("delivered", "%s", address(o.Recipient))
		}
	}
	field("received", "%s", stamp(e.ReceivedAt, now))
	field("size", "%d octets", e.Size)
	field("attempts", "%d", e.Attempts)
	if !e.NextAttempt.IsZero() && e.State == queue.StateWaiting {
		field("next attempt", "%s (in %s)", e.NextAttempt.Format(time.RFC3339), span(e.NextAttempt.Sub(now)))
	}
	if e.LastError != "" {
		field("last error", "%s", clean(e.LastError))
	}
	for _, f := range [][2]string{{"peer", e.Peer}, {"helo", e.Hello}, {"listener", e.Listener}} {
		if f[1] != "" {
			field(f[0], "%s", clean(f[1]))
		}
	}
	if e.TLS != nil {
		field("tls", "%s %s %s", e.TLS.Version, e.TLS.Cipher, clean(e.TLS.ServerName))
	}
	if e.Quarantine != "" {
		field("quarantine", "%s", clean(e.Quarantine))
	}
	for _, name := range sortedKeys(e.Facts) {
		field("fact", "%s = %s", clean(name), clean(string(e.Facts[name])))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func dsn(r queue.Recipient) string {
	s := ""
	if r.Notify != "" {
		s += " notify=" + clean(r.Notify)
	}
	if r.ORcpt != "" {
		s += " orcpt=" + clean(r.ORcpt)
	}
	return s
}

func stamp(t, now time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.Format(time.RFC3339), span(now.Sub(t)))
}

// entryJSON is a message in --json: an interface for scripts, documented in
// docs/operations.md. Keys are added, never changed.
type entryJSON struct {
	ID          queue.ID        `json:"id"`
	State       queue.State     `json:"state"`
	MailFrom    string          `json:"mail_from"`
	RcptTo      []string        `json:"rcpt_to"`
	Settled     []queue.Outcome `json:"settled,omitempty"`
	ReceivedAt  time.Time       `json:"received_at"`
	Size        int64           `json:"size"`
	Attempts    int             `json:"attempts"`
	NextAttempt *time.Time      `json:"next_attempt,omitempty"`
	LastError   string          `json:"last_error,omitempty"`
	Listener    string          `json:"listener,omitempty"`
	Peer        string          `json:"peer,omitempty"`
	Hello       string          `json:"helo,omitempty"`
	TLS         *queue.TLSInfo  `json:"tls,omitempty"`
	Facts       queue.Facts     `json:"facts,omitempty"`
	Quarantine  string          `json:"quarantine,omitempty"`
	Dead        *deadJSON       `json:"dead,omitempty"`
}

type deadJSON struct {
	RejectedAt time.Time  `json:"rejected_at"`
	Reason     string     `json:"reason"`
	Kind       queue.Kind `json:"kind"`
	// KeptUntil is given where its route says how long it is kept.
	KeptUntil *time.Time `json:"kept_until,omitempty"`
}

func jsonEntry(e queue.Entry) entryJSON {
	j := entryJSON{
		ID: e.ID, State: e.State, MailFrom: e.Envelope.MailFrom, RcptTo: e.Envelope.Addresses(), Settled: e.Settled,
		ReceivedAt: e.ReceivedAt, Size: e.Size, Attempts: e.Attempts, LastError: e.LastError,
		Listener: e.Listener, Peer: e.Peer, Hello: e.Hello, TLS: e.TLS, Facts: e.Facts, Quarantine: e.Quarantine,
	}
	if !e.NextAttempt.IsZero() {
		j.NextAttempt = &e.NextAttempt
	}
	if e.Dead != nil {
		j.Dead = &deadJSON{RejectedAt: e.Dead.RejectedAt, Reason: e.Dead.Reason, Kind: e.Dead.Kind}
		if e.Dead.Keep > 0 {
			until := e.Dead.RejectedAt.Add(e.Dead.Keep)
			j.Dead.KeptUntil = &until
		}
	}
	return j
}

func (a *app) writeStats(f *spoolFlags, s control.Stats) error {
	age := since(time.Now(), s.Oldest)
	if f.json {
		return json.NewEncoder(a.stdout).Encode(map[string]any{
			"ready": s.Ready, "waiting": s.Waiting, "leased": s.Leased, "dead": s.Dead, "drafts": s.Drafts,
			"oldest_age_seconds": age.Seconds(), "paused": s.Paused, "held": s.Held,
		})
	}
	state := "going on"
	switch {
	case s.Paused:
		state = "paused"
	case s.Down:
		state = "none: the daemon is not running"
	case s.None:
		state = "none: messages stay in the queue"
	case s.Held:
		state = "held back: the application keeps failing, and is tried each 10 s"
	}
	_, err := fmt.Fprintf(a.stdout, "ready       %6d\nwaiting     %6d\nleased      %6d\ndead        %6d\nreceiving   %6d\noldest      %6s\ndeliveries  %s\n",
		s.Ready, s.Waiting, s.Leased, s.Dead, s.Drafts, span(age), state)
	return err
}
