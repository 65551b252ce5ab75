package maildir

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/incoming-mx/incoming/delivery"
)

func TestEachRecipientHasAMaildirAndAVerdict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAdapter(t, dir+"/{domain}/{rcpt}")
	if err := os.WriteFile(dir+"/broken.example", []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := entry("A", "s@example.net", "b@example.org", "x@broken.example", "B@Example.org", "c@example.org")
	if err := a.Deliver(context.Background(), message(e, text)); !isPerRecipient(err) {
		t.Fatalf("Deliver returned %v, want a verdict for each", err)
	}
	e.Attempts = 1
	results := a.deliverEach(context.Background(), message(e, text))
	if len(results) != 4 {
		t.Errorf("%d results, want one for each of 4", len(results))
	}
	for rcpt, err := range results {
		if bad := rcpt == "x@broken.example"; bad != (err != nil) || isRejected(err) ||
			bad && (!errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), dir+"/broken.example")) {
			t.Errorf("the verdict for %s is %v", rcpt, err)
		}
	}
	want := "Return-Path: <s@example.net>\r\nDelivered-To: b@example.org\r\nDelivered-To: B@Example.org\r\n" + text
	if got := read(t, dir+"/example.org/b@example.org/new/A"); got != want {
		t.Errorf("b has %q, want %q", got, want)
	}
	want = "Return-Path: <s@example.net>\r\nDelivered-To: c@example.org\r\n" + text
	if got := read(t, dir+"/example.org/c@example.org/new/A"); got != want {
		t.Errorf("c has %q, want %q", got, want)
	}
	if names := list(t, dir+"/example.org"); !slices.Equal(names, []string{"b@example.org", "c@example.org"}) {
		t.Errorf("the Maildirs are %q", names)
	}
}

func TestRecipientsWithoutTroubleAreOneYes(t *testing.T) {
	t.Parallel()
	a := newAdapter(t, t.TempDir()+"/{rcpt}")
	deliver(t, a, message(entry("A", "", "b@example.org", "c@example.org"), text))
}

func TestRecipientsPastTheDeadlineAreRetried(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a := newAdapter(t, dir+"/{rcpt}")
	m := message(entry("A", "", "b@c", "d@e"), text)
	results := a.deliverEach(ctx, m)
	if err := a.Deliver(ctx, m); !isPerRecipient(err) || !errors.Is(results["b@c"], context.Canceled) || results["d@e"] == nil {
		t.Errorf("Deliver returned %v, want both retried", err)
	}
	if names := list(t, dir); len(names) != 0 {
		t.Errorf("made %q", names)
	}
}

// isRejected: some error in the chain is what delivery.Reject makes.
func isRejected(err error) bool {
	want := reflect.TypeOf(delivery.Reject(errors.New("no")))
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == want {
			return true
		}
	}
	return false
}

func isPerRecipient(err error) bool {
	return reflect.TypeOf(err) == reflect.TypeOf(delivery.PerRecipient(nil))
}
