package diskqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/queue"
)

// found is what a message is expected to be after recovery.
type found struct {
	state    queue.State
	text     string // "" when it is not looked at
	attempts int
	kind     queue.Kind
	reason   string // a part of the dead letter's
	detail   string // a part of what dead.json says in detail
}

// Q07, Q08.
func TestRecovery(t *testing.T) {
	t.Parallel()
	ok := meta(letter, nil)
	other := "Subject: other\r\n\r\n"
	corrupt := func(reason string) found {
		return found{state: queue.StateDead, kind: queue.KindCorrupt, reason: reason}
	}
	incompleteFor := func(detail string) found {
		return found{state: queue.StateDead, kind: queue.KindCorrupt, reason: "incomplete", detail: detail}
	}
	live := found{state: queue.StateReady, text: letter}
	for _, tc := range []struct {
		name string
		disk tree
		want map[queue.ID]found
		gone []string // paths that are not there any more
	}{
		{"a committed message stays", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
		}, map[queue.ID]found{"X": live}, nil},
		{"any directory name is an ID", tree{
			"committed/a b=c+d@e/raw.eml": letter, "committed/a b=c+d@e/meta.json": ok,
		}, map[queue.ID]found{"a b=c+d@e": live}, nil},
		{"what was in delivery is live again, an attempt counted", tree{
			"processing/X/raw.eml": letter, "processing/X/meta.json": meta(letter, keys{"attempts": 4}),
		}, map[queue.ID]found{"X": {state: queue.StateReady, text: letter, attempts: 5}}, []string{"processing/X"}},
		{"a staged message that is whole is promoted", tree{
			"incoming/X/raw.eml": letter, "incoming/X/meta.json": ok,
		}, map[queue.ID]found{"X": live}, []string{"incoming/X"}},
		{"a staged message under temporary names is promoted", tree{
			"incoming/X/raw.tmp": letter, "incoming/X/meta.tmp": ok,
		}, map[queue.ID]found{"X": live}, []string{"incoming/X"}},
		{"a staged message without a checksum is promoted by its size", tree{
			"incoming/X/raw.eml": letter, "incoming/X/meta.json": meta(letter, keys{"crc32c": nil}),
		}, map[queue.ID]found{"X": live}, nil},
		{"a staged message cut short is incomplete", tree{
			"incoming/X/raw.tmp": letter[:9], "incoming/X/meta.json": ok,
		}, map[queue.ID]found{"X": incompleteFor("9 octets")}, []string{"incoming/X"}},
		{"a staged message of other octets is incomplete", tree{
			"incoming/X/raw.eml": strings.Replace(letter, "A", "B", 1), "incoming/X/meta.json": ok,
		}, map[queue.ID]found{"X": incompleteFor("checksum")}, nil},
		{"a staged text alone is incomplete", tree{
			"incoming/X/raw.tmp": letter,
		}, map[queue.ID]found{"X": incompleteFor("no such file")}, nil},
		{"a staged meta alone is incomplete", tree{
			"incoming/X/meta.json": ok,
		}, map[queue.ID]found{"X": incompleteFor("raw.eml is missing")}, nil},
		{"a staged torn meta is incomplete", tree{
			"incoming/X/raw.eml": letter, "incoming/X/meta.json": ok[:len(ok)/2],
		}, map[queue.ID]found{"X": incompleteFor("not readable")}, nil},
		{"a staged message of no known size is incomplete", tree{
			"incoming/X/raw.eml": letter, "incoming/X/meta.json": meta(letter, keys{"size": nil, "crc32c": nil}),
		}, map[queue.ID]found{"X": incompleteFor("no size")}, nil},
		{"an empty staging directory is incomplete", tree{
			"incoming/X/": "",
		}, map[queue.ID]found{"X": incompleteFor("no such file")}, nil},
		{"no text", tree{"committed/X/meta.json": ok}, map[queue.ID]found{"X": corrupt("raw.eml is missing")}, nil},
		{"no meta", tree{"committed/X/raw.eml": letter}, map[queue.ID]found{"X": corrupt("meta.json is missing")}, nil},
		{"no text, in delivery", tree{"processing/X/meta.json": ok}, map[queue.ID]found{"X": corrupt("raw.eml is missing")}, nil},
		{"an empty directory", tree{"committed/X/": ""}, map[queue.ID]found{"X": corrupt("meta.json is missing")}, nil},
		{"a meta of no octets", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": ""},
			map[queue.ID]found{"X": corrupt("meta.json is not readable")}, nil},
		{"a meta of zeros", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": strings.Repeat("\x00", 300)},
			map[queue.ID]found{"X": corrupt("meta.json is not readable")}, nil},
		{"a meta that is no object", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": "null"},
			map[queue.ID]found{"X": corrupt("meta.json is not readable")}, nil},
		{"a meta of a later format", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": meta(letter, keys{"format": 2})},
			map[queue.ID]found{"X": corrupt("format 2")}, nil},
		{"a meta that is a directory", tree{"committed/X/raw.eml": letter, "committed/X/meta.json/": ""},
			map[queue.ID]found{"X": corrupt("is a directory")}, nil},
		{"a text that is a directory", tree{"committed/X/raw.eml/": "", "committed/X/meta.json": ok},
			map[queue.ID]found{"X": corrupt("not a file")}, nil},
		{"a text of another length", tree{"committed/X/raw.eml": "", "committed/X/meta.json": ok},
			map[queue.ID]found{"X": corrupt("0 octets in place of 29")}, nil},
		{"no recipients", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": meta(letter, keys{"rcpt_to": []string{}})},
			map[queue.ID]found{"X": corrupt("no recipients")}, nil},
		{"recipients that are none", tree{"committed/X/raw.eml": letter, "committed/X/meta.json": meta(letter, keys{"rcpt_to": 7})},
			map[queue.ID]found{"X": corrupt("no recipients")}, nil},
		{"a skip list that leads outside", tree{"committed/X/raw.eml": letter,
			"committed/X/meta.json": meta(letter, keys{"skip": []queue.Range{{Start: 5, End: 500}}})},
			map[queue.ID]found{"X": corrupt("does not fit")}, nil},
		{"all recipients delivered, and the end not written", tree{"processing/X/raw.eml": letter,
			"processing/X/meta.json": meta(letter, keys{"rcpt_to": []string{}, "settled": []keys{{"rcpt": "b@y.example"}}})},
			map[queue.ID]found{}, []string{"processing/X", "committed/X"}},
		{"all recipients settled, one refused, and the end not written", tree{"processing/X/raw.eml": letter,
			"processing/X/meta.json": meta(letter, keys{"rcpt_to": []string{}, "settled": []keys{{"rcpt": "b@y.example", "rejected": "no such user"}}})},
			map[queue.ID]found{"X": {state: queue.StateDead, kind: queue.KindRejected, reason: "no such user"}}, nil},
		{"a file for a directory", tree{"committed/X": "what is this?"},
			map[queue.ID]found{"X": corrupt("a file where")}, []string{"committed/X"}},
		{"a file for a directory in dead", tree{"dead/X": "what is this?"},
			map[queue.ID]found{"X.2": corrupt("a file where")}, []string{"dead/X"}},
		{"a file for a directory in staging", tree{"incoming/X": "what is this?"},
			map[queue.ID]found{"X.2": corrupt("a file where")}, []string{"incoming/X"}},
		{"a burial cut short is finished", tree{
			"processing/X/raw.eml": letter, "processing/X/meta.json": ok,
			"processing/X/dead.json": `{"rejected_at":"2026-03-02T00:00:00.000Z","reason":"no","kind":"rejected"}`,
		}, map[queue.ID]found{"X": {state: queue.StateDead, text: letter, kind: queue.KindRejected, reason: "no"}}, nil},
		{"a burial cut short before its reason had a name", tree{
			"processing/X/raw.eml": letter, "processing/X/meta.json": ok, "processing/X/dead.tmp": `{"rej`,
		}, map[queue.ID]found{"X": {state: queue.StateReady, text: letter, attempts: 1}}, nil},
		{"a requeue cut short is finished", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"committed/X/dead.json": `{"rejected_at":"2026-03-02T00:00:00.000Z","reason":"no","kind":"rejected"}`,
		}, map[queue.ID]found{"X": live}, []string{"committed/X/dead.json"}},
		{"a retry cut short keeps the old meta", tree{
			"processing/X/raw.eml": letter, "processing/X/meta.json": ok, "processing/X/meta.tmp": `{"id`,
		}, map[queue.ID]found{"X": {state: queue.StateReady, text: letter, attempts: 1}}, nil},
		{"a removal cut short is finished", tree{
			"trash/X/meta.json": ok, "trash/Y/raw.eml": letter, "trash/Z/": "", "trash/W/deep/er/file": "w", "trash/V": "v",
		}, map[queue.ID]found{}, []string{"trash/X", "trash/Y", "trash/Z", "trash/W", "trash/V"}},
		{"a dead letter stays, whatever it lacks", tree{
			"dead/X/dead.json": `{"rejected_at":"2026-03-02T00:00:00.000Z","reason":"no","kind":"spent"}`,
			"dead/Y/raw.eml":   letter,
		}, map[queue.ID]found{
			"X": {state: queue.StateDead, kind: queue.KindSpent, reason: "no"},
			"Y": corrupt("dead.json is missing"),
		}, nil},
		{"one message in committed and in delivery is in delivery", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"processing/X/raw.eml": letter, "processing/X/meta.json": meta(letter, keys{"attempts": 2}),
		}, map[queue.ID]found{"X": {state: queue.StateReady, text: letter, attempts: 3}}, []string{"processing/X"}},
		{"one message in staging and committed is committed", tree{
			"incoming/X/raw.eml": letter, "incoming/X/meta.json": ok,
			"committed/X/raw.eml": letter, "committed/X/meta.json": meta(letter, keys{"attempts": 2}),
		}, map[queue.ID]found{"X": {state: queue.StateReady, text: letter, attempts: 2}}, []string{"incoming/X"}},
		{"one message everywhere is dead", tree{
			"incoming/X/raw.tmp": letter, "committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"processing/X/raw.eml": letter, "processing/X/meta.json": ok,
			"dead/X/raw.eml": letter, "dead/X/meta.json": ok, "dead/X/dead.json": `{"reason":"no","kind":"spent"}`,
		}, map[queue.ID]found{"X": {state: queue.StateDead, text: letter, kind: queue.KindSpent, reason: "no"}},
			[]string{"incoming/X", "committed/X", "processing/X"}},
		{"a dead letter without its meta does not win over the message", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"dead/X/raw.eml": letter, "dead/X/dead.json": `{"reason":"no","kind":"spent"}`,
		}, map[queue.ID]found{"X": live, "X.2": {state: queue.StateDead, kind: queue.KindSpent, reason: "no"}}, nil},
		{"two messages of one ID: what is moved has another", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"processing/X/raw.eml": other, "processing/X/meta.json": meta(other, nil),
		}, map[queue.ID]found{"X": live, "X.2": {state: queue.StateReady, text: other, attempts: 1}}, nil},
		{"two messages of one ID, one of them dead", tree{
			"committed/X/raw.eml": letter, "committed/X/meta.json": ok,
			"dead/X/raw.eml": other, "dead/X/meta.json": meta(other, nil), "dead/X/dead.json": `{"reason":"no","kind":"spent"}`,
		}, map[queue.ID]found{"X": live, "X.2": {state: queue.StateDead, text: other, kind: queue.KindSpent, reason: "no"}}, nil},
		{"three messages of one ID, and the second name taken", tree{
			"incoming/X/raw.eml": "1", "incoming/X/meta.json": meta("1", nil),
			"processing/X/raw.eml": other, "processing/X/meta.json": meta(other, nil),
			"dead/X/raw.eml": letter, "dead/X/meta.json": ok, "dead/X/dead.json": `{"reason":"no","kind":"spent"}`,
			"committed/X.2/raw.eml": "22", "committed/X.2/meta.json": meta("22", nil),
		}, map[queue.ID]found{
			"X":   {state: queue.StateDead, text: letter, kind: queue.KindSpent, reason: "no"},
			"X.2": {state: queue.StateReady, text: "22"},
			"X.3": {state: queue.StateReady, text: other, attempts: 1},
			"X.4": {state: queue.StateReady, text: "1"},
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tc.disk.in(t, dir)
			// Twice: what recovery leaves is in order for the next one.
			for pass := range 2 {
				q := openTest(t, dir, Options{DeadAge: -1})
				checkFound(t, q, tc.want)
				for _, path := range tc.gone {
					if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
						t.Errorf("%s is still there", path)
					}
				}
				if said := q.events.spool(); pass == 1 && len(said) > 0 {
					t.Errorf("the second open found something: %v", said)
				}
				must(t, q.Close())
			}
		})
	}
}

func checkFound(t *testing.T, q *testQueue, want map[queue.ID]found) {
	t.Helper()
	var ids []queue.ID
	for e, err := range q.List(context.Background(), queue.Filter{}) {
		if err != nil {
			t.Errorf("%s: %v", e.ID, err)
		}
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	if all := slices.Sorted(maps.Keys(want)); !slices.Equal(ids, all) {
		t.Fatalf("found %q, want %q", ids, all)
	}
	for id, w := range want {
		e := q.get(id)
		if e.State != w.state || e.Attempts != w.attempts {
			t.Errorf("%s: %s, %d attempts; want %s, %d", id, e.State, e.Attempts, w.state, w.attempts)
		}
		if w.text != "" && q.textOf(id) != w.text {
			t.Errorf("%s holds %q, want %q", id, q.textOf(id), w.text)
		}
		if w.state != queue.StateDead {
			continue
		}
		if e.Dead == nil || e.Dead.Kind != w.kind || !strings.Contains(e.Dead.Reason, w.reason) {
			t.Errorf("%s: dead for %+v, want %s: %s", id, e.Dead, w.kind, w.reason)
		}
		said, err := os.ReadFile(filepath.Join(q.Dir(), "dead", string(id), "dead.json"))
		if w.detail != "" && (err != nil || !strings.Contains(string(said), w.detail)) {
			t.Errorf("%s: dead.json does not tell of %q: %s", id, w.detail, said)
		}
	}
}

// Q24.
func TestForeignFilesAreLeftAloneAndReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := tree{
		"lost+found/#1":                        "root's own",
		"committed/lost+found/#2":              "2",
		"committed/.nfs000000000123":           "3",
		"dead/.DS_Store":                       "4",
		"processing/.raw.eml.Xy12Zz":           "5",
		"incoming/.hidden/file":                "6",
		"committed/X/raw.eml":                  letter,
		"committed/X/meta.json":                meta(letter, nil),
		"committed/X/.nfs0000000001234":        "7",
		"committed/X/notes from the operator/": "",
		".incoming_write_test":                 "ok",
	}
	disk.in(t, dir)
	before := files(t, dir)
	q := openTest(t, dir, Options{})
	for _, name := range []string{"lost+found", ".nfs000000000123", ".DS_Store", ".raw.eml.Xy12Zz", ".hidden"} {
		if q.events.count(name, "not ours") != 1 {
			t.Errorf("%s was not reported once: %v", name, q.events.spool())
		}
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("there was %q, now there is %q", before, after)
	}
	if got := counts(q.Depth()); got != (queue.Depth{Ready: 1}) {
		t.Errorf("depth %+v", got)
	}
	must(t, q.next().Ack(context.Background()))
	must(t, q.Close())
	if _, err := os.Stat(filepath.Join(dir, "trash", "X")); err == nil {
		t.Error("what an operator put beside a message kept it from being removed")
	}
}

// Q07.
func TestAMessageFoundOnTheDiskIsReadThroughBeforeItIsDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flipped := strings.Replace(letter, "A letter", "@ letter", 1)
	tree{
		"committed/X/raw.eml": flipped, "committed/X/meta.json": meta(letter, nil),
		"committed/Y/raw.eml": letter, "committed/Y/meta.json": meta(letter, nil),
	}.in(t, dir)
	q := openTest(t, dir, Options{})
	l := q.next()
	if l.Message().ID != "Y" {
		t.Fatalf("leased %s", l.Message().ID)
	}
	must(t, l.Ack(context.Background()))
	e := q.get("X")
	if e.Dead == nil || e.Dead.Kind != queue.KindCorrupt || !strings.Contains(e.Dead.Reason, "checksum") {
		t.Fatalf("X: %+v", e.Dead)
	}
	if q.events.count("X", "checksum") == 0 {
		t.Error("the hook was told nothing")
	}
	if err := q.Requeue(context.Background(), "X"); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("Requeue: %v", err)
	}
	if q.textOf("X") != flipped {
		t.Error("what there is of it cannot be looked at")
	}
}

func TestUnknownKeysSurviveEveryRewrite(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	tree{
		"committed/X/raw.eml":   letter,
		"committed/X/meta.json": meta(letter, keys{"x-tenant": keys{"id": 12345678901234567, "n": "<é>"}, "rcpt_to": []string{"a@y.example", "b@y.example", "c@y.example"}}),
	}.in(t, dir)
	check := func(where string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, where, "X", "meta.json"))
		must(t, err)
		if !strings.Contains(string(b), `"x-tenant":{"id":12345678901234567,"n":"<é>"}`) && !strings.Contains(string(b), `"x-tenant":{"id":12345678901234567,"n":"\u003cé\u003e"}`) {
			t.Errorf("in %s: %s", where, b)
		}
	}
	q := openTest(t, dir, Options{})
	l := q.next()
	must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	check("processing")
	must(t, l.Retry(ctx, time.Time{}, io.ErrUnexpectedEOF))
	check("committed")
	l = q.next()
	must(t, l.Settle(ctx, []queue.Outcome{{Recipient: "b@y.example", Rejected: "no"}}))
	must(t, l.Bury(ctx, io.ErrUnexpectedEOF))
	check("dead")
	must(t, q.Requeue(ctx, "X"))
	check("committed")
	must(t, q.Close())
	if got, want := files(t, dir), []string{"committed/X/meta.json", "committed/X/raw.eml"}; !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
}

func TestMissingKeysHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree{
		"committed/X/raw.eml":   letter,
		"committed/X/meta.json": `{"rcpt_to":["b@y.example","b@y.example",""],"received_at":"yesterday","attempts":"many","size":-1,"mail_from":null}`,
		"committed/Y/raw.eml":   letter,
		"committed/Y/meta.json": `{"rcpt_to":["b@y.example"],"mail_from":"<>","attempts":-3}`,
	}.in(t, dir)
	written := time.Date(2026, 2, 3, 4, 5, 6, 7e6, time.UTC)
	for _, id := range []string{"X", "Y"} {
		must(t, os.Chtimes(filepath.Join(dir, "committed", id, "raw.eml"), written, written))
	}
	q := openTest(t, dir, Options{})
	for _, id := range []queue.ID{"X", "Y"} {
		e := q.get(id)
		if e.Envelope.MailFrom != "" || len(e.Envelope.RcptTo) != 1 || e.Attempts != 0 ||
			!e.ReceivedAt.Equal(written) || e.Size != int64(len(letter)) {
			t.Errorf("%s: %+v", id, e)
		}
		m := q.next().Message()
		if m.Attempt != 1 || !m.ReceivedAt.Equal(written) || m.Size != int64(len(letter)) {
			t.Errorf("%s leased: %+v", m.ID, m)
		}
	}
}

func TestOrderIsByReceivedAtThenID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(s string) string { return meta(letter, keys{"received_at": s}) }
	tree{
		"committed/A/raw.eml": letter, "committed/A/meta.json": at("2026-03-01T10:00:00.002Z"),
		"committed/Z/raw.eml": letter, "committed/Z/meta.json": at("2026-03-01T10:00:00.001Z"),
		"committed/M/raw.eml": letter, "committed/M/meta.json": at("2026-03-01T10:00:00.002Z"),
		"committed/0/raw.eml": letter, "committed/0/meta.json": at("2026-03-01T12:00:00.000+02:00"),
	}.in(t, dir)
	q := openTest(t, dir, Options{})
	var got []queue.ID
	for range 4 {
		got = append(got, q.next().Message().ID)
	}
	if want := []queue.ID{"0", "Z", "A", "M"}; !slices.Equal(got, want) {
		t.Errorf("leased %q, want %q", got, want)
	}
}

// TestATornRecordIsSetAsideOnceThoughItsBurialWasCutShort: what the cut left of it in
// staging is a dead letter of its name already.
func TestATornRecordIsSetAsideOnceThoughItsBurialWasCutShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a torn record", true)
	w.put(1)
	torn := w.put(2)
	e := w.find(torn)
	path, at, life := e.spot.seg.path, int64(e.spot.off), e.spot.seg.seq
	w.put(3)
	w.kill()
	f, err := w.mem.Reopen(path)
	w.must(err)
	_, err = f.WriteAt(make([]byte, 200), at) // its header and ID, so that nobody can tell whose it was
	w.must(errors.Join(err, f.Close()))
	w.must(w.mem.Mkdir(fmt.Sprintf("%s/incoming/journal-%d-%d", worldSpool, life, at)))
	for _, when := range []string{"first", "again"} {
		w.open()
		if d := w.q.Depth(); d.Dead != 1 || d.Ready != 2 {
			t.Errorf("opened %s: %+v", when, d)
		}
		for _, told := range w.events.spool() {
			if errors.Is(told.Err, fs.ErrExist) {
				t.Errorf("opened %s: %v", when, told.Err)
			}
		}
		w.must(w.q.Close())
	}
}

// failedBurial is a spool in which a failed burial left the message whole in staging,
// as it was then; since then a recipient was settled.
func failedBurial(t *testing.T) (w *world, id queue.ID) {
	t.Helper()
	ctx := context.Background()
	w = newWorld(t, "a failed burial", true)
	id = w.put(1)
	e := w.find(id)
	before, err := w.q.journal.read(&e)
	w.must(err)
	meta, err := before.encode()
	w.must(err)
	l, err := w.lease(time.Minute)
	w.must(err)
	w.must(l.Settle(ctx, []queue.Outcome{{Recipient: "a@y.example"}}))
	w.must(l.Retry(ctx, time.Time{}, io.EOF))
	w.must(w.q.Close())
	staged := newDirectory(w.mem, worldSpool, false)
	w.must(w.mem.Mkdir(staged.path(inIncoming, string(id))))
	w.must(staged.writeFile(staged.path(inIncoming, string(id), rawFile), []byte(letter)))
	w.must(staged.writeFile(staged.path(inIncoming, string(id), metaFile), meta))
	w.mem = w.mem.Crash(crashfs.Kept)
	return w, id
}

// offersOnly checks that a message is the only one and is offered to those, and closes
// the spool.
func (w *world) offersOnly(when string, id queue.ID, to ...string) {
	w.t.Helper()
	l, err := w.lease(time.Minute)
	w.must(err)
	if got := l.Message().Envelope.Addresses(); l.Message().ID != id || !slices.Equal(got, to) {
		w.t.Errorf("%s: %s is offered to %v", when, l.Message().ID, got)
	}
	if d := w.q.Depth(); d.Live() != 1 || d.Dead != 0 {
		w.t.Errorf("%s: %+v", when, d)
	}
	w.must(l.Release(context.Background()))
	w.must(w.q.Close())
}

// TestWhatAFailedBurialLeftDoesNotUndoWhatTheJournalKnows, nor does it when the power
// goes while that is sorted out.
func TestWhatAFailedBurialLeftDoesNotUndoWhatTheJournalKnows(t *testing.T) {
	t.Parallel()
	w, id := failedBurial(t)
	left := w.mem

	w.mem = left.Crash(crashfs.Kept)
	w.open()
	w.must(w.q.Close())
	for cut := range w.mem.Ops() + 1 {
		for name, fate := range fates(2) {
			w.mem = left.Crash(crashfs.Kept)
			w.mem.CutAt(cut)
			if q, err := Open(worldSpool, w.options()); err == nil {
				_ = q.Close() // the power may go then too
			}
			w.mem = w.mem.Crash(fate)
			w.open()
			w.offersOnly(fmt.Sprintf("cut after change %d, %s", cut, name), id, "b@y.example")
		}
	}
}
