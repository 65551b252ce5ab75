package recipients_test

import (
	"testing"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/policy/recipients"
)

// Who guesses addresses is cut off past limits.refused_recipients; a guess that hits
// begins the count anew. Nobody is asked about postmaster, nor twice about one
// address.
func TestHarvestersAreCutOff(t *testing.T) {
	t.Parallel()
	c := &counted{known: func(a string) (bool, error) { return a == "bob@example.org", nil }}
	srv := incomingtest.NewServer(t, incoming.Config{
		Domains:  []string{"example.org"},
		Policies: []incoming.Policy{recipients.New([]recipients.Source{c}, nil)},
		Limits:   incoming.Limits{RefusedRecipients: 2},
	})
	d := srv.Dial()
	d.Play(`
S: 220
C: EHLO harvester.example
S: 250
C: MAIL FROM:<>
S: 250 2.1.0 Ok
C: RCPT TO:<postmaster>
S: 250 2.1.5 Ok
C: RCPT TO:<anna@example.org>
S: 550 5.1.1 No such recipient here (ref
C: RCPT TO:<anne@example.org>
S: 550 5.1.1 No such recipient here (ref
C: RCPT TO:<Bob+x@example.org>
S: 250 2.1.5 Ok
C: RCPT TO:<bill@example.org>
S: 550 5.1.1 No such recipient here (ref
C: RCPT TO:<anna@example.org>
S: 550 5.1.1 No such recipient here (ref
C: RCPT TO:<carl@example.org>
S: 421 4.7.0
`)
	d.ExpectClosed()
	if n := len(c.asked); n != 5 {
		t.Errorf("asked %d times: %q", n, c.asked)
	}
}
