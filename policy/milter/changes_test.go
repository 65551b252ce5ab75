package milter

import (
	"errors"
	"strings"
	"testing"

	gomilter "github.com/d--j/go-milter"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/internal/policytest"
)

// does is a filter that changes the header.
func does(changes func(m gomilter.Modifier) []error) *filter {
	return &filter{end: func(m gomilter.Modifier) (*gomilter.Response, error) {
		return gomilter.RespAccept, errors.Join(changes(m)...)
	}}
}

func TestChangesOfTheHeaderAreMadeByPrependAndSkip(t *testing.T) {
	t.Parallel()
	const text = "A: 1\r\nB: 2\r\n\tfolded\r\na: 3\r\n\r\nbody\r\n"
	for name, c := range map[string]struct {
		changes func(m gomilter.Modifier) []error
		want    string
	}{
		"nothing": {func(m gomilter.Modifier) []error { return nil }, text},
		"added in order": {func(m gomilter.Modifier) []error { return []error{m.AddHeader("X", "x"), m.AddHeader("Y", "y")} },
			"X: x\r\nY: y\r\n" + text},
		"inserted, the last on top": {func(m gomilter.Modifier) []error {
			return []error{m.InsertHeader(0, "X", "x"), m.InsertHeader(1, "Y", "y")}
		}, "Y: y\r\nX: x\r\n" + text},
		"inserted above added": {func(m gomilter.Modifier) []error {
			return []error{m.AddHeader("X", "x"), m.InsertHeader(0, "Y", "y")}
		}, "Y: y\r\nX: x\r\n" + text},
		"changed": {func(m gomilter.Modifier) []error { return []error{m.ChangeHeader(1, "b", "new")} },
			"b: new\r\nA: 1\r\na: 3\r\n\r\nbody\r\n"},
		"the second of a name": {func(m gomilter.Modifier) []error { return []error{m.ChangeHeader(2, "A", "new")} },
			"A: new\r\nA: 1\r\nB: 2\r\n\tfolded\r\n\r\nbody\r\n"},
		"taken out": {func(m gomilter.Modifier) []error {
			return []error{m.ChangeHeader(1, "A", ""), m.ChangeHeader(2, "A", "")}
		},
			"B: 2\r\n\tfolded\r\n\r\nbody\r\n"},
		"changed twice": {func(m gomilter.Modifier) []error {
			return []error{m.ChangeHeader(1, "B", "one"), m.ChangeHeader(1, "B", "two")}
		}, "B: two\r\nA: 1\r\na: 3\r\n\r\nbody\r\n"},
		"changed where there is none": {func(m gomilter.Modifier) []error {
			return []error{m.ChangeHeader(3, "A", "x"), m.ChangeHeader(1, "Z", "")}
		}, "A: x\r\n" + text},
		"folded": {func(m gomilter.Modifier) []error { return []error{m.AddHeader("X", "one\n\ttwo\r\n three\n")} },
			"X: one\r\n\ttwo\r\n three\r\n" + text},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(text)
			if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: does(c.changes).serve(t)})); err != nil || told != nil {
				t.Fatalf("%v %+v", err, told)
			}
			if got := policytest.Stored(t, tx); got != c.want {
				t.Errorf("stored %q\nwant   %q", got, c.want)
			}
		})
	}
}

// Several filters, in order: each is shown the header as those before have left it,
// and may change what they, or another policy, put there.
func TestTheNextFilterSeesWhatTheOnesBeforeChanged(t *testing.T) {
	t.Parallel()
	first := does(func(m gomilter.Modifier) []error {
		return []error{m.InsertHeader(0, "X-First", "1"), m.ChangeHeader(1, "Subject", ""), m.AddHeader("X-Also", "1")}
	})
	second := does(func(m gomilter.Modifier) []error {
		return []error{m.ChangeHeader(1, "X-First", "changed"), m.ChangeHeader(1, "X-Also", ""), m.ChangeHeader(1, "To", "nobody")}
	})
	third := &filter{}
	tx := transaction("Subject: s\r\nTo: b\r\n\r\nx")
	if err := tx.Prepend("X-Policy", "p"); err != nil {
		t.Fatal(err)
	}
	told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: first.serve(t)}), policy.Named("second", made(t, Options{Address: second.serve(t)})),
		made(t, Options{Address: third.serve(t)}))
	if err != nil || told != nil {
		t.Fatalf("%v %+v", err, told)
	}
	for f, want := range map[*filter]string{
		first:  `X-Policy "p"|Subject "s"|To "b"`,
		second: `X-First "1"|X-Also "1"|X-Policy "p"|To "b"`,
		third:  `X-First "changed"|To "nobody"|X-Policy "p"`,
	} {
		var fields []string
		for line := range strings.SplitSeq(f.told(), "\n") {
			if field, is := strings.CutPrefix(line, "header "); is {
				fields = append(fields, field)
			}
		}
		if got := strings.Join(fields, "|"); got != want {
			t.Errorf("it was shown %s\nwant         %s", got, want)
		}
	}
	if got := policytest.Stored(t, tx); got != "X-First: changed\r\nTo: nobody\r\nX-Policy: p\r\n\r\nx" {
		t.Errorf("stored %q", got)
	}
}

// What a filter changes in a message that it refuses is of no account.
func TestChangesOfARefusedMessageAreNotMade(t *testing.T) {
	t.Parallel()
	f := &filter{end: func(m gomilter.Modifier) (*gomilter.Response, error) {
		return gomilter.RespTempFail, m.AddHeader("X", "x")
	}}
	tx := transaction(message)
	if _, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: f.serve(t)})); err == nil || policytest.Stored(t, tx) != message {
		t.Errorf("%v, stored %q", err, policytest.Stored(t, tx))
	}
}
