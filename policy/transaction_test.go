package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/smtp"
)

func TestFactsOfTheConnectionOutlastTheTransaction(t *testing.T) {
	t.Parallel()
	var tr Transaction
	if err := tr.SetFact("a.conn", 1); err != nil {
		t.Fatal(err)
	}
	tr.Begin(smtp.Path{}, smtp.MailParams{})
	if err := tr.SetFact("a.tx", "two"); err != nil {
		t.Fatal(err)
	}
	if string(tr.Fact("a.tx")) != `"two"` || len(tr.Facts()) != 2 {
		t.Errorf("facts %s", tr.Facts())
	}
	tr.Reset()
	if tr.Fact("a.tx") != nil || string(tr.Fact("a.conn")) != "1" || tr.InMail {
		t.Errorf("after Reset: %s", tr.Facts())
	}
}

func TestAFieldThatWasPrependedCanBeWithdrawn(t *testing.T) {
	t.Parallel()
	var tr Transaction
	for _, name := range []string{"C", "B", "A"} {
		if err := tr.Prepend(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := tr.Prepended()
	fields := slices.Collect(header.Parse(before).Fields())
	tr.Withdraw(fields[1])
	if got := string(tr.Prepended()); got != "A: 1\r\nC: 1\r\n" || string(before) != "A: 1\r\nB: 1\r\nC: 1\r\n" {
		t.Errorf("left %q of %q", got, before)
	}
	tr.Withdraw(fields[2]) // which ends behind what is left: of another Prepended
	if got := string(tr.Prepended()); got != "A: 1\r\nC: 1\r\n" {
		t.Errorf("left %q", got)
	}
}

func TestFactsAreBounded(t *testing.T) {
	t.Parallel()
	value := func(n int) string { return strings.Repeat("x", n-len("k")-len(`""`)) }
	for n, ok := range map[int]bool{MaxFacts - 1: true, MaxFacts: true, MaxFacts + 1: false} {
		var tr Transaction
		if err := tr.SetFact("k", value(n)); (err == nil) != ok {
			t.Errorf("%d octets: %v", n, err)
		}
	}
	var tr Transaction
	for range 3 { // replacing a fact frees its room
		if err := tr.SetFact("k", value(MaxFacts)); err != nil {
			t.Fatal(err)
		}
	}
	tr.Begin(smtp.Path{}, smtp.MailParams{})
	if err := tr.SetFact("other", 1); err == nil {
		t.Error("facts of the connection do not count for the transaction")
	}
	if err := tr.SetFact("bad", func() {}); err == nil {
		t.Error("a func was taken for a fact")
	}
}

// What the message is said to have been on the wire is not a policy's to say.
func TestFactsOfTheServerCannotBeSetByAPolicy(t *testing.T) {
	t.Parallel()
	var tr Transaction
	if err := tr.Found("seen", 1); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"smtp.seen", "smtp.other", "smtp."} {
		if err := tr.SetFact(key, 2); err == nil {
			t.Errorf("%s was set", key)
		}
	}
	if err := tr.SetFact("smtpx.seen", 2); err != nil {
		t.Error(err)
	}
	if got := string(tr.Fact("smtp.seen")); got != "1" || len(tr.Facts()) != 2 {
		t.Errorf("facts %s", tr.Facts())
	}
}

func TestPrependRefusesWhatWouldForgeAField(t *testing.T) {
	t.Parallel()
	var tr Transaction
	for _, f := range [][2]string{{"X-One", "1"}, {"X-Two", "2\r\n folded"}} {
		if err := tr.Prepend(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(tr.Prepended()); got != "X-Two: 2\r\n folded\r\nX-One: 1\r\n" {
		t.Errorf("%q", got)
	}
	for _, f := range [][2]string{
		{"", "1"}, {"A B", "1"}, {"A:", "1"}, {"\xc3\xa9", "1"},
		{"A", "1\r\nEvil: 2"}, {"A", "1\nEvil: 2"}, {"A", "1\r"}, {"A", "1\r\n"}, {"A", "\x00"}, {"A", "\x7f"},
	} {
		if err := tr.Prepend(f[0], f[1]); err == nil {
			t.Errorf("%q was taken", f)
		}
	}
}

func TestRemoveTakesAFieldOnce(t *testing.T) {
	t.Parallel()
	var tr Transaction
	for f := range header.Parse([]byte("A: 1\r\nB: 2\r\n\r\n")).Fields() {
		tr.Remove(f)
		tr.Remove(f)
	}
	if len(tr.Removed()) != 2 {
		t.Errorf("%d removed", len(tr.Removed()))
	}
}

func TestOpenOutsideOfTheTextIsAnError(t *testing.T) {
	t.Parallel()
	var tr Transaction
	if _, err := tr.Open(); err == nil {
		t.Error("no error")
	}
	if tr.Rcpt() != (Recipient{}) {
		t.Error("a recipient before RCPT")
	}
}
