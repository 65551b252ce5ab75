package logging

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const manual = "../../docs/log.md"

var (
	manualRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([A-Z, ]+) \\| [^|]+ \\|([^|]*)\\|$")
	manualKey = regexp.MustCompile("`([a-z_]+)`")
)

// said is a line of the log: its levels and keys, each sorted.
type said struct{ levels, keys []string }

func (s *said) add(levels, keys []string) {
	for _, l := range levels {
		if !slices.Contains(s.levels, l) {
			s.levels = append(s.levels, l)
		}
	}
	for _, k := range keys {
		if !slices.Contains(s.keys, k) {
			s.keys = append(s.keys, k)
		}
	}
	slices.Sort(s.levels)
	slices.Sort(s.keys)
}

func TestTheManualListsEachLineWithItsKeys(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]*said)
	for _, row := range manualRow.FindAllStringSubmatch(string(page), -1) {
		s := &said{}
		for _, key := range manualKey.FindAllStringSubmatch(row[3], -1) {
			s.add(nil, key[1:])
		}
		s.add(strings.Split(row[2], ", "), nil)
		listed[row[1]] = s
	}

	var log lines
	story(New(log.json(slog.LevelDebug), nil))
	logged := make(map[string]*said)
	for text := range bytes.Lines(log.Bytes()) {
		var line map[string]any
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatal(err)
		}
		s := logged[line["msg"].(string)]
		if s == nil {
			s = &said{}
			logged[line["msg"].(string)] = s
		}
		s.add([]string{line["level"].(string)}, nil)
		for key := range line {
			if key != "level" && key != "msg" {
				s.add(nil, []string{key})
			}
		}
	}

	for msg, is := range logged {
		in := listed[msg]
		if in == nil {
			t.Errorf("%s does not list %q", manual, msg)
			continue
		}
		if !slices.Equal(in.levels, is.levels) || !slices.Equal(in.keys, is.keys) {
			t.Errorf("%s: %q has\n%v %v, but is logged with\n%v %v", manual, msg, in.levels, in.keys, is.levels, is.keys)
		}
	}
	for msg := range listed {
		if logged[msg] == nil {
			t.Errorf("%s lists %q, which is never logged", manual, msg)
		}
	}
}
