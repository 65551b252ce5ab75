package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// begun is a session in the middle of a message's text.
func begun(t *testing.T, d *process) *session {
	t.Helper()
	return dialed(t, d, "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
}

// E17.
func TestAResetInTheMiddleOfDataLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t, "--set", "limits.buffers=1KiB", "--set", "log.level=debug") // so that the draft is a file
	s := begun(t, d)
	if _, err := io.WriteString(s.conn, "Subject: x\r\n\r\n"+strings.Repeat("a line\r\n", 1<<16)); err != nil {
		t.Fatal(err)
	}
	const staging = "incoming-data/spool/incoming"
	err := eventually(func() error {
		if len(p.names(t, staging)) != 1 {
			return errors.New("nothing is staged")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.conn.(*net.TCPConn).SetLinger(0); err != nil { // Close sends RST
		t.Fatal(err)
	}
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	err = eventually(func() error {
		for _, dir := range []string{"incoming", "committed", "processing", "dead", "trash"} {
			if left := p.names(t, filepath.Join("incoming-data/spool", dir)); len(left) > 0 {
				return fmt.Errorf("%v was left in %s", left, dir)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p.arrive(t, "incoming-data/mail/new", []string{dialed(t, d).take(t)}) // the next goes on
}

// R01.
func TestTenMegabytesWithoutALineEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.start(t)
	long := bytes.Repeat([]byte("x"), 10<<20)
	s := begun(t, d)
	r, err := s.say("Subject: long\r\n\r\n" + string(long) + "\r\n.")
	if err != nil || !strings.HasPrefix(r, "250 ") {
		t.Fatalf("as text: %s %v", r, err)
	}
	_, id, _ := strings.Cut(r, "queued as ")
	p.arrive(t, "incoming-data/mail/new", []string{id})
	text, err := os.ReadFile(filepath.Join(p.dir, "incoming-data/mail/new", p.names(t, "incoming-data/mail/new")[0]))
	if err != nil || !bytes.HasSuffix(text, append([]byte("Subject: long\r\n\r\n"), append(long, "\r\n"...)...)) {
		t.Errorf("the long line came back changed: %d octets, %v", len(text), err)
	}
	if r, err := s.say("NOOP " + string(long)); err != nil || !strings.HasPrefix(r, "500 5.5.2 ") {
		t.Errorf("as a command: %s %v", r, err)
	}
	if r, err := s.say("NOOP"); err != nil || !strings.HasPrefix(r, "250 ") {
		t.Errorf("after it: %s %v", r, err)
	}
}

func TestAProgramThatHangsHoldsUpOnlyItsMessage(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	script := "#!/bin/sh\ncat >/dev/null\ncase $INCOMING_RCPT_TO in hang@*) exec sleep 600;; esac\necho x >>done\n"
	if err := os.WriteFile(filepath.Join(p.dir, "run"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	d := p.start(t, "--deliver", "command:./run", "--set", "delivery.deadline=1s", "--set", "delivery.backoff=1h", "--set", "delivery.backoff_cap=1h")
	for _, to := range []string{"hang@y.example", "quick@y.example"} {
		p.tool(t, "send", "--server", d.addr(), "--to", to)
	}
	err := eventually(func() error {
		waiting := p.tool(t, "queue", "list", "--state", "waiting")
		if !strings.Contains(waiting, "hang@y.example") || !strings.Contains(waiting, "deadline") {
			return fmt.Errorf("the one that hangs does not wait for a retry:\n%s", p.tool(t, "queue", "list"))
		}
		if _, err := os.Stat(filepath.Join(p.dir, "done")); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAWebhookIsGivenTheMessageAndItsVerdictCounts(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 || r.Header.Get("Idempotency-Key") == "" || r.Header.Get("Webhook-Signature") == "" {
			http.Error(w, "no message", http.StatusBadRequest)
			return
		}
		if calls.Add(1) == 1 {
			w.Header().Set("Incoming-Verdict", "reject")
		}
	}))
	t.Cleanup(hook.Close)
	p := newPlace(t)
	secret := filepath.Join(p.dir, "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := p.start(t, "--deliver", hook.URL+"/mail", "--set", "webhook.secret_file="+secret)
	for i, want := range []string{`dead +1`, `ready +0`} {
		p.tool(t, "send", "--server", d.addr())
		err := eventually(func() error {
			st := p.tool(t, "queue", "stats")
			if int(calls.Load()) != i+1 || !matches(want, st) {
				return fmt.Errorf("%d calls\n%s", calls.Load(), st)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAStormOfSignalsEndsInOneDrain: SIGHUPs neither end it nor keep it from
// ending. Q20.
func TestAStormOfSignalsEndsInOneDrain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	conf, file := []byte("[limits]\nrecipients = 7\n"), filepath.Join(p.dir, "incoming.toml")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	d := p.start(t, "--config", file)
	s := dialed(t, d)
	// A pipe in the file's place holds the first reload up, and the storm with it.
	if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	signalTo(t, d, syscall.SIGHUP)
	var held *os.File
	err := eventually(func() (err error) { // as soon as it is read
		held, err = os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		signalTo(t, d, syscall.SIGHUP)
	}
	signalTo(t, d, syscall.SIGINT)
	for range 200 {
		signalTo(t, d, syscall.SIGHUP)
	}
	if err := errors.Join(os.Remove(file), os.WriteFile(file, conf, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Write(conf); err != nil {
		t.Fatal(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if line, err := s.line(); err != nil || !strings.HasPrefix(line, "421 4.3.2 ") {
		t.Errorf("an idle session hears %q, %v", line, err)
	}
	if code, err := d.end(); err != nil || code != exitOK {
		t.Errorf("exit code %d, %v", code, err)
	}
}
