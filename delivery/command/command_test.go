package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/deliverytest"
	"github.com/incoming-mx/incoming/queue"
)

const text = "Subject: caf\xe9\r\n\r\nbare\nlf bare\rcr \x00 end"

// what a child saw.
type seen struct {
	Args, Env []string
	Sum       []byte
	Size      int64
}

// The test's own program is the program run: with "child FILE" it writes down
// what it sees.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		if err := child(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(file string) error {
	h := sha256.New()
	n, err := io.Copy(h, os.Stdin)
	if err != nil {
		return err
	}
	b, err := json.Marshal(seen{Args: os.Args, Env: os.Environ(), Sum: h.Sum(nil), Size: n})
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// runChild delivers m to the child and returns what it saw.
func runChild(t *testing.T, m *queue.Message, args ...string) seen {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "seen")
	a := newAdapter(t, nil, append([]string{self, "child", file}, args...)...)
	if err := a.Deliver(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheMessageIsOnStdinAndTheEnvelopeInVariables(t *testing.T) {
	t.Parallel()
	e := queue.Entry{
		ID: "01J",
		Envelope: queue.Envelope{
			MailFrom: "alice@example.net",
			RcptTo: []queue.Recipient{
				{Address: "bob@example.org", Notify: "NEVER", ORcpt: "rfc822;b@example.org"}, {Address: "grüße@example.org"},
			},
			SMTPUTF8: true, Body: "8BITMIME", Ret: "FULL", EnvID: "e1",
		},
		Origin: queue.Origin{
			ReceivedAt: time.Date(2026, 1, 2, 4, 4, 5, 678e6, time.FixedZone("", 3600)),
			Listener:   "mx", Peer: "192.0.2.1:4711", Hello: "mail.example.net",
			TLS: &queue.TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "mx.example.org"},
		},
		Attempts:   2,
		Facts:      queue.Facts{"spf.result": json.RawMessage(`{"result":"pass"}`), "broken": json.RawMessage(`{x`)},
		Quarantine: "looks\nodd",
		Prepend:    []byte("X-First: 1\r\n"),
	}
	got := runChild(t, message(e, text), "--flag", "two words", "$HOME;`id`")
	slices.Sort(got.Env)
	want := []string{
		"INCOMING_ATTEMPT=3",
		"INCOMING_BODY=8BITMIME",
		`INCOMING_DSN={"ret":"FULL","envid":"e1","recipients":{"bob@example.org":{"notify":"NEVER","orcpt":"rfc822;b@example.org"}}}`,
		`INCOMING_FACTS={"broken":"{x","spf.result":{"result":"pass"}}`,
		"INCOMING_HELLO=mail.example.net",
		"INCOMING_ID=01J",
		"INCOMING_LISTENER=mx",
		"INCOMING_MAIL_FROM=alice@example.net",
		"INCOMING_PEER=192.0.2.1:4711",
		"INCOMING_QUARANTINE=looks?odd",
		"INCOMING_RCPT_COUNT=2",
		"INCOMING_RCPT_TO=bob@example.org\ngrüße@example.org",
		"INCOMING_RECEIVED_AT=2026-01-02T03:04:05.678Z",
		fmt.Sprint("INCOMING_SIZE=", len("X-First: 1\r\n"+text)),
		"INCOMING_SMTPUTF8=1",
		"INCOMING_TLS=TLS 1.3",
		"INCOMING_TLS_CIPHER=TLS_AES_128_GCM_SHA256",
		"INCOMING_TLS_SERVER_NAME=mx.example.org",
		"INCOMING_VERSION=1",
		"PATH=" + DefaultPath,
	}
	if !slices.Equal(got.Env, want) {
		t.Errorf("the environment is\n%q, want\n%q", got.Env, want)
	}
	if !slices.Equal(got.Args[3:], []string{"--flag", "two words", "$HOME;`id`"}) {
		t.Errorf("the arguments are %q", got.Args)
	}
	if sum := sha256.Sum256([]byte("X-First: 1\r\n" + text)); !bytes.Equal(got.Sum, sum[:]) {
		t.Errorf("%d octets came, not those of the message", got.Size)
	}
}

func TestTheBarestMessageHasEveryVariable(t *testing.T) {
	t.Parallel()
	got := runChild(t, message(queue.Entry{ID: "A"}, ""))
	for _, want := range []string{"INCOMING_MAIL_FROM=", "INCOMING_RCPT_TO=", "INCOMING_RCPT_COUNT=0", "INCOMING_TLS=",
		"INCOMING_DSN=", "INCOMING_FACTS={}", "INCOMING_QUARANTINE=", "INCOMING_SMTPUTF8=0", "INCOMING_SIZE=0", "INCOMING_ATTEMPT=1"} {
		if !slices.Contains(got.Env, want) {
			t.Errorf("no %s in %q", want, got.Env)
		}
	}
	if len(got.Env) != 20 || got.Size != 0 {
		t.Errorf("%d variables, %d octets", len(got.Env), got.Size)
	}
}

func TestMoreRecipientsThanOneVariableHolds(t *testing.T) {
	t.Parallel()
	var e queue.Entry
	for i := range 3000 {
		e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{
			Address: fmt.Sprintf("%s%04d@example.org", strings.Repeat("x", 100), i), ORcpt: "rfc822;" + strings.Repeat("y", 100),
		})
	}
	e.Envelope.RcptTo = append(e.Envelope.RcptTo, queue.Recipient{Address: "a\n\x00\x7fb@example.org"})
	got := runChild(t, message(e, text))
	var all []string
	for i := 1; ; i++ {
		name := "INCOMING_RCPT_TO="
		if i > 1 {
			name = fmt.Sprintf("INCOMING_RCPT_TO_%d=", i)
		}
		at := slices.IndexFunc(got.Env, func(v string) bool { return strings.HasPrefix(v, name) })
		if at < 0 {
			break
		}
		all = append(all, strings.Split(strings.TrimPrefix(got.Env[at], name), "\n")...)
	}
	want := e.Envelope.Addresses()
	want[3000] = "a???b@example.org"
	if !slices.Equal(all, want) {
		t.Errorf("%d recipients came, want %d", len(all), len(want))
	}
	if !slices.Contains(got.Env, "INCOMING_RCPT_COUNT=3001") || !slices.Contains(got.Env, `INCOMING_DSN={"ret":"","envid":""}`) {
		t.Error("the count, or parameters too long for a variable, are not as documented")
	}
}

func TestTheExitStatusIsTheVerdict(t *testing.T) {
	t.Parallel()
	for code := range 256 {
		err := shell(t, nil, fmt.Sprintf("echo reason %d >&2; exit %d", code, code)).Deliver(context.Background(), someMessage())
		rejects := slices.Contains([]int{65, 67, 68, 69, 77}, code)
		if (err == nil) != (code == 0) || isRejected(err) != rejects {
			t.Errorf("exit status %d: Deliver returned %v", code, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf(`exit status %d: "reason %d"`, code, code)) {
			t.Errorf("exit status %d: Deliver returned %v, want status and reason", code, err)
		}
	}
	// Not HUP, which nohup lets its children ignore.
	for _, sig := range []string{"KILL", "TERM", "USR1", "PIPE", "SEGV"} {
		err := shell(t, nil, "kill -"+sig+" $$").Deliver(context.Background(), someMessage())
		if err == nil || isRejected(err) || !strings.Contains(err.Error(), "signal") {
			t.Errorf("SIG%s: Deliver returned %v, want a retry", sig, err)
		}
	}
}

// D14.
func TestNothingOfAMessageIsEverRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, hostile := range []string{"`touch PWNED`", "$(touch PWNED)", ";touch PWNED;", "|sh -c 'touch PWNED'", "-oX", "a\ntouch PWNED\n",
		"'\"; touch PWNED #", "a\x00b", "() { :;}; touch PWNED"} {
		file := fmt.Sprintf("%s/out%d", dir, i)
		e := queue.Entry{ID: queue.ID(hostile), Envelope: queue.Envelope{
			MailFrom: hostile, RcptTo: []queue.Recipient{{Address: hostile}}},
			Origin: queue.Origin{Hello: hostile, Peer: hostile}, Quarantine: hostile}
		a := shell(t, &Options{Dir: dir}, `printf '%s' "$INCOMING_MAIL_FROM" >"$1"`, "sh", file)
		if err := a.Deliver(context.Background(), message(e, hostile)); err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("\n", "?", "\x00", "?").Replace(hostile)
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("the sender came as %q, %v, want %q", got, err, want)
		}
	}
	if _, err := os.Stat(dir + "/PWNED"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was run: %v", err)
	}
}

func TestAProgramNeedNotReadItsInput(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"exit 0", "exec <&-; exit 0", "head -c 10 >/dev/null; exit 0"} {
		if err := shell(t, nil, script).Deliver(context.Background(), bigMessage(8<<20)); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestOutputIsDroppedAndTheEndOfStandardErrorKept(t *testing.T) {
	t.Parallel()
	script := `i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; echo noise $i >&2; i=$((i+1)); done
printf 'the end \033[2J\n' >&2; exit 75`
	err := shell(t, nil, script).Deliver(context.Background(), bigMessage(1<<20))
	if err == nil || !strings.Contains(err.Error(), `the end \x1b[2J"`) || !strings.Contains(err.Error(), `status 75: "…`) ||
		len(err.Error()) > 2*maxSaid {
		t.Errorf("Deliver returned %v", err)
	}
}

func TestManyRunAtOnce(t *testing.T) {
	t.Parallel()
	a := shell(t, nil, `test "$(cat | wc -c)" -eq "$INCOMING_SIZE"`)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := a.Deliver(context.Background(), bigMessage(300<<10)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAFaultOfTheStorageEndsTheProgramBeforeItSeesTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := errors.New("the disk is broken")
	e := queue.Entry{ID: "A", Size: 1 << 20}
	m := queue.NewMessage(e, func() (queue.Raw, error) { return failing{512 << 10, broken}, nil })
	a := shell(t, &Options{Dir: dir}, "cat >half; touch done; exit 65")
	if err := a.Deliver(context.Background(), m); !errors.Is(err, broken) || isRejected(err) {
		t.Errorf("Deliver returned %v, want the storage's error", err)
	}
	if _, err := os.Stat(dir + "/done"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the program took half a message for a whole")
	}
	m = queue.NewMessage(e, func() (queue.Raw, error) { return nil, broken })
	if err := a.Deliver(context.Background(), m); !errors.Is(err, broken) {
		t.Errorf("Deliver returned %v, want the storage's error", err)
	}
}

func TestAProgramGoneIsARetry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := dir + "/program"
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := newAdapter(t, nil, file)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Deliver(context.Background(), someMessage()); !errors.Is(err, os.ErrPermission) || isRejected(err) {
		t.Errorf("not executable any more: %v, want a retry", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := a.Deliver(context.Background(), someMessage()); !errors.Is(err, os.ErrNotExist) || isRejected(err) ||
		!strings.Contains(err.Error(), file) {
		t.Errorf("not there any more: %v, want a retry", err)
	}
}

func TestNewNamesTheFault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o600, "mine": 0o700} {
		if err := os.WriteFile(dir+"/"+name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for want, c := range map[string]struct {
		argv []string
		opts *Options
	}{
		"no program: name one":           {},
		"no program":                     {argv: []string{"", "x"}},
		"NUL":                            {argv: []string{"/bin/sh", "a\x00"}},
		"no such file":                   {argv: []string{"/no/such/program"}},
		"is a directory":                 {argv: []string{dir}},
		"chmod +x":                       {argv: []string{dir + "/plain"}},
		"not found in /usr/local/sbin:":  {argv: []string{"no-such-program"}},
		"plain: may not be executed":     {argv: []string{"plain"}, opts: &Options{Path: "/no:" + dir}},
		"give the arguments apart":       {argv: []string{"sh -c true"}},
		"working directory: stat":        {argv: []string{"sh"}, opts: &Options{Dir: dir + "/none"}},
		"working directory " + dir:       {argv: []string{"sh"}, opts: &Options{Dir: dir + "/plain"}},
		`"mine" is not found in .::rel:`: {argv: []string{"mine"}, opts: &Options{Path: ".::rel:"}},
	} {
		if _, err := New(c.argv, c.opts); err == nil || !strings.HasPrefix(err.Error(), "command: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q) says %v, want something of %q", c.argv, err, want)
		}
	}
	a := newAdapter(t, &Options{Path: "/no:" + dir}, "mine")
	if a.program != dir+"/mine" {
		t.Errorf("mine was found as %s", a.program)
	}
}

// The program of the manual must work as it is printed there.
func TestTheProgramOfTheManualWorks(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/adapters.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(manual), "      #!/bin/sh\n")
	script, _, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatal("docs/adapters.md has no such program")
	}
	dir := t.TempDir()
	a := shell(t, nil, strings.ReplaceAll(script, "/var/spool/app", dir))
	if err := a.Deliver(context.Background(), someMessage()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/A"); err != nil || string(b) != text {
		t.Errorf("it kept %q, %v", b, err)
	}
	// As when the server dies: the input is shorter than was said.
	cmd := exec.Command("/bin/sh", "-c", strings.ReplaceAll(script, "/var/spool/app", dir))
	cmd.Env = []string{"PATH=" + DefaultPath, "INCOMING_ID=B", "INCOMING_SIZE=100"}
	cmd.Stdin = strings.NewReader(text)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 75 {
		t.Errorf("half a message: %v, want exit status 75", err)
	}
	if _, err := os.Stat(dir + "/B"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a message was kept: %v", err)
	}
}

// Not parallel: it measures what the process allocates.
func TestA50MBMessageIsNeverHeld(t *testing.T) {
	a := shell(t, nil, `test "$(wc -c)" -eq "$INCOMING_SIZE"`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := a.Deliver(context.Background(), bigMessage(50<<20))
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d octets were allocated", n)
	}
}

func newAdapter(t *testing.T, opts *Options, argv ...string) *Adapter {
	t.Helper()
	a, err := New(argv, opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shell is an adapter whose program is a shell: a choice of its operator's.
func shell(t *testing.T, opts *Options, script string, args ...string) *Adapter {
	t.Helper()
	return newAdapter(t, opts, append([]string{"/bin/sh", "-c", script}, args...)...)
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

func someMessage() *queue.Message { return message(queue.Entry{ID: "A"}, text) }

func message(e queue.Entry, text string) *queue.Message {
	return deliverytest.NewMessage(e, text)
}

// bigMessage is of zeros.
func bigMessage(size int64) *queue.Message {
	return queue.NewMessage(queue.Entry{ID: "BIG", Size: size}, func() (queue.Raw, error) {
		return failing{size, io.EOF}, nil
	})
}

// failing yields n octets, then its error.
type failing struct {
	n   int64
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.n {
		return 0, f.err
	}
	if off+int64(len(p)) > f.n {
		return int(f.n - off), f.err
	}
	return len(p), nil
}

func (failing) Close() error { return nil }

func mkfifo(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
