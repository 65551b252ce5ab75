package crash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/test/internal/daemon"
	"github.com/incoming-mx/incoming/test/internal/load"
)

// adapter is a way out of the daemon, and where it leads to.
type adapter struct {
	name, to string
	dir      string               // what is in it has been delivered; "" for none
	busy     string               // a program that runs has a file in it; "" for none
	putOff   func(*testing.T) int // how many deliveries it said retry to
	ledger   *load.Ledger
}

func newAdapters(t *testing.T, site *daemon.Site, ledger *load.Ledger, seed uint64) []*adapter {
	t.Helper()
	never := func(*testing.T) int { return 0 }
	return []*adapter{
		{name: "maildir", to: "maildir:" + site.Mail, dir: filepath.Join(site.Mail, "new"), putOff: never, ledger: ledger},
		newCommand(t, ledger),
		newWebhook(t, ledger, seed),
	}
}

// program is that of docs/adapters.md, but that no file replaces another, and that
// it says retry to the first attempt at one message in eight.
const program = `#!/bin/sh
case $INCOMING_ATTEMPT/$INCOMING_ID in 1/*[0123]) echo >>"$1/put-off"; exit 75 ;; esac
part="$1/tmp/$INCOMING_ID.$$"
cat >"$part" && test "$(wc -c <"$part")" -eq "$INCOMING_SIZE" && mv "$part" "$1/new/$INCOMING_ID.$INCOMING_ATTEMPT.$$" && exit 0
rm -f "$part"
exit 75
`

func newCommand(t *testing.T, ledger *load.Ledger) *adapter {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	err := errors.Join(os.Mkdir(filepath.Join(dir, "tmp"), 0o700), os.Mkdir(filepath.Join(dir, "new"), 0o700), os.WriteFile(file, []byte(program), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	return &adapter{name: "command", to: "command:" + file + " " + dir, dir: filepath.Join(dir, "new"), busy: filepath.Join(dir, "tmp"), ledger: ledger, putOff: func(t *testing.T) int {
		text, err := os.ReadFile(filepath.Join(dir, "put-off"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return bytes.Count(text, []byte("\n"))
	}}
}

func newWebhook(t *testing.T, ledger *load.Ledger, seed uint64) *adapter {
	t.Helper()
	hook := load.NewWebhook(t, ledger, seed)
	return &adapter{name: "webhook", to: hook.URL, ledger: ledger, putOff: func(*testing.T) int { return hook.PutOff() }}
}

// settle waits for the programs that killed daemons have left running.
func settle(t *testing.T, all []*adapter) {
	t.Helper()
	for _, a := range all {
		if a.busy == "" {
			continue
		}
		daemon.Within(t, time.Minute, "all programs have ended", func() error {
			if left := daemon.Entries(t, a.busy); len(left) > 0 {
				return fmt.Errorf("%v run for these", left)
			}
			return nil
		})
	}
}

// collect takes what has been delivered into directories. A program that a killed
// daemon started may still run: its file is then found the next time.
func collect(t *testing.T, all []*adapter) {
	t.Helper()
	for _, a := range all {
		if a.dir == "" {
			continue
		}
		for _, name := range daemon.Entries(t, a.dir) {
			file := filepath.Join(a.dir, name)
			text, err := os.Open(file)
			if err != nil {
				t.Errorf("%s: %v", a.name, err)
				continue
			}
			if err := errors.Join(a.ledger.Delivered(text), text.Close(), os.Remove(file)); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
		}
	}
}
