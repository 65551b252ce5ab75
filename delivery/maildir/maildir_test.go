package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// text has what must not change: CRLF, bare LF, bare CR, NUL, octets that are
// no UTF-8, a first line that looks like an mbox, a body without a last line end.
const text = "Received: from a by b\r\nSubject: caf\xe9\r\nReturn-Path: <old@example.net>\r\n\r\n" +
	"From here\r\n.dot\r\nbare\nlf bare\rcr \x00 end"

func TestAMessageLiesInNewWithTwoFieldsOnTop(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "mail")
	received := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	e := entry("01J0", "a@example.net", "b@example.org", "c@example.org")
	e.ReceivedAt = received
	e.Prepend = []byte("Received: first\r\n")
	deliver(t, newAdapter(t, dir), message(e, text))

	want := "Return-Path: <a@example.net>\r\nDelivered-To: b@example.org\r\nDelivered-To: c@example.org\r\n" +
		"Received: first\r\n" + text
	if got := read(t, dir+"/new/01J0"); got != want {
		t.Errorf("the file holds\n%q, want\n%q", got, want)
	}
	for _, sub := range []string{"cur", "tmp"} {
		if names := list(t, dir+"/"+sub); len(names) != 0 {
			t.Errorf("%s holds %q", sub, names)
		}
	}
	info, err := os.Stat(dir + "/new/01J0")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || !info.ModTime().Truncate(time.Millisecond).Equal(received) {
		t.Errorf("mode %v, time %v, want -rw------- and %v", info.Mode(), info.ModTime(), received)
	}
	if info, err = os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the Maildir: %v, %v, want drwx------", info.Mode(), err)
	}
}

func TestTheNullSenderIsAnEmptyReturnPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deliver(t, newAdapter(t, dir), message(entry("A", "", "b@example.org"), text))
	if got, want := read(t, dir+"/new/A"), "Return-Path: <>\r\nDelivered-To: b@example.org\r\n"+text; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnAddressCannotAddAField(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deliver(t, newAdapter(t, dir), message(entry("A", "a\r\nX: y@example.net", "b\n\n\x00@example.org"), text))
	want := "Return-Path: <a??X: y@example.net>\r\nDelivered-To: b???@example.org\r\n" + text
	if got := read(t, dir+"/new/A"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestModesAreAsAsked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mail")
	a, err := New(dir, &Options{DirMode: 0o750, FileMode: 0o640})
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, a, message(entry("A", "a@example.net", "b@example.org"), text))
	for name, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o750, "/new": fs.ModeDir | 0o750, "/new/A": 0o640} {
		info, err := os.Stat(dir + name)
		if err != nil || info.Mode() != want {
			t.Errorf("%q: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestARedeliveryReplacesAnUnreadCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAdapter(t, dir)
	e := entry("A", "a@example.net", "b@example.org")
	deliver(t, a, message(e, "first"))
	e.Attempts = 1
	deliver(t, a, message(e, "second"))
	if names := list(t, dir+"/new"); !slices.Equal(names, []string{"A"}) {
		t.Errorf("new holds %q, want A alone", names)
	}
	if got := read(t, dir+"/new/A"); !strings.HasSuffix(got, "second") {
		t.Errorf("the file holds %q, want the second", got)
	}
}

func TestACopyMovedToCurStaysAndCounts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"A", "A:2,", "A:2,S", "A,U=12:2,RS", "A,S=100:2,", "A;2,S"} {
		dir := t.TempDir()
		a := newAdapter(t, dir)
		e := entry("A", "a@example.net", "b@example.org")
		deliver(t, a, message(e, "first"))
		if err := os.Rename(dir+"/new/A", dir+"/cur/"+name); err != nil {
			t.Fatal(err)
		}
		e.Attempts = 1
		deliver(t, a, message(e, "second"))
		if got := read(t, dir+"/cur/"+name); !strings.HasSuffix(got, "first") {
			t.Errorf("%s: the copy in cur holds %q, want the first", name, got)
		}
		if left := append(list(t, dir+"/new"), list(t, dir+"/tmp")...); len(left) != 0 {
			t.Errorf("%s: a second copy: %q", name, left)
		}
	}
}

func TestAnotherMessageInCurDoesNotCount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAdapter(t, dir)
	deliver(t, a, message(entry("AB", "a@example.net", "b@example.org"), "other"))
	if err := os.Rename(dir+"/new/AB", dir+"/cur/AB:2,S"); err != nil {
		t.Fatal(err)
	}
	e := entry("A", "a@example.net", "b@example.org")
	e.Attempts = 1
	deliver(t, a, message(e, "mine"))
	if names := list(t, dir+"/new"); !slices.Equal(names, []string{"A"}) {
		t.Errorf("new holds %q, want A", names)
	}
}

func TestWhatAKilledAttemptLeftInTmpIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAdapter(t, dir)
	e := entry("A", "a@example.net", "b@example.org")
	e.Attempts = 1
	deliver(t, a, message(entry("B", "", "b@example.org"), "to make the Maildir"))
	for _, name := range []string{"A.LEFT", "B.OTHERS"} {
		if err := os.WriteFile(dir+"/tmp/"+name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deliver(t, a, message(e, text))
	if names := list(t, dir+"/tmp"); !slices.Equal(names, []string{"B.OTHERS"}) {
		t.Errorf("tmp holds %q, want another message's file alone", names)
	}
}

func TestNothingReachesNewPastTheDeadline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(context.Background())
	late := errors.New("too late")
	m := queue.NewMessage(entrySized("A", 10), func() (queue.Raw, error) {
		return onRead{raw{strings.NewReader("0123456789")}, func() { cancel(late) }}, nil
	})
	if err := newAdapter(t, dir).Deliver(ctx, m); !errors.Is(err, late) {
		t.Errorf("Deliver returned %v, want the cause", err)
	}
	if left := append(list(t, dir+"/new"), list(t, dir+"/tmp")...); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestATextShorterThanItsSizeIsNotDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := queue.NewMessage(entrySized("A", 11), func() (queue.Raw, error) {
		return raw{strings.NewReader("0123456789")}, nil
	})
	if err := newAdapter(t, dir).Deliver(context.Background(), m); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Deliver returned %v, want an unexpected end", err)
	}
	if left := append(list(t, dir+"/new"), list(t, dir+"/tmp")...); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestManyDeliveriesMakeOneMaildirAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAdapter(t, dir+"/{domain}/{rcpt}")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			m := message(entry(fmt.Sprintf("M%02d", i), "a@example.net", "b@example.org"), text)
			if err := a.Deliver(context.Background(), m); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if names := list(t, dir+"/example.org/b@example.org/new"); len(names) != 32 {
		t.Errorf("%d messages arrived, want 32", len(names))
	}
}

func TestNewNamesTheFault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                             "no path",
		"/":                            "root directory",
		"a\x00b":                       "NUL",
		dir + "/{user}":                "only {rcpt} and {domain}",
		dir + "/{rcpt":                 "only {rcpt} and {domain}",
		dir + "/{domain}{rcpt}{rcpt}":  "put a / between",
		dir + "/file":                  "not a directory",
		dir + "/file/mail":             "not a directory",
		dir + "/file/{rcpt}":           "not a directory",
		dir + strings.Repeat("x", 300): "put a / between",
	} {
		if _, err := New(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q) says %v, want something of %q", path, err, want)
		}
	}
	if _, err := New(dir, &Options{DirMode: 0o500}); err == nil {
		t.Error("a directory its owner may not write to is no error")
	}
	if names := list(t, dir); !slices.Equal(names, []string{"file"}) {
		t.Errorf("New left %q", names)
	}
}

// Not parallel: it measures what the process allocates.
func TestA50MBMessageIsNeverHeld(t *testing.T) {
	dir := t.TempDir()
	const size = 50 << 20
	m := queue.NewMessage(entrySized("A", size), func() (queue.Raw, error) { return pattern{}, nil })
	a := newAdapter(t, dir)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	deliver(t, a, m)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d octets were allocated", n)
	}
	info, err := os.Stat(dir + "/new/A")
	if err != nil || info.Size() < size {
		t.Errorf("delivered: %v, %v", info, err)
	}
}

func newAdapter(t *testing.T, path string) *Adapter {
	t.Helper()
	a, err := New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func deliver(t *testing.T, a *Adapter, m *queue.Message) {
	t.Helper()
	if err := a.Deliver(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

func entry(id, from string, to ...string) queue.Entry {
	e := queue.Entry{ID: queue.ID(id), Envelope: queue.Envelope{MailFrom: from}}
	for _, rcpt := range to {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: rcpt})
	}
	return e
}

func entrySized(id string, size int64) queue.Entry {
	e := entry(id, "a@example.net", "b@example.org")
	e.Size = size
	return e
}

func message(e queue.Entry, text string) *queue.Message {
	e.Size = int64(len(text))
	return queue.NewMessage(e, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
}

type raw struct{ io.ReaderAt }

func (raw) Close() error { return nil }

// onRead calls a func at each reading.
type onRead struct {
	queue.Raw
	f func()
}

func (o onRead) ReadAt(p []byte, off int64) (int, error) {
	o.f()
	return o.Raw.ReadAt(p, off)
}

// pattern is a text of any length that takes no memory.
type pattern struct{}

func (pattern) ReadAt(p []byte, off int64) (int, error) {
	line := []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n")
	for i := 0; i < len(p); {
		i += copy(p[i:], line[(off+int64(i))%int64(len(line)):])
	}
	return len(p), nil
}

func (pattern) Close() error { return nil }

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Clone(b))
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	names, err := osFiles{}.list(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
