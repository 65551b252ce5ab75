package diskqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/queue"
)

// FuzzMeta reads meta.json and dead.json, whatever is in them: the short way of
// reading one agrees with the long one, and what was understood is the same when
// it was written and read again.
func FuzzMeta(f *testing.F) {
	for _, other := range []keys{nil, {"format": 2}, {"size": nil}, {"size": -1}, {"attempts": -3, "note": []int{1}}, {"rcpt_to": []any{}},
		{"mail_from": "<>", "rcpt_to": []any{"a", "a", "", keys{"base64": "/w=="}}}, {"skip": []any{keys{"start": 0, "end": 9}, keys{"start": 3, "end": 4}}},
		{"dsn": keys{"ret": "HDRS", "rcpt": []any{keys{"rcpt": "b@y.example", "notify": "NEVER"}}}, "smtputf8": true, "tls": keys{"version": "TLS 1.3"}},
		{"settled": []any{keys{"rcpt": "c", "rejected": "no"}}, "facts": keys{"a.b": keys{"c": 1}}, "received_at": "yesterday"},
		{"next_attempt": "2026-03-01T10:00:00.123456Z", "requeued_at": "9999-12-31T23:59:59Z", "crc32c": "xyz"}} {
		f.Add([]byte(meta(letter, other)))
	}
	r := &record{hasSize: true, hasCRC: true, Entry: queue.Entry{ID: "ID", Envelope: envelope(`"a\b"@y.example`), Origin: queue.Origin{ReceivedAt: time.Unix(1, 0)}}}
	r.Prepend = []byte("Received: x\r\n\ty\r\n")
	short, err := r.encode()
	must(f, err)
	f.Add(short)
	f.Add([]byte(`{"rejected_at":"2026-03-01T10:00:00.000Z","reason":"no","kind":"rejected"}`))
	f.Add([]byte(`{"reason":":incomplete_write"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := decodeNote(b, time.Unix(7, 0).UTC())
		again, err := n.encode()
		must(t, err)
		if m := decodeNote(again, time.Unix(8, 0)); n.Kind != "" && *m != *n {
			t.Errorf("%q is %+v, then %q, %+v", b, n, again, m)
		}
		var m, long metaJSON
		if scanMeta(b, &m) {
			dec := json.NewDecoder(bytes.NewReader(b))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&long); err != nil || !reflect.DeepEqual(m, long) {
				t.Errorf("%q is %+v the short way, %+v, %v the long one", b, m, long, err)
			}
		}
		checkMeta(t, b)
	})
}

func checkMeta(t *testing.T, b []byte) {
	t.Helper()
	r, err := decode("ID", b)
	if err != nil {
		return
	}
	if r.Size < 0 || r.Attempts < 0 || r.hasSize && checkSkip(r.Skip, r.Size) != nil {
		t.Errorf("%q is %+v", b, r)
	}
	for i, to := range r.Envelope.RcptTo {
		if to.Address == "" || slices.ContainsFunc(r.Envelope.RcptTo[:i], func(o queue.Recipient) bool { return o.Address == to.Address }) {
			t.Errorf("%q has the recipients %q", b, r.Envelope.RcptTo)
		}
	}
	again, err := r.encode()
	must(t, err)
	r2, err := decode("ID", again)
	if err != nil {
		t.Fatalf("%q was written as %q: %v", b, again, err)
	}
	twice, err := r2.encode()
	must(t, err)
	if !bytes.Equal(again, twice) {
		t.Errorf("%q was written as %q, then %q", b, again, twice)
	}
}

// estate is a spool with messages in every place, made the same each time.
type estate struct {
	files map[string]string // by path below the spool; of a directory without files "", with a slash
	names []string          // of files, sorted
	texts map[queue.ID]string
	where map[queue.ID]string // "dead", "incomplete", or "" for what is to be delivered
	// records is where in the segments what a message needs lies.
	records map[queue.ID][]span
}

// span is octets of a file.
type span struct {
	file     string
	from, to int
}

// estateSegment is the size of its segments.
const estateSegment = 12 << 10

func newEstate() *estate {
	s := &estate{files: map[string]string{"trash/": ""}, texts: map[queue.ID]string{}, where: map[queue.ID]string{}, records: map[queue.ID][]span{}}
	text := func(id string) string {
		return "Subject: " + id + "\r\n\r\nA letter, " + strings.Repeat(id+" ", 10) + "\r\n"
	}
	entry := func(place, id string, other keys) {
		s.texts[queue.ID(id)] = text(id)
		s.files[place+"/"+id+"/raw.eml"] = text(id)
		s.files[place+"/"+id+"/meta.json"] = meta(text(id), other)
	}
	entry("committed", "C1", nil)
	entry("committed", "C2", keys{"rcpt_to": []string{"b@y.example", "c@y.example"}, "settled": []any{keys{"rcpt": "d@y.example"}}})
	entry("processing", "P1", nil)
	entry("incoming", "I1", nil)
	entry("dead", "D1", nil)
	s.files["dead/D1/dead.json"] = `{"rejected_at":"2026-03-01T10:00:00.000Z","reason":"no","kind":"rejected"}`
	s.where["D1"] = "dead"
	s.texts["I2"], s.where["I2"] = text("I2"), "incomplete"
	s.files["incoming/I2/raw.tmp"] = text("I2")[:20]

	frame := func(k kind, id, meta, text string) []byte { return oneFrame(testSalt, 0, k, queue.ID(id), meta, text) }
	message := func(id string) []byte {
		s.texts[queue.ID(id)] = text(id)
		return frame(kindMessage, id, meta(text(id), keys{"id": id}), text(id))
	}
	const life1, life2 = "\x01\x00\x00\x00\x00\x00\x00\x00", "\x02\x00\x00\x00\x00\x00\x00\x00"
	s.addSegment("journal/00000001.seg", 1, true, message("J1"), message("J2"), message("J3"), frame(kindRemoved, "J2", life1, ""),
		frame(kindUpdate, "J3", meta(text("J3"), keys{"id": "J3", "attempts": 2}), ""))
	s.addSegment("journal/00000002.seg", 2, false, message("J4"), frame(kindLeased, "J4", "", ""), message("J5"), message("J6"),
		frame(kindRemoved, "J5", life2, ""), message("J7"))
	for _, gone := range []queue.ID{"J2", "J5"} {
		s.where[gone] = "gone"
	}
	s.names = slices.Sorted(maps.Keys(s.files))
	s.names = slices.DeleteFunc(s.names, func(name string) bool { return strings.HasSuffix(name, "/") })
	return s
}

// addSegment adds a file of the journal.
func (s *estate) addSegment(name string, seq uint64, sealed bool, frames ...[]byte) {
	b := make([]byte, estateSegment)
	copy(b, (&segmentHeader{size: estateSegment, seq: seq, salt: testSalt}).encode())
	at := firstRecord
	for _, frame := range frames {
		copy(b[at:], frame)
		at += len(frame)
	}
	var footer []footed
	for _, f := range scanFrames(b, testSalt).whole {
		s.records[f.id] = append(s.records[f.id], span{name, int(f.off), int(f.off + f.n)})
		listed, err := f.list()
		if err != nil {
			panic(err)
		}
		footer = append(footer, listed)
	}
	if sealed {
		end := encodeFooter(footer, testSalt)
		copy(b[len(b)-len(end):], end)
	}
	s.files[name] = string(b)
}

// vandal changes an estate, and knows what it has touched.
type vandal struct {
	*estate
	files   map[string]string
	touched map[queue.ID]bool
	any     bool // a segment was changed in what all that is in it rests on
	// contested is the messages that have another name or place, or whose name
	// something else has too: they are whole, and may end under any name.
	contested map[queue.ID]bool
	owner     map[string]queue.ID // by directory: the message in it, where that has another name
	delivered map[string]bool     // texts
}

func (s *estate) vandal() *vandal {
	return &vandal{estate: s, files: maps.Clone(s.files), touched: make(map[queue.ID]bool), contested: make(map[queue.ID]bool),
		owner: make(map[string]queue.ID), delivered: make(map[string]bool)}
}

// act does one thing to a file or directory.
func (v *vandal) act(what, which byte, at uint16, value byte, stuff string) {
	name := v.names[int(which)%len(v.names)]
	old, there := v.files[name]
	if !there {
		return
	}
	pos := 0
	if len(old) > 0 {
		pos = int(at) % len(old)
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	place, id := path.Split(dir)
	switch what % 9 {
	case 0:
		v.write(name, old[:pos]+string([]byte{value})+old[min(pos+1, len(old)):], pos, pos+1)
	case 1:
		v.write(name, old[:pos], pos, len(old))
	case 2:
		n := min(int(value), len(old)-pos)
		v.write(name, old[:pos]+strings.Repeat("\x00", n)+old[pos+n:], pos, pos+n)
	case 3:
		n := min(len(stuff), len(old)-pos)
		v.write(name, old[:pos]+stuff[:n]+old[pos+n:], pos, pos+n)
	case 4:
		v.write(name, stuff, 0, max(len(old), len(stuff)))
	case 5:
		v.touch(name, 0, len(old))
		delete(v.files, name)
	case 6: // a directory gets another name, or lies in another place
		other := nameFor(stuff, value)
		to := places[int(at)%len(places)] + "/" + other
		if place == "" || place == "journal/" || v.taken(to) {
			return
		}
		of := v.ownerOf(dir)
		v.contested[of], v.contested[queue.ID(id)], v.contested[queue.ID(other)] = true, true, true
		v.touched[of] = v.touched[of] || foreign(other) // which is left alone
		v.owner[to] = of
		delete(v.owner, dir)
		for file, text := range maps.Clone(v.files) {
			if rest, ok := strings.CutPrefix(file, dir+"/"); ok {
				delete(v.files, file)
				v.files[to+"/"+rest] = text
			}
		}
	case 7: // a directory is copied to another place
		to := places[int(at)%len(places)] + "/" + id
		if place == "" || place == "journal/" || v.taken(to) {
			return
		}
		v.contested[v.ownerOf(dir)], v.contested[queue.ID(id)] = true, true
		v.owner[to] = v.ownerOf(dir)
		for file, text := range maps.Clone(v.files) {
			if rest, ok := strings.CutPrefix(file, dir+"/"); ok {
				v.files[to+"/"+rest] = text
			}
		}
	case 8: // a file or an empty directory comes
		other := nameFor(stuff, value)
		to := [...]string{"committed", "processing", "incoming", "dead", "trash", "journal"}[int(at)%6] + "/" + other
		if v.taken(to) {
			return
		}
		v.contested[queue.ID(other)] = true
		if value%2 == 0 {
			to += "/"
		}
		v.files[to] = stuff
		if base == "raw.eml" { // and is one of a message
			v.files[strings.TrimSuffix(to, "/")+"/raw.eml"] = old
			delete(v.files, strings.TrimSuffix(to, "/"))
		}
	}
}

var places = []string{"committed", "processing", "incoming", "dead"}

// nameFor is a name that a file can have.
func nameFor(stuff string, value byte) string {
	stuff = strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '_'
		}
		return r
	}, stuff)
	known := []string{"C1", "J1", "J6", "D1", "C1.2", "00000001.seg", "00000003.seg", "lost+found", ".nfs0001", "raw.eml", ""}
	name := known[int(value)%len(known)]
	if name == "" {
		name = stuff[:min(len(stuff), 255)]
	}
	if name == "" || name == "." || name == ".." {
		name = "X"
	}
	return name
}

func (v *vandal) taken(name string) bool {
	for file := range v.files {
		if file == name || strings.HasPrefix(file, name+"/") {
			return true
		}
	}
	return false
}

func (v *vandal) write(name, text string, from, to int) {
	if text == v.files[name] {
		return
	}
	v.touch(name, from, to)
	v.files[name] = text
}

// ownerOf is the message that a directory was made for.
func (v *vandal) ownerOf(dir string) queue.ID {
	if of, ok := v.owner[dir]; ok {
		return of
	}
	return queue.ID(path.Base(dir))
}

// touch notes that octets of a file are not what they were.
func (v *vandal) touch(name string, from, to int) {
	dir, _ := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if place, _ := path.Split(dir); place != "" {
		v.touched[v.ownerOf(dir)] = true
		return
	}
	if from < firstRecord {
		v.any = true // the headers: each is good for the other, but both may go
	}
	for id, spans := range v.records {
		for _, s := range spans {
			if s.file == name && from < s.to && to > s.from {
				v.touched[id] = true
			}
		}
	}
}

// build makes the file system.
func (v *vandal) build(t *testing.T) *crashfs.FS {
	t.Helper()
	mem := crashfs.New()
	made := map[string]bool{"": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if dir = strings.TrimSuffix(dir, "/"); made[dir] {
			return
		}
		made[dir] = true
		mkdir(path.Dir(dir))
		must(t, mem.Mkdir(dir))
	}
	made["/"], made["."] = true, true
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		full := "/spool/" + name
		if strings.HasSuffix(name, "/") {
			mkdir(full)
			continue
		}
		mkdir(path.Dir(full))
		f, err := mem.Create(full)
		must(t, err)
		_, err = io.WriteString(f, v.files[name])
		must(t, err)
		must(t, f.Close())
	}
	return mem
}

// FuzzSpool damages a spool and opens it: that never panics, never fails, never
// delivers a part of a message or other octets, and loses nothing that is whole.
// What was delivered is not there when it is opened again.
func FuzzSpool(f *testing.F) {
	for what := range byte(9) {
		for which := range byte(16) {
			f.Add([]byte{what, which, 0x10, 0x20, which}, "J1")
		}
		f.Add([]byte{what, 12, 0x10, 0x40, 9, what, 13, 0x11, 0x00, 77, 5, 3, 0, 0, 0}, `{"format":1}`)
	}
	f.Add([]byte{6, 1, 0, 0, 10}, "a name\nof two lines\x1b[2J")
	f.Add([]byte{}, "")
	for from := range byte(4) { // a message in two places, with another text
		f.Add([]byte{7, 0, 0, from, 0, 4, 1, 0, 0, 0}, "Subject: another\r\n")
	}
	f.Fuzz(func(t *testing.T, acts []byte, stuff string) {
		if len(stuff) > 2000 || len(acts) > 100 {
			return
		}
		before := runtime.NumGoroutine()
		v := newEstate().vandal()
		for ; len(acts) >= 5; acts = acts[5:] {
			v.act(acts[0], acts[1], uint16(acts[2])<<8|uint16(acts[3]), acts[4], stuff)
		}
		mem := v.build(t)
		v.check(t, mem)
		for wait := time.Now(); runtime.NumGoroutine() > before; {
			if time.Since(wait) > 10*time.Second {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
			runtime.Gosched()
		}
	})
}

// check opens the spool, takes out all that there is, and opens it again.
func (v *vandal) check(t *testing.T, mem *crashfs.FS) {
	t.Helper()
	o := &Options{MessageSize: -1, DeadSweep: -1, NoFsync: true, segment: estateSegment, restless: -1, fs: mem}
	q, err := Open("/spool", o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	seen := v.drain(t, q)
	rest, kept := make(map[queue.ID]queue.Entry), make(map[string]bool)
	for e, err := range q.List(context.Background(), queue.Filter{}) {
		must(t, err)
		rest[e.ID] = e
		if (e.State == queue.StateDead) != (e.Dead != nil) || e.Dead != nil && e.Dead.Kind == "" {
			t.Errorf("%+v", e)
		}
		kept[v.read(q, e.ID)] = true
	}
	for id, text := range v.texts {
		if v.touched[id] || v.any && v.records[id] != nil {
			continue
		}
		e, left := rest[id]
		if v.contested[id] {
			if where := v.where[id]; where != "gone" && where != "incomplete" && !v.delivered[text] && !kept[text] {
				t.Errorf("%s is whole and is nowhere: %+v", id, e)
			}
			continue
		}
		switch v.where[id] {
		case "gone":
			if left || seen[id] {
				t.Errorf("%s was no more, and is: delivered %t, %+v", id, seen[id], e)
			}
		case "dead":
			if got := v.read(q, id); !left || e.State != queue.StateDead || got != text {
				t.Errorf("%s is %q, %+v", id, got, e)
			}
		case "incomplete":
			if !left || e.Dead == nil || e.Dead.Reason != incomplete {
				t.Errorf("%s is %+v", id, e)
			}
		default:
			if !seen[id] {
				t.Errorf("%s is whole and is lost: %+v", id, e)
			}
		}
	}
	must(t, q.Close())
	q, err = Open("/spool", o)
	if err != nil {
		t.Fatalf("Open again: %v", err)
	}
	for id := range v.drain(t, q) {
		if seen[id] {
			t.Errorf("%s is delivered again", id)
		}
	}
	must(t, q.Close())
}

// read is the text of a message, or why there is none: a dead letter may lack it.
func (v *vandal) read(q *Queue, id queue.ID) string {
	r, err := q.Open(context.Background(), id)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// drain delivers all that is ready.
func (v *vandal) drain(t *testing.T, q *Queue) map[queue.ID]bool {
	t.Helper()
	seen := make(map[queue.ID]bool)
	for q.Depth().Ready > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan struct{})
		go func() { // the last may be set aside, and then there is none to lease
			defer close(over)
			for d := q.Depth(); d.Ready+d.Leased > 0 && ctx.Err() == nil; d = q.Depth() {
				runtime.Gosched()
			}
			cancel()
		}()
		l, err := q.Lease(ctx)
		if err != nil {
			<-over
			continue
		}
		cancel()
		<-over
		m := l.Message()
		if seen[m.ID] {
			t.Errorf("%s is delivered twice", m.ID)
		}
		seen[m.ID] = true
		v.deliver(t, l.(*lease).r, m)
		must(t, l.Ack(context.Background()))
	}
	return seen
}

// deliver looks at a message as an adapter does. What is read is what a record
// makes of a text: one of those that there were, or one that came with the
// record, whole.
func (v *vandal) deliver(t *testing.T, r *record, m *queue.Message) {
	t.Helper()
	if len(m.Envelope.RcptTo) == 0 {
		t.Errorf("%s is for nobody", m.ID)
	}
	body, err := m.Open()
	must(t, err)
	got, err := io.ReadAll(body)
	must(t, err)
	must(t, body.Close())
	if int64(len(got)) != m.Size {
		t.Errorf("%s has %d octets in place of %d", m.ID, len(got), m.Size)
	}
	v.delivered[string(got)] = true
	made := func(text string) string {
		out := string(r.Prepend)
		at := int64(0)
		for _, skip := range r.Skip {
			out += text[at:skip.Start]
			at = skip.End
		}
		return out + text[at:]
	}
	whole, known := v.texts[m.ID]
	if known && checkSkip(r.Skip, int64(len(whole))) == nil && string(got) == made(whole) {
		return
	}
	if !v.touched[m.ID] && !v.contested[m.ID] && known {
		t.Errorf("%s is delivered as %q, %q was sent", m.ID, got, made(whole))
	}
	// A record that was changed so that it fits another text, or has no checksum.
	if r.hasCRC && len(r.Skip) == 0 && crc32.Checksum(got[len(r.Prepend):], castagnoli) != r.crc {
		t.Errorf("%s is delivered as %q, which has not the checksum of its record", m.ID, got)
	}
}

// TestTheEstateIsWhole: FuzzSpool would prove nothing if what it damages were
// damaged before.
func TestTheEstateIsWhole(t *testing.T) {
	t.Parallel()
	v := newEstate().vandal()
	mem := v.build(t)
	q, err := Open("/spool", &Options{MessageSize: -1, DeadSweep: -1, NoFsync: true, segment: estateSegment, restless: -1, fs: mem})
	must(t, err)
	defer q.Close()
	got := fmt.Sprint(slices.Sorted(maps.Keys(v.drain(t, q))))
	if want := "[C1 C2 I1 J1 J3 J4 J6 J7 P1]"; got != want {
		t.Errorf("delivered %s, want %s", got, want)
	}
}
