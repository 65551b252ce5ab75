package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/incoming-mx/incoming/telemetry"
)

var update = flag.Bool("update", false, "write the goldens")

// lines is a log that is kept, without times.
type lines struct{ bytes.Buffer }

func (l *lines) text(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime}))
}

func (l *lines) json(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime}))
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

func (l *lines) take() string {
	defer l.Reset()
	return strings.TrimSuffix(l.String(), "\n")
}

// story is one event of each sort, as they might come.
func story(h telemetry.Hooks) {
	s := telemetry.Session{ID: "k3v9", Listener: "mx", Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Hello: "c.example"}
	early := telemetry.Session{ID: "k3v8", Listener: "mx", Peer: netip.MustParseAddrPort("[2001:db8::1]:99")}
	telemetry.Emit(h.SessionConnect, telemetry.SessionConnect{Session: early})
	telemetry.Emit(h.SessionRejected, telemetry.SessionRejected{Session: early, Stage: "connect", Code: 421,
		Reply: "421 4.7.0 Too many connections from your address", Reason: "past limits.connections_per_ip"})
	telemetry.Emit(h.LimitHit, telemetry.LimitHit{Session: s, Limit: "limits.recipients", Use: 51, Max: 50})
	telemetry.Emit(h.SessionAccepted, telemetry.SessionAccepted{Session: early})
	telemetry.Emit(h.SessionDialogue, telemetry.SessionDialogue{Session: s, FromPeer: true, Line: "MAIL FROM:<a@x.example> SIZE=5"})
	telemetry.Emit(h.SessionDialogue, telemetry.SessionDialogue{Session: s, Line: "250 2.1.0 Ok"})
	telemetry.Emit(h.SessionDialogue, telemetry.SessionDialogue{Session: s, FromPeer: true, Line: "auth PLAIN AGEAc2VjcmV0"})
	telemetry.Emit(h.TLSHandshake, telemetry.TLSHandshake{Session: s, Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.test", Duration: 2 * time.Millisecond})
	telemetry.Emit(h.TLSHandshake, telemetry.TLSHandshake{Session: s, Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.test", Duration: 2 * time.Millisecond, Err: errors.New("tls: unknown certificate"), Reason: "alert"})
	telemetry.Emit(h.PolicyDecision, telemetry.PolicyDecision{Session: s, Policy: "rate_limit", Stage: "mail", Decision: "tempfail", Reason: "more than 5 in 1m0s", Duration: 3 * time.Microsecond, Because: telemetry.Because{Ref: "8KQ2M9XD", Rule: "client", Took: 3 * time.Microsecond, Inputs: []slog.Attr{slog.Int("count", 5)}}})
	telemetry.Emit(h.PolicyDecision, telemetry.PolicyDecision{Session: s, ID: "01J9Z3K0T4X6Y8N2QW5R7B1C3D", Policy: "av", Stage: "message", Decision: "quarantine", Reason: "looks odd", Duration: time.Second, Because: telemetry.Because{Took: time.Second}})
	telemetry.Emit(h.PolicyDecision, telemetry.PolicyDecision{Session: s, Policy: "av", Stage: "message", Decision: "error", Reason: "no answer in 30s", Duration: 30 * time.Second, Because: telemetry.Because{Ref: "9KQ2M9XD", Took: 30 * time.Second}})
	telemetry.Emit(h.SessionRejected, telemetry.SessionRejected{Session: s, Stage: "rcpt", Code: 550, Reply: "550 5.1.1 <b@y.example> is nobody here",
		Reason: "no user b@y.example, asked 2 lists", Policy: "recipient", MailFrom: "a@x.example", Rcpt: "b@y.example",
		Because: telemetry.Because{Ref: "7KQ2M9XD", Rule: "unknown", Took: 3 * time.Millisecond, Inputs: []slog.Attr{
			slog.String("rcpt", "b@y.example"), slog.String("asked", "b@y.example\nin 2 lists"), slog.Int("lists", 2), slog.Duration("age", time.Second)}}})
	telemetry.Emit(h.PolicyDecision, telemetry.PolicyDecision{Session: s, Policy: "dnsbl", Stage: "connect", Decision: "reject", Reason: "listed", Observed: true,
		Because: telemetry.Because{Rule: "zen", Took: time.Millisecond}})
	telemetry.Emit(h.SessionRejected, telemetry.SessionRejected{Session: s, Stage: "data", Code: 421, Reply: "421 4.3.2 Try again later", Reason: "queue: full", MailFrom: "<>"})
	telemetry.Emit(h.SmugglingBlocked, telemetry.SmugglingBlocked{Session: s, What: "bare_lf"})
	telemetry.Emit(h.MessageQueued, telemetry.MessageQueued{Session: s, ID: "01J00000000000000000000000", MailFrom: "a@x.example", Rcpts: []string{"b@y.example", `"c d"@y.example`},
		Size: 4096, MessageID: "<7@x.example>", TLS: "TLS 1.3", Depth: 3, Commit: 4 * time.Millisecond, Duration: 1234567 * time.Nanosecond})
	telemetry.Emit(h.MessageQueued, telemetry.MessageQueued{ID: "01J00000000000000000000001", Rcpts: []string{"b@y.example"}, Size: 1})
	telemetry.Emit(h.MessageDiscarded, telemetry.MessageDiscarded{Session: s, ID: "01J00000000000000000000002", Policy: "bin", MailFrom: "a@x.example", Rcpts: []string{"b@y.example"}, Size: 5})
	telemetry.Emit(h.MessageEnqueueError, telemetry.MessageEnqueueError{Session: s, Reason: "full", Err: errors.New("queue: full"), Size: 7})
	telemetry.Emit(h.MessageEnqueueError, telemetry.MessageEnqueueError{Session: s, ID: "01J00000000000000000000003", Reason: "sick", Err: errors.New("sync: input/output error"), Size: 7})
	telemetry.Emit(h.SessionClosed, telemetry.SessionClosed{Session: s, Reason: "timeout", Err: errors.New("i/o timeout"), Duration: 5 * time.Minute, Messages: 1, BytesIn: 900, BytesOut: 300})
	telemetry.Emit(h.SessionClosed, telemetry.SessionClosed{Session: s, Reason: "write", Err: &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}, Duration: 5 * time.Minute, BytesIn: 60000})
	telemetry.Emit(h.DeliveryResult, telemetry.DeliveryResult{ID: "01J00000000000000000000000", Attempt: 1, Outcome: "acked", Duration: 12 * time.Millisecond, Age: time.Second, MailFrom: "a@x.example", Rcpts: []string{"b@y.example"}})
	telemetry.Emit(h.DeliveryResult, telemetry.DeliveryResult{ID: "01J00000000000000000000001", Attempt: 2, Outcome: "retry", Reason: errors.New("panic: b@y.example is gone"), Duration: time.Second,
		Age: time.Minute, Rcpts: []string{"b@y.example"}, Next: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), Panicked: true})
	telemetry.Emit(h.DeliveryHeld, telemetry.DeliveryHeld{Held: true, Failures: 16, Reason: errors.New("connection refused")})
	telemetry.Emit(h.DeliveryHeld, telemetry.DeliveryHeld{})
	telemetry.Emit(h.DeliveryDead, telemetry.DeliveryDead{ID: "01J00000000000000000000001", Kind: "spent", Reason: "too old: no route to b@y.example", Attempt: 9, MailFrom: "a@x.example", Rcpts: []string{"b@y.example"}})
	telemetry.Emit(h.SessionCrowd, telemetry.SessionCrowd{Open: 12, Max: 1000, Peers: 3, Busiest: 9, BusiestMax: 50})
	telemetry.Emit(h.QueueDepth, telemetry.QueueDepth{Ready: 1, Waiting: 2, Leased: 3, Dead: 4, Drafts: 5, OldestAge: time.Minute})
	telemetry.Emit(h.QueueSwept, telemetry.QueueSwept{ID: "01J00000000000000000000001", MailFrom: "a@x.example", Rcpts: []string{"b@y.example"}, Reason: "no", Kind: "rejected", DeadAt: time.Unix(1700000000, 0)})
	telemetry.Emit(h.SpoolError, telemetry.SpoolError{Op: "recover", Path: "spool/committed/x", ID: "x", Err: errors.New("meta.json is missing")})
	telemetry.Emit(h.SpoolError, telemetry.SpoolError{Op: "commit", Path: "spool/committed", Err: errors.New("input/output error"), Sick: true})
	telemetry.Emit(h.SpoolError, telemetry.SpoolError{Op: "probe", Well: true})
	telemetry.Emit(h.SpoolSpace, telemetry.SpoolSpace{Bytes: 1 << 30, Inodes: 4096})
	telemetry.Emit(h.TLSCertificate, telemetry.TLSCertificate{Listener: "mx", Number: 1, File: "cert.pem", Names: []string{"mx.test", "*.x.test"}, NotAfter: time.Unix(1800000000, 0)})
	telemetry.Emit(h.TLSCertificate, telemetry.TLSCertificate{Listener: "mx", Number: 1, File: "cert.pem", Names: []string{"mx.test"}, NotAfter: time.Unix(1800000000, 0), Err: errors.New("key key.pem does not match certificate cert.pem")})
	telemetry.Emit(h.TLSCertificate, telemetry.TLSCertificate{Listener: "mx", Number: 2})
	telemetry.Emit(h.Trouble, telemetry.Trouble{Kind: "certificate", Listener: "mx", Text: "cert.pem cannot be read again", Err: errors.New("no such file")})
	telemetry.Emit(h.Trouble, telemetry.Trouble{Kind: "certificate", Listener: "mx", Text: "cert.pem is in use", Over: true})
	telemetry.Emit(h.Panic, telemetry.Panic{Where: "adapter", ID: "01J00000000000000000000001", Value: errors.New("b@y.example\nis gone"), Stack: []byte("goroutine 1:\nmain.f()\n\t/main.go:7\n")})
}

// The goldens are the lines themselves: keys and levels are what operators'
// tools are built on.
func TestLinesAreThoseOfTheGoldens(t *testing.T) {
	t.Parallel()
	for name, log := range map[string]func(*lines) telemetry.Hooks{
		"full.txt":  func(l *lines) telemetry.Hooks { return New(l.text(slog.LevelDebug), nil) },
		"info.txt":  func(l *lines) telemetry.Hooks { return New(l.text(slog.LevelInfo), nil) },
		"hash.txt":  func(l *lines) telemetry.Hooks { return New(l.text(slog.LevelDebug), &Options{Addresses: Hash}) },
		"none.txt":  func(l *lines) telemetry.Hooks { return New(l.text(slog.LevelDebug), &Options{Addresses: None}) },
		"full.json": func(l *lines) telemetry.Hooks { return New(l.json(slog.LevelDebug), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got lines
			story(log(&got))
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

func TestEveryFactHasALine(t *testing.T) {
	t.Parallel()
	var got lines
	v := reflect.ValueOf(New(got.text(slog.LevelDebug), nil))
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsNil() {
			t.Errorf("%s is not logged", name)
			continue
		}
		v.Field(i).Call([]reflect.Value{reflect.Zero(v.Field(i).Type().In(0))})
		if s := got.take(); s == "" || strings.Contains(s, "\n") {
			t.Errorf("%s: logged %q, want one line", name, s)
		}
	}
}

// At Info a message is one line, a refusal is one, and a delivery's result.
func TestOneLineAnEventAtInfo(t *testing.T) {
	t.Parallel()
	var got lines
	h := New(got.text(slog.LevelInfo), nil)
	h.SessionConnect(telemetry.SessionConnect{})
	h.SessionAccepted(telemetry.SessionAccepted{})
	h.SessionDialogue(telemetry.SessionDialogue{Line: "NOOP"})
	h.LimitHit(telemetry.LimitHit{})
	h.PolicyDecision(telemetry.PolicyDecision{Decision: "reject"})
	h.PolicyDecision(telemetry.PolicyDecision{Decision: "discard"})
	h.TLSHandshake(telemetry.TLSHandshake{})
	h.QueueDepth(telemetry.QueueDepth{})
	h.SessionCrowd(telemetry.SessionCrowd{})
	h.SessionClosed(telemetry.SessionClosed{})
	if s := got.take(); s != "" {
		t.Errorf("logged at Info:\n%s", s)
	}
	h.SessionRejected(telemetry.SessionRejected{Code: 421, Reply: "421 4.4.2 x", Reason: "timeout"})
	if s := got.take(); s != `level=INFO msg=refused reply="421 4.4.2 x" reason=timeout` {
		t.Errorf("a 421: %s", s)
	}
}

func TestNoDialogueMakesNone(t *testing.T) {
	t.Parallel()
	if New(slog.Default(), &Options{NoDialogue: true}).SessionDialogue != nil {
		t.Error("the hook is set")
	}
}

// hostile is what a client may send to fool whoever reads the log.
var hostile = []string{
	"a\nlevel=INFO msg=accepted id=forged",
	"a\r\nb", "a\x00b", "a\x1b[2Jb", "a\x7fb", "a\u0085b",
	"a\u2028b", "a\u2029b", // lines to some
	"a\u202eb", "a\u2066b", "a\u200fb", // turns what follows around
	"a\u200bb", "a\ufeffb", // cannot be seen
	"a\xffb", "a\xc0\xafb", "a\xed\xa0\x80b", // no UTF-8
	`a" level=ERROR msg="b`, `a\`, "a=b c",
}

// A16.
func TestClientTextCannotForgeALine(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		for _, o := range []*Options{nil, {Addresses: Hash}} {
			for name, log := range map[string]func(*lines) *slog.Logger{
				"text": func(l *lines) *slog.Logger { return l.text(slog.LevelDebug) },
				"json": func(l *lines) *slog.Logger { return l.json(slog.LevelDebug) },
			} {
				var got lines
				h := New(log(&got), o)
				s := telemetry.Session{ID: "s", Hello: text}
				h.SessionRejected(telemetry.SessionRejected{Session: s, Reply: text, Reason: text, MailFrom: text, Rcpt: text + "@" + text})
				h.SessionDialogue(telemetry.SessionDialogue{Session: s, Line: text, FromPeer: true})
				h.MessageQueued(telemetry.MessageQueued{Session: s, MailFrom: text, Rcpts: []string{text, text}, MessageID: text})
				h.TLSHandshake(telemetry.TLSHandshake{Session: s, ServerName: text, Err: errors.New(text)})
				h.DeliveryResult(telemetry.DeliveryResult{Reason: errors.New(text), Rcpts: []string{text}})
				h.Panic(telemetry.Panic{Value: text, Stack: []byte(text)})
				checkPlain(t, name, text, got.String(), 6)
			}
		}
	}
}

func checkPlain(t *testing.T, handler, text, log string, want int) {
	t.Helper()
	if got := strings.Count(log, "\n"); got != want {
		t.Errorf("%s: %q makes %d lines, want %d:\n%s", handler, text, got, want, log)
	}
	if !utf8.ValidString(log) {
		t.Errorf("%s: %q makes invalid UTF-8", handler, text)
	}
	for _, r := range strings.ReplaceAll(log, "\n", "") {
		if r < ' ' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u2028\u2029\u202e\u2066\u200f\u200b\ufeff", r) {
			t.Errorf("%s: %q leaves %U in the log", handler, text, r)
		}
	}
	if strings.Contains(log, "\nlevel=INFO msg=accepted id=forged") || strings.Contains(log, `" level=ERROR msg="b`) && handler == "text" && !strings.Contains(log, `\" level=ERROR`) {
		t.Errorf("%s: %q forges:\n%s", handler, text, log)
	}
	if handler != "json" {
		return
	}
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q makes no JSON: %s", text, line)
		}
	}
}

func TestLinesAreBounded(t *testing.T) {
	t.Parallel()
	for n, whole := range map[int]bool{maxText - 1: true, maxText: true, maxText + 1: false} {
		got := clean(strings.Repeat("x", n), maxText)
		if (got == strings.Repeat("x", n)) != whole || !whole && got != strings.Repeat("x", maxText)+fmt.Sprintf("… (%d octets)", n) {
			t.Errorf("%d octets: %q", n, got)
		}
	}
	if got := clean(strings.Repeat("ü", maxText), maxText+1); !strings.HasPrefix(got, strings.Repeat("ü", maxText/2)+"… (") {
		t.Errorf("cut in the middle of a rune: %q", got)
	}
	var got lines
	big := strings.Repeat("\xff", 1<<20)
	h := New(got.text(slog.LevelDebug), nil)
	h.SessionRejected(telemetry.SessionRejected{Session: telemetry.Session{Hello: big}, MailFrom: big, Rcpt: big, Reply: big, Reason: big})
	h.Panic(telemetry.Panic{Value: big, Stack: []byte(big)})
	if n := got.Len(); n > 128<<10 {
		t.Errorf("%d octets of log", n)
	}
}

func TestRecipientsInALineAreBounded(t *testing.T) {
	t.Parallel()
	for n, last := range map[int]string{maxRcpts - 1: "r98@y", maxRcpts: "r99@y", maxRcpts + 1: "and 1 more", 1000: "and 900 more"} {
		var got lines
		var to []string
		for i := range n {
			to = append(to, fmt.Sprintf("r%d@y", i))
		}
		New(got.json(slog.LevelInfo), nil).MessageQueued(telemetry.MessageQueued{Rcpts: to})
		var line struct{ Rcpts []string }
		if err := json.Unmarshal(got.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if l := line.Rcpts; l[len(l)-1] != last || len(l) != min(n, maxRcpts+1) {
			t.Errorf("%d recipients: %d named, last %q", n, len(l), l[len(l)-1])
		}
	}
}

func TestNoAddressGetsByHashAndNone(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Addresses: Hash}, {Addresses: None}, {Addresses: "what"}} {
		var got lines
		story(New(got.text(slog.LevelDebug), &o))
		for _, address := range []string{"a@x.example", "b@y.example", "c d"} {
			if strings.Contains(got.String(), address) {
				t.Errorf("%s: %s is in the log:\n%s", o.Addresses, address, got.String())
			}
		}
	}
}

func TestHashFollowsOneAddress(t *testing.T) {
	t.Parallel()
	line := func(o Options, address string) string {
		var got lines
		New(got.text(slog.LevelInfo), &o).SessionRejected(telemetry.SessionRejected{Rcpt: address})
		return got.take()
	}
	// printf %s b@y.example | sha256sum
	plain := line(Options{Addresses: Hash}, "b@y.example")
	if plain != "level=INFO msg=refused rcpt=e9b7ea18e3de60ce" {
		t.Errorf("got %s", plain)
	}
	if line(Options{Addresses: Hash}, "B@Y.example") != plain {
		t.Error("case makes another hash")
	}
	abroad := line(Options{Addresses: Hash}, "grüße@bücher.example")
	for _, same := range []string{"grüße@xn--bcher-kva.example", "Gru\u0308ße@BU\u0308CHER.example"} {
		if line(Options{Addresses: Hash}, same) != abroad {
			t.Errorf("%s has another hash", same)
		}
	}
	keyed := line(Options{Addresses: Hash, HashKey: []byte("k")}, "b@y.example")
	if keyed == plain || keyed != line(Options{Addresses: Hash, HashKey: []byte("k")}, "b@y.example") {
		t.Errorf("with a key: %s", keyed)
	}
}

// A16, A17.
func TestPasswordsAreNotLogged(t *testing.T) {
	t.Parallel()
	var got lines
	h := New(got.text(slog.LevelDebug), nil)
	for _, l := range []string{"AUTH PLAIN c2VjcmV0", "auth login c2VjcmV0", "Auth\tPLAIN c2VjcmV0", "AUTHc2VjcmV0"} {
		h.SessionDialogue(telemetry.SessionDialogue{FromPeer: true, Line: l})
	}
	if strings.Contains(got.String(), "c2VjcmV0") {
		t.Errorf("logged:\n%s", got.String())
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s, maxText)
		if !utf8.ValidString(got) || len(got) > 10*maxText+30 {
			t.Errorf("%q becomes %q", s, got)
		}
		for _, r := range got {
			if r != '…' && !isPlain(r) {
				t.Errorf("%q leaves %U", s, r)
			}
		}
		for _, a := range []Addresses{Hash, None} {
			lg := &logger{opts: Options{Addresses: a}}
			if len(s) < maxText {
				lg.scrub(s)
			}
		}
	})
}

func isPlain(r rune) bool { return strconv.IsPrint(r) }
