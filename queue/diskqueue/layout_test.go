package diskqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

func TestThePauseSurvivesARestart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	q := openTest(t, dir, Options{})
	must(t, q.Pause(ctx))
	must(t, q.Pause(ctx)) // twice is once
	q.put(letter)         // accepting goes on
	must(t, q.Close())
	q = openTest(t, dir, Options{})
	if !q.Paused() {
		t.Fatal("forgotten")
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := q.Lease(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease while paused: %v", err)
	}
	must(t, q.Resume(ctx))
	must(t, q.Resume(ctx))
	must(t, q.next().Release(ctx))
	must(t, q.Close())
	q = openTest(t, dir, Options{})
	if q.Paused() {
		t.Error("paused again")
	}
	must(t, q.next().Ack(ctx))
}

func TestControlSocketLiesInTheSpoolAsLongAsItsPathFits(t *testing.T) {
	t.Parallel()
	base := string(filepath.Separator) + "spool"
	for _, length := range []int{maxSocketPath - 1, maxSocketPath, maxSocketPath + 1, 300} {
		dir := base + strings.Repeat("x", length-len(base)-len("/control.sock"))
		path, inside := ControlSocket(dir), filepath.Join(dir, "control.sock")
		if len(inside) != length {
			t.Fatalf("the test is wrong: %d", len(inside))
		}
		if fits := length <= maxSocketPath; fits != (path == inside) || len(path) > maxSocketPath {
			t.Errorf("%d octets: %s", length, path)
		}
		if path != inside && filepath.Dir(path) != filepath.Clean(os.TempDir()) {
			t.Errorf("%d octets: %s is not in the temporary directory", length, path)
		}
		if ControlSocket(dir+"y") == path {
			t.Errorf("%d octets: another spool has the same", length)
		}
	}
	abs, err := filepath.Abs("some/spool")
	must(t, err)
	if ControlSocket("some/spool") != ControlSocket(abs) {
		t.Error("it depends on how the spool is named")
	}
}

// TestTheLongestSocketPathIsWhatTheSystemTakes: not an octet less, not one more.
func TestTheLongestSocketPathIsWhatTheSystemTakes(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	must(t, err)
	defer os.RemoveAll(dir) // of no use to anybody if that fails
	for length, want := range map[int]bool{maxSocketPath: true, maxSocketPath + 1: false} {
		path := filepath.Join(dir, strings.Repeat("x", length-len(dir)-1))
		l, err := net.Listen("unix", path)
		if (err == nil) != want {
			t.Errorf("a path of %d octets: %v", len(path), err)
		}
		if err == nil {
			must(t, l.Close())
		}
	}
}

// Q10.
func TestASpoolIsForOneAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openTest(t, dir, Options{})
	q.put(letter)
	second, err := Open(dir, small())
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("a second Open: %v, %v", second, err)
	}
	if said := err.Error(); !strings.Contains(said, dir) || !strings.Contains(said, strconv.Itoa(os.Getpid())) {
		t.Errorf("it names neither spool nor holder: %s", said)
	}
	if _, err := Inspect(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("Inspect of a spool in use: %v", err)
	}
	must(t, q.Close())
	i, err := Inspect(dir)
	must(t, err)
	j, err := Inspect(dir) // two may look
	must(t, err)
	if _, err := Open(dir, small()); !errors.Is(err, ErrLocked) {
		t.Errorf("Open of a spool that is looked at: %v", err)
	}
	must(t, errors.Join(i.Close(), j.Close()))
	q = openTest(t, dir, Options{})
	must(t, q.next().Ack(context.Background()))
}

// print is a hash of all that a look must not change: names, modes, times,
// octets.
func print(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %s %d %d\n", path, st.Mode(), st.ModTime().UnixNano(), st.Size())
		if st.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, _ = h.Write(b) // a hash takes anything
		}
		return nil
	}))
	return hex.EncodeToString(h.Sum(nil))
}

func TestLookingAtAStoppedSpoolChangesNothing(t *testing.T) {
	t.Parallel()
	ok := meta(letter, nil)
	spools := map[string]tree{
		"ours": {
			"lock": "", "paused": "", "trash/old/raw.eml": letter, "incoming/S/raw.tmp": letter,
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"committed/broken/raw.eml": letter, "committed/file": "f",
			"processing/P/raw.eml": letter, "processing/P/meta.json": ok,
			"dead/D/raw.eml": letter, "dead/D/meta.json": ok, "dead/D/dead.json": `{"reason":"no","kind":"rejected"}`,
		},
		"never opened by us": {"committed/X/raw.eml": letter, "committed/X/meta.json": ok},
	}
	for name, disk := range spools {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			disk.in(t, dir)
			before := print(t, dir)
			lookAtAll(t, dir)
			if print(t, dir) != before {
				t.Errorf("changed: %q", files(t, dir))
			}
			// The proof that the hash sees something.
			must(t, os.Chtimes(filepath.Join(dir, "committed", "X", "raw.eml"), time.Time{}, time.Unix(1, 0)))
			if print(t, dir) == before {
				t.Error("the test sees no change")
			}
		})
	}
}

func lookAtAll(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	i, err := Inspect(dir)
	must(t, err)
	defer i.Close()
	i.Paused()
	_, err = i.Depth()
	must(t, err)
	for e, err := range i.List(ctx, queue.Filter{}) {
		got, gerr := i.Get(ctx, e.ID)
		if (err == nil) != (gerr == nil) || err == nil && got.ID != e.ID {
			t.Errorf("%s: listed %v, got %v", e.ID, err, gerr)
		}
		if r, err := i.Open(ctx, e.ID); err == nil {
			_, err = io.Copy(io.Discard, r)
			must(t, errors.Join(err, r.Close()))
		}
	}
}

// TestAnIDLeadsNowhereElse: IDs come from keyboards.
func TestAnIDLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	tree{
		"lock": "", "committed/X/raw.eml": letter, "committed/X/meta.json": meta(letter, nil),
		"x/raw.eml": "private", "x/meta.json": meta("private", nil), "x/dead.json": `{"reason":"no"}`,
		"dead/.hidden/raw.eml": "private", "dead/.hidden/meta.json": meta("private", nil),
	}.in(t, dir)
	ids := []queue.ID{"../x", "../../x", "X/../../x", "", ".", "..", "/", ".hidden", "X/", "./X", "..\\x", "X\x00", "../dead/.hidden",
		queue.ID(strings.Repeat("a", 300))}
	before := print(t, dir)
	i, err := Inspect(dir)
	must(t, err)
	for _, id := range ids {
		if _, err := i.Get(ctx, id); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("stopped, Get(%q): %v", id, err)
		}
		if _, err := i.Open(ctx, id); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("stopped, Open(%q): %v", id, err)
		}
	}
	must(t, i.Close())
	if print(t, dir) != before {
		t.Error("changed")
	}
	q := openTest(t, dir, Options{})
	before = print(t, dir)
	for _, id := range ids {
		_, getErr := q.Get(ctx, id)
		_, openErr := q.Queue.Open(ctx, id)
		for call, err := range map[string]error{
			"Get": getErr, "Open": openErr, "Delete": q.Delete(ctx, id), "Retry": q.Retry(ctx, id), "Requeue": q.Requeue(ctx, id),
		} {
			if !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("%s(%q): %v", call, id, err)
			}
		}
	}
	if print(t, dir) != before {
		t.Error("changed")
	}
}

func TestASpoolIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "spool")
	q := openTest(t, dir, Options{})
	q.put(letter)
	q.put(strings.Repeat("x", mostBuffered+1))
	must(t, q.next().Bury(context.Background(), io.EOF))
	seen := 0
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %s", path, st.Mode())
		}
		seen++
		return err
	}))
	if seen < 12 {
		t.Errorf("only %d files seen", seen)
	}
}

// copyOf is a copy of a spool in testdata, which git keeps without its empty
// directories.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))))
	return dir
}

func (q *testQueue) states() map[queue.State][]string {
	all := map[queue.State][]string{}
	for e, err := range q.List(context.Background(), queue.Filter{}) {
		if err != nil {
			q.t.Errorf("%s: %v", e.ID, err)
		}
		said := string(e.ID[len(e.ID)-2:])
		if e.Dead != nil {
			said += " " + string(e.Dead.Kind)
		}
		all[e.State] = append(all[e.State], said)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// TestASpoolOfTheElixirOriginalOpensAsItIs: the fixture is what version 0.5.0
// left behind when it was killed.
func TestASpoolOfTheElixirOriginalOpensAsItIs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := copyOf(t, "elixir-0.5.0")
	want := map[queue.State][]string{
		queue.StateReady: {"f1", "f3", "f5", "f6", "f7", "f9"},
		queue.StateDead:  {"f2 rejected", "f4 spent", "f8 corrupt", "fa corrupt", "fb corrupt", "fc corrupt"},
	}
	for range 2 {
		q := openTest(t, dir, Options{DeadAge: -1})
		if got := q.states(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("found %v, want %v", got, want)
		}
		must(t, q.Close())
	}
	q := openTest(t, dir, Options{DeadAge: -1})
	for _, id := range []queue.ID{"f8", "fa"} {
		if err := q.Requeue(ctx, "0f1e2d3c4b5a69788796a5b4c3d2e1"+id); !errors.Is(err, queue.ErrIncomplete) {
			t.Errorf("requeue of %s, which never had a 250: %v", id, err)
		}
	}
	must(t, q.Requeue(ctx, "0f1e2d3c4b5a69788796a5b4c3d2e1f2"))
	var got []string
	for range 7 {
		l := q.next()
		m := l.Message()
		got = append(got, fmt.Sprintf("%s %d %q %d", m.ID[len(m.ID)-2:], m.Attempt, m.Envelope.MailFrom, len(m.Envelope.RcptTo)))
		r, err := m.Open()
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		n := m.ID[len(m.ID)-1:]
		if string(text) != fmt.Sprintf("Received: from c.example\r\nFrom: <a@x.example>\r\nSubject: letter %s\r\n\r\nText of letter %s.\r\n", n, n) {
			t.Errorf("%s holds %q", m.ID, text)
		}
		must(t, l.Ack(ctx))
	}
	// By received_at, whatever the IDs; the one in delivery has an attempt more.
	if want := []string{`f2 1 "a@x.example" 1`, `f5 3 "a@x.example" 1`, `f7 1 "" 1`, `f3 1 "a@x.example" 2`,
		`f1 3 "a@x.example" 1`, `f6 1 "a@x.example" 1`, `f9 1 "a@x.example" 1`}; !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, ".incoming_write_test")); err != nil {
		t.Errorf("a file that is not ours: %v", err)
	}
}

// TestEachFormatWeWroteOpensForEver: a fixture is never changed, only added.
func TestEachFormatWeWroteOpensForEver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	q := openTest(t, copyOf(t, "format-1"), Options{DeadAge: -1})
	if !q.Paused() {
		t.Error("not paused")
	}
	want := map[queue.State][]string{
		queue.StateReady:   {"1G", "8A"},
		queue.StateWaiting: {"FK"},
		queue.StateDead:    {"27 rejected", "96 panic"},
	}
	if got := q.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found %v, want %v", got, want)
	}
	e := q.get("01M86FYZBVX4Y5693QSMAWKKFK")
	for what, ok := range map[string]bool{
		"sender, in Latin-1": e.Envelope.MailFrom == "fr\xe9m@x.example",
		"owed":               slices.Equal(e.Envelope.Addresses(), []string{"c@y.example"}),
		"settled":            len(e.Settled) == 2 && e.Settled[1] == queue.Outcome{Recipient: "jörg@y.example", Rejected: "550 no such user"},
		"DSN":                e.Envelope.Ret == "HDRS" && e.Envelope.EnvID == `QQ"1`,
		"parameters":         e.Envelope.SMTPUTF8 && e.Envelope.Body == "8BITMIME",
		"times":              e.ReceivedAt.Equal(time.Date(2026, 11, 24, 10, 0, 0, 123e6, time.UTC)) && e.NextAttempt.Year() == 2100,
		"attempts":           e.Attempts == 1 && e.LastError == "451 try later",
		"facts":              string(e.Facts["policy.greylist"]) == `{"seen":2,"at":"now"}` && len(e.Facts) == 2,
		"quarantine":         e.Quarantine == "looks like spam",
		"origin":             e.Listener == "mx" && e.Peer == "192.0.2.1:4711" && e.Hello == "c.example" && e.TLS != nil && e.TLS.ServerName == "mx.y.example",
	} {
		if !ok {
			t.Errorf("%s: %+v", what, e)
		}
	}
	if text := q.textOf(e.ID); text != "Received: from c.example\r\n\tby mx.example\r\n"+letter {
		t.Errorf("read as %q", text)
	}
	must(t, q.Requeue(ctx, "01M86FZ1ABGVV3T2P5RQS01J96"))
	if to := q.get("01M86FZ1ABGVV3T2P5RQS01J96").Envelope.RcptTo; len(to) != 3 || to[2].Notify != "NEVER" {
		t.Errorf("owed again: %+v", to)
	}
}

// TestEachJournalWeWroteOpensForEver: as a kill left it, seen first by who only
// looks, then opened with the journal off, and with the journal on.
func TestEachJournalWeWroteOpensForEver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := copyOf(t, "journal-1")
	must(t, os.MkdirAll(filepath.Join(dir, "committed"), 0o700)) // git keeps no empty directory
	before := contents(t, dir)
	i, err := Inspect(dir)
	must(t, err)
	look := map[string]int{}
	for e, err := range i.List(ctx, queue.Filter{}) {
		must(t, err)
		r, err := i.Open(ctx, e.ID)
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		look[fmt.Sprintf("%s %d %s", e.State, e.Attempts, strings.TrimPrefix(string(text), letter))]++
	}
	must(t, i.Close())
	want := map[string]int{"waiting 1 ": 1, "leased 0 acked": 1, "ready 0 filling": 2, "dead 0 in delivery": 1}
	if !maps.Equal(look, want) {
		t.Errorf("looked at: %v, want %v", look, want)
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Error("looking changed something")
	}
	for _, o := range []Options{{}, {segment: 16 << 10}} {
		q := openTest(t, dir, o)
		if d := q.Depth(); d.Ready != 3 || d.Waiting != 1 || d.Dead != 1 {
			t.Errorf("%+v", d)
		}
		for e, err := range q.List(ctx, queue.Filter{}) {
			must(t, err)
			switch text := strings.TrimPrefix(q.textOf(e.ID), letter); {
			case text == "" && (len(e.Settled) != 2 || e.Settled[1].Rejected != "550 no such user" || !slices.Equal(e.Envelope.Addresses(), []string{"c@y.example"}) ||
				e.Attempts != 1 || e.LastError != "451 try later" || e.NextAttempt.Year() != 2100):
				t.Errorf("%+v", e)
			case text == "acked" && e.Attempts != 1:
				t.Errorf("%+v", e)
			}
		}
		must(t, q.Close())
	}
}

// contents is each file of a spool and what it holds.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range files(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		all[name] = string(b)
	}
	return all
}
