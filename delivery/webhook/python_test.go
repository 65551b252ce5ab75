package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

// stdlibReceiver reads the form by the parsers of Python's library, the email
// package and, where it still is, cgi; and checks the signature by hmac.
const stdlibReceiver = `
import base64, email, hashlib, hmac, http.server, io, json, sys, warnings
warnings.simplefilter("ignore")
try:
    import cgi
except ImportError:
    cgi = None
key = base64.b64decode(sys.argv[1].removeprefix("whsec_"))

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = (self.headers["webhook-id"] + "." + self.headers["webhook-timestamp"] + ".").encode() + body
        mac = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        out = {"signed": self.headers["webhook-signature"] == mac}
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        envelope, message = email.message_from_bytes(head + body).get_payload()
        out["envelope"] = json.loads(envelope.get_payload(decode=True))
        out["type"], out["subject"] = message.get_content_type(), str(message.get_payload(0)["Subject"])
        if cgi:
            form = cgi.FieldStorage(fp=io.BytesIO(body), headers=self.headers, environ={"REQUEST_METHOD": "POST"})
            out["recipients"] = json.loads(form["envelope"].value)["recipients"]
            out["sha256"] = hashlib.sha256(form["message"].file.read()).hexdigest()
        self.send_response(200)
        self.end_headers()
        print(json.dumps(out), flush=True)

    def log_message(self, *args):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.handle_request()
`

func TestPythonReadsTheForm(t *testing.T) {
	t.Parallel()
	lines := startPython(t, nil, stdlibReceiver, secretOne)
	a := newAdapter(t, Config{URL: "http://127.0.0.1:" + lines() + "/mail", Secrets: []string{secretOne}})
	e := fullEntry()
	e.Prepend = nil
	if err := a.Deliver(context.Background(), message(e, text)); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Signed                bool
		Envelope              Envelope
		Type, Subject, SHA256 string
		Recipients            []string
	}
	if err := json.Unmarshal([]byte(lines()), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Signed || got.Envelope.Sender != e.Envelope.MailFrom || got.Type != "message/rfc822" || !strings.HasPrefix(got.Subject, "caf") {
		t.Errorf("python3 read %+v", got)
	}
	sum := sha256.Sum256([]byte(text))
	if got.SHA256 == "" {
		t.Log("this python3 has no cgi: the octets were not compared")
	} else if got.SHA256 != hex.EncodeToString(sum[:]) || got.Recipients[1] != "grüße@example.org" {
		t.Errorf("python3's cgi read %+v", got)
	}
}

// The receiver of the manual must work as it is printed there.
func TestThePythonReceiverOfTheManualWorks(t *testing.T) {
	t.Parallel()
	program := fromManual(t, "python")
	dir := t.TempDir()
	// The manual's port is fixed; here the system chooses and the program says.
	program = strings.Replace(program, `("127.0.0.1", 8000)`, `("127.0.0.1", 0)`, 1)
	program = strings.Replace(program, ".serve_forever()", "", 1)
	program = strings.Replace(program, "http.server.HTTPServer", "server = http.server.HTTPServer", 1)
	program += "\nprint(server.server_port, flush=True)\nserver.serve_forever()\n"
	lines := startPython(t, []string{"WEBHOOK_SECRET=" + secretOne, "MAIL_DIR=" + dir}, program)
	url := "http://127.0.0.1:" + lines() + "/mail"

	unsigned := newAdapter(t, Config{URL: url})
	if err := unsigned.Deliver(context.Background(), message(plainEntry("UNSIGNED"), text)); err == nil ||
		!strings.Contains(err.Error(), "401") {
		t.Errorf("no signature: %v, want a retry of 401", err)
	}
	var logs bytes.Buffer
	good := newAdapter(t, Config{URL: url, Secrets: []string{secretTwo, secretOne}, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	good.now = time.Now
	if err := good.Deliver(context.Background(), message(plainEntry("GOOD"), text)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/GOOD.eml"); err != nil || string(b) != text {
		t.Errorf("it kept %q, %v", b, err)
	}
	again := plainEntry("GOOD")
	again.Attempts = 1
	if err := good.Deliver(context.Background(), message(again, text)); err != nil {
		t.Errorf("a second time: %v", err)
	}
	no := queue.Entry{ID: "NO", Envelope: queue.Envelope{RcptTo: []queue.Recipient{{Address: "nobody@example.org"}}}}
	if err := good.Deliver(context.Background(), message(no, text)); !isRejected(err) {
		t.Errorf("for nobody it said %v, want a reject", err)
	}
	if logs.Len() > 0 {
		t.Errorf("it gave reason to log %s", &logs)
	}
	wrong := newAdapter(t, Config{URL: url, Secrets: []string{secretTwo}})
	wrong.now = time.Now
	if err := wrong.Deliver(context.Background(), message(plainEntry("WRONG"), text)); err == nil || isRejected(err) ||
		!strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong signature: %v, want a retry of 401", err)
	}
	old := newAdapter(t, Config{URL: url, Secrets: []string{secretOne}})
	old.now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	if err := old.Deliver(context.Background(), message(plainEntry("OLD"), text)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("an old signature: %v, want a retry of 401", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("it kept %v, %v, want GOOD.eml alone", entries, err)
	}
}

// fromManual is the one block of a language in docs/adapters.md.
func fromManual(t *testing.T, language string) string {
	t.Helper()
	manual, err := os.ReadFile("../../docs/adapters.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(manual), "```"+language+"\n")
	program, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatalf("docs/adapters.md has no block of %s", language)
	}
	return program
}

// startPython runs a program until the test ends, and returns a func that reads
// a line of its output.
func startPython(t *testing.T, env []string, program string, args ...string) (line func() string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	cmd := exec.Command(python, append([]string{"-c", program}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // likewise: its status says nothing
		if t.Failed() {
			t.Logf("python3 said: %s", &stderr)
		}
	})
	lines := bufio.NewScanner(out)
	return func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("python3 said nothing more: %v", lines.Err())
		}
		return lines.Text()
	}
}

// The Go receiver of the manual is the one that Example runs.
func TestTheGoReceiverOfTheManualIsTheExamples(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if program := fromManual(t, "go"); !strings.Contains(string(source), program) {
		t.Errorf("the manual has\n%s\nwhich example_test.go has not", program)
	}
}
