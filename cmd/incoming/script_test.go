package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program too, so that scripts and tests run
// it as a process of its own, without a build.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"incoming": main})
}

// TestScripts runs testdata/script: each is a story of the command line.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Values[daemonsKey{}] = &daemons{}
			e.Defer(e.Values[daemonsKey{}].(*daemons).killAll)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":   startDaemon,
			"signal":  signalDaemon,
			"ended":   endedDaemon,
			"said":    daemonSaid,
			"files":   waitFiles,
			"session": openSession,
			"hears":   sessionHears,
			"setid":   setID,
			"snap":    snapshot,
		},
		UpdateScripts: *updateScripts,
	})
}

type daemonsKey struct{}

// daemons is the daemons that a script has started, by name.
type daemons struct {
	byName   map[string]*process
	sessions map[string]*session
}

func (d *daemons) killAll() {
	for _, s := range d.sessions {
		s.conn.Close()
	}
	for _, p := range d.byName {
		p.kill()
	}
}

func of(ts *testscript.TestScript) *daemons { return ts.Value(daemonsKey{}).(*daemons) }

// process is "incoming serve" as a process.
type process struct {
	cmd   *exec.Cmd
	err   *output
	ended chan struct{}
	state error // of Wait, when ended is closed
}

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// startProcess runs the program in dir and waits until it takes mail, or has
// ended.
func startProcess(bin, dir string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(bin, append([]string{"serve"}, args...)...), err: newOutput(), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = dir, env, p.err
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.state = p.cmd.Wait()
		close(p.ended)
		p.err.end()
	}()
	if !p.err.wait(regexp.MustCompile(`(?m)^incoming: delivering |"msg":"delivering"`)) {
		p.kill()
		return nil, fmt.Errorf("it does not start: %s", p.err)
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// end waits for the end and returns the exit code.
func (p *process) end() (int, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		return 0, fmt.Errorf("it does not end; it said:\n%s", p.err)
	}
}

var addressSaid = regexp.MustCompile(`listening.*?(127\.0\.0\.1:\d+)`)

func (p *process) addr() string {
	m := addressSaid.FindStringSubmatch(p.err.String())
	if m == nil {
		return ""
	}
	return m[1]
}

var httpSaid = regexp.MustCompile(`http on (127\.0\.0\.1:\d+)`)

// output collects what a process writes, and wakes those who wait for it.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	over  bool
	after chan struct{} // closed and replaced at each change
}

func newOutput() *output { return &output{after: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	o.changed()
	return len(p), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	o.changed()
}

func (o *output) changed() {
	close(o.after)
	o.after = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait waits until the text matches; false when it has ended, or patience has,
// without.
func (o *output) wait(what *regexp.Regexp) bool {
	limit := time.After(patience)
	for {
		o.mu.Lock()
		found, over, after := what.Match(o.text.Bytes()), o.over, o.after
		o.mu.Unlock()
		if found || over {
			return found
		}
		select {
		case <-after:
		case <-limit:
			return false
		}
	}
}

// eventually asks again and again, for as long as patience, until check has no
// error, and returns the last one.
func eventually(check func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit:
			return err
		}
	}
}

// startDaemon is "start NAME ARGS…": incoming serve ARGS. $NAME is its address
// from then on, $NAME_http that of its HTTP side.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: start NAME ARGS…")
	}
	bin, err := lookPath(ts)
	ts.Check(err)
	env := append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	p, err := startProcess(bin, ts.MkAbs("."), env, args[1:]...)
	ts.Check(err)
	d := of(ts)
	if d.byName == nil {
		d.byName = make(map[string]*process)
	}
	d.byName[args[0]] = p
	ts.Setenv(args[0], p.addr())
	if m := httpSaid.FindStringSubmatch(p.err.String()); m != nil {
		ts.Setenv(args[0]+"_http", m[1])
	}
}

func lookPath(ts *testscript.TestScript) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if f := filepath.Join(dir, "incoming"); isFile(f) {
			return f, nil
		}
	}
	return "", errors.New("incoming is not on the PATH")
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func named(ts *testscript.TestScript, name string) *process {
	p := of(ts).byName[name]
	if p == nil {
		ts.Fatalf("there is no daemon %s", name)
	}
	return p
}

// signalDaemon is "signal NAME TERM|INT|HUP|KILL".
func signalDaemon(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	ts.Check(named(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// endedDaemon is "ended NAME CODE": it ends, with that exit code.
func endedDaemon(ts *testscript.TestScript, neg bool, args []string) {
	p := named(ts, args[0])
	code, err := p.end()
	ts.Check(err)
	if got := fmt.Sprint(code); got != args[1] {
		ts.Fatalf("exit code %s; it said:\n%s", got, p.err)
	}
}

// daemonSaid is "said NAME PATTERN": its stderr matches, by and by; "! said" now.
func daemonSaid(ts *testscript.TestScript, neg bool, args []string) {
	p, what := named(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	if neg {
		if what.MatchString(p.err.String()) {
			ts.Fatalf("it said:\n%s", p.err)
		}
		return
	}
	if !p.err.wait(what) {
		ts.Fatalf("it did not say %q but:\n%s", args[1], p.err)
	}
}

// waitFiles is "files DIR N": by and by there are N files in DIR.
func waitFiles(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(func() error {
		names, err := os.ReadDir(ts.MkAbs(args[0]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if got := fmt.Sprint(len(names)); got != args[1] {
			return fmt.Errorf("%s has %s files, not %s", args[0], got, args[1])
		}
		return nil
	}))
}

// setID is "setid VAR PATTERN": $VAR is what the first group of PATTERN matches
// in the last stdout.
func setID(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("no %q in:\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}

// snapshot is "snap FILE DIR": writes into FILE all that can be seen of DIR from
// outside, for cmp.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	text, err := treeOf(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// treeOf is everything under dir, with mode, size, time of change and content.
func treeOf(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(&b, "%s %s %d %s %x\n", name, info.Mode(), info.Size(), info.ModTime().Format(time.RFC3339Nano), sha256.Sum256(content))
		return err
	})
	return b.String(), err
}

// openSession is "session NAME ADDR LINE…": connects and says the lines, each
// after the reply to the one before.
func openSession(ts *testscript.TestScript, neg bool, args []string) {
	s, err := dialSession(context.Background(), args[1], args[2:]...)
	ts.Check(err)
	d := of(ts)
	if d.sessions == nil {
		d.sessions = make(map[string]*session)
	}
	d.sessions[args[0]] = s
}

// sessionHears is "hears NAME TEXT": the next reply begins with TEXT; "" is the
// end of the connection.
func sessionHears(ts *testscript.TestScript, neg bool, args []string) {
	line, err := of(ts).sessions[args[0]].line()
	if args[1] == "" && errors.Is(err, io.EOF) {
		return
	}
	ts.Check(err)
	if !strings.HasPrefix(line, args[1]) {
		ts.Fatalf("it hears %q", line)
	}
}
