package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedianAndSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, "0.0"},
		{[]float64{3}, "3.0"},
		{[]float64{9, 1, 5}, "5.0 (1.0 to 9.0)"},
		{[]float64{4, 1, 2, 9}, "3.0 (1.0 to 9.0)"},
	} {
		if got := spread(c.values, "%.1f"); got != c.want {
			t.Errorf("spread(%v) = %q, want %q", c.values, got, c.want)
		}
	}
}

func TestARatioIsOfTurnsOfOneRound(t *testing.T) {
	t.Parallel()
	// The machine was twice as fast in the second round: the ratio is 2 in both.
	v := throughputVerdicts(map[string][]turn{
		incomingName: {{rate: 2000}, {rate: 4000}},
		postfixName:  {{rate: 1000}, {rate: 2000}},
	})
	if len(v) != 2 || v[0].got != "2.00 (2.00 to 2.00) times" || !v[0].ok {
		t.Errorf("verdicts are %+v", v)
	}
	v = throughputVerdicts(map[string][]turn{
		incomingName: {{rate: 1490}},
		postfixName:  {{rate: 1000}},
	})
	if v[0].ok {
		t.Errorf("1.49 times passed for 1.5: %+v", v[0])
	}
}

func TestThePageSaysWhatWasMissed(t *testing.T) {
	t.Parallel()
	p := newPage()
	p.section(section{title: "T", header: []string{"a", "b"}, rows: [][]string{{"1", "2"}}, verdicts: []verdict{
		{what: "speed", wanted: "2", got: "1"}, {what: "size", wanted: "2", got: "2", ok: true},
	}})
	got := p.String()
	for _, want := range []string{"## T\n", "| 1 | 2 |\n", "| speed | 2 | 1 | **missed** |\n", "| size | 2 | 2 | reached |\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}

func TestEntriesCountsFilesBelow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range []string{"1", "a/2", "a/b/3"} {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for deep, want := range map[bool]int{true: 3, false: 2} {
		got, err := entries(deep, dir, filepath.Join(dir, "gone"))
		if err != nil || got != want {
			t.Errorf("entries(%v) = %d, %v; want %d", deep, got, err, want)
		}
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-messages", "1"}, {"extra"}, {"-nonsense"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestTheFileSystemIsTheInnermostMounts(t *testing.T) {
	t.Parallel()
	const info = `22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw
24 23 254:1 / /tmp/disk rw - xfs /dev/vdb rw
25 24 254:2 / /tmp/disk rw - btrfs /dev/vdc rw
`
	for dir, want := range map[string]string{
		"/var/lib": "ext4", "/tmpfile": "ext4", "/tmp": "tmpfs", "/tmp/disk2": "tmpfs", "/tmp/disk/a": "btrfs",
	} {
		if got := mountedOn(info, dir); got != want {
			t.Errorf("%s is on %s, want %s", dir, got, want)
		}
	}
}
