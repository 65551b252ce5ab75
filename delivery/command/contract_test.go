package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/delivery/deliverytest"
)

// keep is what the manual says a program should do: a file of its own for each
// run, which is compared with the size before it gets its name.
const keep = `part="$1/part.$$"
cat >"$part" && test "$(wc -c <"$part")" -eq "$INCOMING_SIZE" || { rm -f "$part"; exit 75; }
name=$(printf %s "$INCOMING_ID" | cksum | tr " " .)
printf %s "$INCOMING_RCPT_TO" >"$1/to.$name" && mv "$part" "$1/done.$name"`

// Not parallel: it measures memory.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	deliverytest.Run(t, func(t *testing.T) deliverytest.Place {
		dir := t.TempDir()
		return deliverytest.Place{Adapter: newAdapter(t, nil, "/bin/sh", "-c", keep, "keep", dir), Once: true, Arrived: func() (copies []deliverytest.Copy, err error) {
			names, err := filepath.Glob(filepath.Join(dir, "done.*"))
			for _, name := range names {
				to, terr := os.ReadFile(strings.Replace(name, "/done.", "/to.", 1))
				text, oerr := os.Open(name)
				if err := errors.Join(terr, oerr); err != nil {
					return nil, err
				}
				c, rerr := deliverytest.Read(strings.Fields(string(to)), text)
				err = errors.Join(err, rerr, text.Close())
				copies = append(copies, c)
			}
			return copies, err
		}}
	})
}
