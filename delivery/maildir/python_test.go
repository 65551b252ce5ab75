package maildir

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"
)

const readAll = `
import email, json, mailbox, sys
box = mailbox.Maildir(sys.argv[1], factory=None, create=False)
out = {}
for key in box.keys():
    m = box.get_message(key)
    out[key] = dict(subdir=m.get_subdir(), seen="S" in m.get_flags(), path=m["Return-Path"],
                    to=m.get_all("Delivered-To"), subject=m["Subject"], body=m.get_payload(), date=m.get_date())
json.dump(out, sys.stdout)
`

func TestPythonReadsTheMaildir(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	dir := t.TempDir()
	a := newAdapter(t, dir)
	e := entry("01JABCDEFGHJKMNPQRSTVWXYZ0", "a@example.net", "b@example.org", "c@example.org")
	deliver(t, a, message(e, "Subject: one\r\n\r\nbody\r\n"))
	odd := entry("odd/../id:2,S", "", "b@example.org")
	deliver(t, a, message(odd, "Subject: two\r\n\r\n"))

	cmd := exec.Command(python, "-c", readAll, dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, &stderr)
	}
	var got map[string]struct {
		Subdir, Path, Subject, Body string
		To                          []string
		Seen                        bool
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	one := got["01JABCDEFGHJKMNPQRSTVWXYZ0"]
	if len(got) != 2 || one.Subdir != "new" || one.Seen || one.Path != "<a@example.net>" || len(one.To) != 2 ||
		one.Subject != "one" || one.Body != "body\n" && one.Body != "body\r\n" {
		t.Errorf("python3 read %+v", got)
	}
	if two := got["odd%2F..%2Fid%3A2%2CS"]; two.Subject != "two" || two.Path != "<>" || two.Seen {
		t.Errorf("python3 read %+v", got)
	}
}
