package diskqueue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/vfs/crashfs"
	"github.com/incoming-mx/incoming/queue"
)

const testSalt = 0x1122334455667788

func oneFrame(salt uint64, durable uint32, k kind, id queue.ID, meta, text string) []byte {
	b := beginFrame(nil, k, salt, durable, id, []byte(meta), frameLen(id, int64(len(meta)), int64(len(text))))
	return endFrame(append(b, text...), 0)
}

// segmentOf is a segment's octets with records in it.
func segmentOf(size int, frames ...[]byte) []byte {
	b := make([]byte, size)
	copy(b, (&segmentHeader{size: int64(size), seq: 1, salt: testSalt}).encode())
	copy(b[firstRecord:], bytes.Join(frames, nil))
	return b
}

func TestAFrameIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", strings.Repeat("y", 7), strings.Repeat("z", 5000)} {
		for k := kindMessage; k < endOfKinds; k++ {
			b := oneFrame(testSalt, 4711, k, "ID", "meta", text)
			if len(b)%frameAlign != 0 {
				t.Errorf("%d octets", len(b))
			}
			h, ok := decodeFrameHeader(b, testSalt)
			f, whole := decodeFrame(b, h)
			if !ok || !whole || f.kind != k || f.id != "ID" || string(f.meta) != "meta" || string(f.text) != text || f.durable != 4711 {
				t.Errorf("%v %v %+v", ok, whole, f)
			}
			if _, ok := decodeFrameHeader(b, testSalt+1); ok {
				t.Error("read in another life")
			}
		}
	}
	if _, ok := decodeFrameHeader(oneFrame(testSalt, 0, endOfKinds, "ID", "", ""), testSalt); ok {
		t.Error("a kind that there is not")
	}
}

func TestAFooterIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		var want []footed
		for i := range n {
			want = append(want, footed{kind: kind(i + 1), id: queue.ID(strings.Repeat("i", i*100)), off: uint32(i), n: uint32(2 * i), received: -int64(i), next: nobodyOwed})
		}
		b := encodeFooter(want, testSalt)
		tr, ok := decodeTrailer(b[len(b)-trailerSize:], testSalt)
		if !ok {
			t.Fatal("no trailer")
		}
		got, ok := decodeFooter(b[:len(b)-trailerSize], tr)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, ok := decodeTrailer(b[len(b)-trailerSize:], testSalt+1); ok {
			t.Error("the trailer of another life is taken")
		}
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 4
			tr, ok := decodeTrailer(bad[len(b)-trailerSize:], testSalt)
			if ok {
				_, ok = decodeFooter(bad[:len(b)-trailerSize], tr)
			}
			if ok && i < len(b)-trailerSize+36 { // the octets behind are not used
				t.Errorf("octet %d of %d damaged, and taken", i, len(b))
			}
		}
	}
}

// TestAHeaderIsThereTwice: any damage to one of them is made good by the other,
// and a life that never quite began or has ended is none.
func TestAHeaderIsThereTwice(t *testing.T) {
	t.Parallel()
	h := segmentHeader{size: 1 << 20, seq: 3, salt: testSalt}
	whole := h.encode()
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		if got, state := decodeHeaders(bad); state != headerLive || got != h {
			t.Errorf("octet %d damaged: %v %+v", i, state, got)
		}
	}
	for n := range whole {
		torn := append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)
		if got, state := decodeHeaders(torn); state != headerFree && (state != headerLive || got != h) {
			t.Errorf("torn after %d: %v %+v", n, state, got)
		}
		ended := append(make([]byte, n), whole[n:]...)
		if got, state := decodeHeaders(ended); n > secondHeader+8 && state == headerLive || state == headerLive && got != h {
			t.Errorf("its end torn after %d: %v %+v", n, state, got)
		}
	}
	both := bytes.Clone(whole)
	both[20], both[secondHeader+21] = 0xff, 0xff
	if _, state := decodeHeaders(both); state != headerBroken {
		t.Errorf("both damaged: %v", state)
	}
	later := bytes.Clone(whole)
	for _, at := range []int{0, secondHeader} {
		later[at+8] = journalVersion + 1
		binary.LittleEndian.PutUint32(later[at+60:], crc32.Checksum(later[at:at+60], castagnoli))
	}
	if _, state := decodeHeaders(later); state != headerLater {
		t.Errorf("of a later version: %v", state)
	}
}

func TestAScanGoesOnBehindWhatIsBad(t *testing.T) {
	t.Parallel()
	a := oneFrame(testSalt, 0, kindMessage, "A", "meta", "first text")
	b := oneFrame(testSalt, 4096, kindMessage, "B", "meta", "second text")
	c := oneFrame(testSalt, uint32(firstRecord+len(a)+len(b)), kindMessage, "C", "meta", "third text")
	stale := oneFrame(testSalt+1, 0, kindMessage, "OLD", "meta", "of an earlier life")
	other := oneFrame(testSalt-1, 0, kindMessage, "EVIL", "meta", "sent by somebody who knows another salt")
	letter := oneFrame(testSalt, 0, kindMessage, "D", "meta", string(other)+string(other[3:]))
	flip := func(b []byte, at int) []byte {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		return bad
	}
	for _, tc := range []struct {
		name   string
		frames [][]byte
		whole  string
		bad    string // IDs; ? is one that cannot be told; ! is behind what was durable
	}{
		{"nothing", nil, "", ""},
		{"three", [][]byte{a, b, c}, "A B C", ""},
		{"a text damaged that was synced", [][]byte{a, flip(b, len(b)-9), c}, "A C", "B!"},
		{"a text damaged that perhaps was not", [][]byte{a, b, flip(c, len(c)-9)}, "A B", "C"},
		{"a frame damaged that was synced", [][]byte{a, flip(b, 5), c}, "A C", "?!"},
		{"a salt damaged", [][]byte{a, flip(b, 9), c}, "A C", "B!"},
		{"the last frame damaged", [][]byte{a, b, flip(c, 5)}, "A B", "?"},
		{"the last salt damaged", [][]byte{a, b, flip(c, 9)}, "A B", "C"},
		{"the last one torn in its frame", [][]byte{a, b, c[:20]}, "A B", "?"},
		{"the last one torn before its salt", [][]byte{a, b, c[:12]}, "A B", ""},
		{"an ack torn in its frame", [][]byte{a, oneFrame(testSalt, 0, kindRemoved, "A", "12345678", "")[:29]}, "A", ""},
		{"of an earlier life behind", [][]byte{a, stale, stale}, "A", ""},
		{"of an earlier life between", [][]byte{a, stale, b}, "A B", "?"},
		{"imitations of another life in a text", [][]byte{a, letter, b}, "A D B", ""},
		{"imitations of another life in a damaged text", [][]byte{a, flip(letter, 7), b}, "A B", "?"},
	} {
		s := scanFrames(segmentOf(16<<10, tc.frames...), testSalt)
		var whole, bad []string
		for _, f := range s.whole {
			whole = append(whole, string(f.id))
		}
		for _, f := range s.bad {
			id := string(f.id)
			if id == "" {
				id = "?"
			}
			if f.durable {
				id += "!"
			}
			bad = append(bad, id)
		}
		if got := strings.Join(whole, " "); got != tc.whole {
			t.Errorf("%s: found %q, want %q", tc.name, got, tc.whole)
		}
		if got := strings.Join(bad, " "); got != tc.bad {
			t.Errorf("%s: bad are %q, want %q", tc.name, got, tc.bad)
		}
	}
}

func FuzzScan(f *testing.F) {
	a := oneFrame(testSalt, 0, kindMessage, "A", `{"format":1}`, "text")
	f.Add(a, uint16(0))
	f.Add(append(a, oneFrame(testSalt, 4096, kindRemoved, "A", "12345678", "")...), uint16(4))
	f.Add(append(a, encodeFooter([]footed{{kind: kindMessage, id: "A", off: 4096, n: uint32(len(a))}}, testSalt)...), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, flip uint16) {
		mine := oneFrame(testSalt, 0, kindMessage, "MINE", "meta", "text")
		if len(b) > 0 {
			b[int(flip)%len(b)] ^= byte(flip >> 8)
		}
		segment := segmentOf(firstRecord+len(mine)+(len(b)+7)&^7, mine, b)
		s := scanFrames(segment, testSalt)
		if len(s.whole) == 0 || s.whole[0].id != "MINE" {
			t.Fatal("what is whole is not found")
		}
		for _, found := range s.whole {
			again := segment[found.off : found.off+found.n]
			if binary.LittleEndian.Uint64(again[8:]) != testSalt || crc32.Checksum(again[4:], castagnoli) != binary.LittleEndian.Uint32(again) {
				t.Errorf("%+v is no record of this life", found)
			}
		}
		for _, bad := range s.bad {
			if bad.off < firstRecord || bad.off+bad.n > int64(len(segment)) {
				t.Errorf("%+v", bad)
			}
		}
		if tr, ok := decodeTrailer(b, testSalt); ok {
			decodeFooter(b[:min(tr.length, int64(len(b)))], tr)
		}
		decodeFooter(b, trailer{length: int64(len(b)), count: uint64(flip), crc: crc32.Checksum(b, castagnoli)})
		decodeHeaders(append(b, make([]byte, headersSize)...))
	})
}

// spoiled is a journal of one segment with some messages in it, and what its
// file holds.
type spoiled struct {
	texts  map[queue.ID]string
	octets []byte
	used   int // octets of records
}

func spoil(t *testing.T, sealed bool) *spoiled {
	t.Helper()
	s := &spoiled{texts: make(map[queue.ID]string)}
	mem := crashfs.New()
	q := &testQueue{Queue: mustOpen(t, "/spool", spoiledOptions(mem)), t: t, events: new(events)}
	for n := range 4 {
		text := fmt.Sprintf("%s%d\r\n", letter, n)
		s.texts[q.put(text)] = text
	}
	l := q.next()
	must(t, l.Settle(context.Background(), []queue.Outcome{{Recipient: "other@y.example"}}))
	must(t, l.Retry(context.Background(), time.Time{}, errors.New("later")))
	text := letter + "the last"
	s.texts[q.put(text)] = text
	s.used = int(q.journal.active.off)
	must(t, q.Close())
	f, err := mem.Open("/spool/journal/00000001.seg")
	must(t, err)
	s.octets, err = io.ReadAll(f)
	must(t, err)
	if !sealed {
		clear(s.octets[len(s.octets)-trailerSize:])
	}
	return s
}

func spoiledOptions(fs *crashfs.FS) *Options {
	return &Options{MessageSize: -1, DeadSweep: -1, NoFsync: true, segment: 12 << 10, restless: -1, fs: fs}
}

// open opens a spool whose journal has one file, with those octets.
func (s *spoiled) open(t *testing.T, octets []byte) (*testQueue, *events) {
	t.Helper()
	mem := crashfs.New()
	must(t, mem.Mkdir("/spool"))
	must(t, mem.Mkdir("/spool/journal"))
	f, err := mem.Create("/spool/journal/00000001.seg")
	must(t, err)
	_, err = f.Write(octets)
	must(t, errors.Join(err, f.Sync(), f.Close()))
	o, ev := spoiledOptions(mem), new(events)
	o.Hooks = ev.hooks()
	return &testQueue{Queue: mustOpen(t, "/spool", o), t: t, events: ev}, ev
}

// check takes out all that there is: each message whole and once, or dead.
func (s *spoiled) check(t *testing.T, what string, octets []byte) (dead int) {
	t.Helper()
	q, _ := s.open(t, octets)
	defer q.Close()
	seen := make(map[queue.ID]bool)
	for q.Depth().Ready+q.Depth().Waiting > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		stop := make(chan struct{})
		go func() { // the last may be set aside, and then there is none to lease
			defer cancel()
			for q.Depth().Live() > 0 {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		l, err := q.Lease(ctx)
		close(stop)
		<-ctx.Done()
		if err != nil {
			break
		}
		m := l.Message()
		r, err := m.Open()
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		if want, sent := s.texts[m.ID]; !sent || string(text) != want || seen[m.ID] || m.Envelope.RcptTo[0].Address != "b@y.example" {
			t.Errorf("%s: %s is delivered as %q to %v", what, m.ID, text, m.Envelope.RcptTo)
		}
		seen[m.ID] = true
		must(t, l.Ack(context.Background()))
	}
	told := 0
	for e, err := range q.List(context.Background(), queue.Filter{}) {
		must(t, err)
		if e.Dead == nil || e.Dead.Kind != queue.KindCorrupt || e.Dead.Reason == "" {
			t.Errorf("%s: %+v", what, e)
		}
		if seen[e.ID] {
			t.Errorf("%s: %s is dead and was delivered", what, e.ID)
		}
		dead++
		if _, sent := s.texts[e.ID]; sent || strings.HasPrefix(string(e.ID), "journal-") {
			told++
		}
	}
	if missing := len(s.texts) - len(seen); missing > 1 || missing > told {
		t.Errorf("%s: %d messages are missing, %d dead letters tell of one", what, missing, told)
	}
	return dead
}

// TestABitFlippedAnywhereIsOneMessageAtMost, in a segment that is sealed and in
// one that is not. Q07.
func TestABitFlippedAnywhereIsOneMessageAtMost(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		s := spoil(t, sealed)
		if n := s.check(t, "undamaged", s.octets); n != 0 {
			t.Fatalf("%d dead letters of a segment that is whole", n)
		}
		dead := 0
		for at := 0; at < len(s.octets); at += 3 {
			if at >= headersSize && at < firstRecord || at > s.used && at < len(s.octets)-1000 {
				continue // not in use
			}
			octets := bytes.Clone(s.octets)
			octets[at] ^= 1 << (at % 8)
			dead += s.check(t, fmt.Sprintf("sealed: %v, a bit of octet %d flipped", sealed, at), octets)
		}
		t.Logf("sealed: %v: %d flips were seen", sealed, dead)
		if dead < (s.used-firstRecord)/6 {
			t.Errorf("sealed: %v: only %d flips were seen", sealed, dead)
		}
	}
}

// TestATruncatedSegmentLosesWhatWasCutOff and nothing else.
func TestATruncatedSegmentLosesWhatWasCutOff(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		s := spoil(t, sealed)
		for n := s.used; n < len(s.octets); n += 512 {
			q, ev := s.open(t, s.octets[:n])
			if got := q.Depth().Live(); got != len(s.texts) {
				t.Errorf("cut to %d: %d messages", n, got)
			}
			if ev.count("00000001.seg", fmt.Sprintf("ends at %d", n)) != 1 {
				t.Errorf("cut to %d: nobody is told: %v", n, ev.spool())
			}
			for id, text := range s.texts {
				if got := q.textOf(id); got != text {
					t.Errorf("cut to %d: %s is %q", n, id, got)
				}
			}
			must(t, q.Close())
		}
		q, _ := s.open(t, s.octets[:s.used-100])
		if got := q.Depth(); got.Live() != len(s.texts)-1 || got.Dead != 1 {
			t.Errorf("the last message cut: %+v", got)
		}
		must(t, q.Close())
	}
}

// Q07.
func TestADamagedSegmentIsSetAside(t *testing.T) {
	t.Parallel()
	s := spoil(t, true)
	octets := bytes.Clone(s.octets)
	octets[20]++
	octets[secondHeader+20]++
	q, _ := s.open(t, octets)
	e := q.get("journal-00000001.2")
	if e.Dead == nil || e.Dead.Kind != queue.KindCorrupt || !strings.Contains(e.Dead.Reason, "header") {
		t.Errorf("%+v", e)
	}
	f, err := q.disk.fs.Open("/spool/dead/journal-00000001.2/segment")
	must(t, err)
	kept, err := io.ReadAll(f)
	must(t, err)
	if !bytes.Equal(kept, octets) {
		t.Error("the file is not kept as it was")
	}
	q.put(letter)
	must(t, q.Close())
}

func TestASegmentOfALaterVersionKeepsTheSpoolShut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "journal"), 0o700))
	b := segmentOf(12 << 10)
	for _, at := range []int{0, secondHeader} {
		b[at+8] = journalVersion + 1
		binary.LittleEndian.PutUint32(b[at+60:], crc32.Checksum(b[at:at+60], castagnoli))
	}
	must(t, os.WriteFile(filepath.Join(dir, "journal", "00000007.seg"), b, 0o600))
	for range 2 { // the failure leaves no lock behind
		if _, err := Open(dir, small()); err == nil || !strings.Contains(err.Error(), "00000007.seg") || !strings.Contains(err.Error(), "later version") {
			t.Errorf("Open: %v", err)
		}
	}
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "00000007.seg") {
		t.Errorf("Inspect: %v", err)
	}
	left, err := os.ReadFile(filepath.Join(dir, "journal", "00000007.seg"))
	must(t, err)
	if !bytes.Equal(left, b) {
		t.Error("it was changed")
	}
}

// Q24.
func TestWhatOthersLeaveInTheJournalIsReportedAndLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree{"journal/.DS_Store": "x", "journal/notes.txt": "x", "journal/1.seg": "x", "journal/00000009.seg/": "", "journal/-0000001.seg": "x"}.in(t, dir)
	q := openTest(t, dir, Options{segment: 12 << 10, restless: -1})
	for _, name := range []string{".DS_Store", "notes.txt", "1.seg", "00000009.seg", "-0000001.seg"} {
		if q.events.count(name, "not ours") != 1 {
			t.Errorf("nobody was told of %s", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "journal", name)); err != nil {
			t.Error(err)
		}
	}
	q.put(letter)
}

// TestStaleRecordsAreNotFound: a segment that is used again, and holds less than
// before, when its process is killed.
func TestStaleRecordsAreNotFound(t *testing.T) {
	t.Parallel()
	s := spoil(t, false)
	fresh := segmentOf(len(s.octets))
	copy(s.octets, fresh[:headersSize])
	mine := oneFrame(testSalt, 0, kindMessage, "MINE", meta(letter, keys{"id": "MINE"}), letter)
	copy(s.octets[firstRecord:], mine)
	s.texts = map[queue.ID]string{"MINE": letter}
	if n := s.check(t, "stale records behind a message", s.octets); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}
