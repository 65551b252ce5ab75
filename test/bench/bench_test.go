package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestARunThatEndsEarlyTellsWhatItFound(t *testing.T) {
	t.Parallel()
	gone := errors.New("no time")
	of := func(name string, err error) measurement {
		return measurement{name, func(context.Context, *bench) (section, error) { return section{title: name}, err }}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	p := new(page)
	err := new(bench).make(ctx, p, []measurement{of("first", nil), of("second", io.EOF), of("third", nil)})
	if !errors.Is(err, gone) || !errors.Is(err, io.EOF) || !strings.HasPrefix(err.Error(), "second: ") {
		t.Errorf("the error is %v", err)
	}
	md := p.markdown()
	if !strings.Contains(md, "without: second, third.\n") || !strings.Contains(md, "## first\n") || strings.Contains(md, "## second") {
		t.Errorf("the page is %s", md)
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	values := make([]float64, 101)
	for i := range values {
		values[100-i] = float64(i)
	}
	for q, want := range map[float64]float64{0: 0, 0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestARatioIsOfTurnsOfOneRound(t *testing.T) {
	t.Parallel()
	// The machine was twice as fast in the second round: the ratio is 0.5 in both.
	r := make(results)
	for _, speed := range []float64{1, 2} {
		r.add(main20, sinkName, turn{rate: 30000 * speed})
		r.add(main20, journal.name, turn{rate: 15000 * speed})
		r.add(main20, directories.name, turn{rate: 3000 * speed})
	}
	v := find(t, throughputVerdicts(r), "durable accepting, 20 connections, against smtp-sink")
	if v.on != "0.50 (0.50 to 0.50) times" || v.off != "0.10 (0.10 to 0.10) times" || v.word != reached || v.wanted != "at least 0.5 times" {
		t.Errorf("verdict is %+v", v)
	}
	// Postfix was not there: nothing can be said of it.
	if v := find(t, throughputVerdicts(r), "durable accepting, 20 connections, against Postfix"); v.on != notMeasured || v.word != notMeasured || v.off != "" {
		t.Errorf("verdict is %+v", v)
	}
}

func find(t *testing.T, all []verdict, what string) verdict {
	t.Helper()
	i := slices.IndexFunc(all, func(v verdict) bool { return v.what == what })
	if i < 0 {
		t.Fatalf("no verdict on %q among %+v", what, all)
	}
	return all[i]
}

func TestABoundIsKeptAtItsValueAndMissedPastIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		b    bound
		v    float64
		want string
	}{
		{atLeast(8, "%.2f", ""), 8, reached}, {atLeast(8, "%.2f", ""), 7.99, missed},
		{atMost(8, "%.2f", ""), 8, reached}, {atMost(8, "%.2f", ""), 8.01, missed},
	} {
		if v := hold("x", c.b, []float64{c.v}, nil); v.word != c.want {
			t.Errorf("%v is %s of %s", c.v, v.word, c.b)
		}
	}
	// By what was measured with the journal alone it is decided.
	if v := hold("x", atLeast(8, "%.0f", ""), nil, []float64{9}); v.word != notMeasured || v.off != "9" {
		t.Errorf("without a journal: %+v", v)
	}
}

// someTurns is a run in which every server was measured but Postfix, which was not
// there.
func someTurns(t *testing.T) *bench {
	t.Helper()
	b := &bench{options: options{rounds: 3}, turns: make(results)}
	for i, s := range b.servers() {
		for _, c := range b.cells() {
			if s.name == postfixName || s.plainOnly != "" && c.secure {
				continue
			}
			for round := range b.roundsOf(c) {
				t := turn{rate: float64(1000 * (i + 1)), cpu: 42 * time.Microsecond}
				if s.name == journal.delivering() || s.name == directories.delivering() {
					t.queue = &queueing{left: 7 + 2*round}
				}
				b.turns.add(c, s.name, t)
			}
		}
	}
	return b
}

func withoutPostfix(servers []server) []server {
	for i := range servers {
		if servers[i].name == postfixName {
			servers[i].missing = "it went away"
		}
	}
	return servers
}

func TestEveryKindHasATableAndEveryServerARowInIt(t *testing.T) {
	t.Parallel()
	b := someTurns(t)
	s := b.throughputSection(withoutPostfix(b.servers()))
	var titles []string
	for _, table := range s.tables {
		titles = append(titles, table.title)
	}
	want := []string{"4 KB, plain", "4 KB, TLS", "1 MB, plain", "1 MB, TLS", "The queue, while every message is delivered to discard"}
	if !slices.Equal(titles, want) {
		t.Fatalf("tables are %q, want %q", titles, want)
	}
	for _, table := range s.tables[:4] {
		if len(table.rows) != len(b.servers()) {
			t.Errorf("%s has %d rows for %d servers", table.title, len(table.rows), len(b.servers()))
		}
	}
	rows := fmt.Sprint(s.tables)
	for _, want := range []string{
		"[smtp-sink no 1000 (1000 to 1000) 42 (42 to 42) µs 1000 (1000 to 1000) 42 (42 to 42) µs 1000 (1000 to 1000) 42 (42 to 42) µs]",
		"[smtp-sink no not measured: it speaks no TLS]",
		"[Postfix its queue, and delivers to discard not measured: it went away]",
		"[Incoming, journal, delivering 4 KB, plain, 20 connections 9 (7 to 11) 0.00 (0.00 to 0.00) 0.00 (0.00 to 0.00) s",
	} {
		if !strings.Contains(rows, want) {
			t.Errorf("no row %q in %s", want, rows)
		}
	}
}

func TestGrowthIsCountedFromTheSecondLookOn(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds, queued int) look { return look{start.Add(time.Duration(seconds) * time.Second), queued} }
	for _, c := range []struct {
		seen []look
		want float64
	}{
		{[]look{at(0, 0), at(1, 100), at(2, 90), at(3, 100)}, 0}, // filled a little, then stood
		{[]look{at(0, 0), at(1, 100), at(2, 200), at(3, 300)}, 100},
		{[]look{at(0, 10), at(2, 50)}, 20},
	} {
		if got := growth(c.seen); got != c.want {
			t.Errorf("growth of %v is %v, want %v", c.seen, got, c.want)
		}
	}
}

func TestThePageSaysWhatWasReachedAndMissed(t *testing.T) {
	t.Parallel()
	p := page{
		facts: [][2]string{{"processor", "P"}}, note: "N.",
		sections: []section{{
			title: "T", text: "How.",
			tables: []table{{title: "U", header: []string{"a", "b"}, rows: [][]string{{"1", "2"}, {"not there"}}}},
			verdicts: []verdict{
				hold("speed", atLeast(2, "%.0f", ""), []float64{1}, []float64{0}),
				hold("size", atMost(2, "%.0f", " KiB"), []float64{2}, nil),
			},
		}},
	}
	got := p.markdown()
	for _, want := range []string{
		"| processor | P |\n", "Of this run: N.\n", "## T\n\nHow.\n\n### U\n", "| 1 | 2 |\n| not there |  |\n",
		"| speed | at least 2 | 1 | 0 | **missed** |\n", "| size | at most 2 KiB | 2 KiB |  | reached |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, chartFile) {
		t.Error("the page shows a chart that there is none of")
	}
}

func TestWriteLeavesAPageAndTheChartItShows(t *testing.T) {
	t.Parallel()
	b := someTurns(t)
	dir := t.TempDir()
	p := page{chart: b.chart(), sections: []section{b.throughputSection(withoutPostfix(b.servers()))}}
	if err := p.write(dir); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(md), "](benchmarks.svg)\n") || string(md) != p.markdown() {
		t.Errorf("the page does not show the chart:\n%s", md)
	}
	drawn, err := os.ReadFile(filepath.Join(dir, chartFile))
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the chart is not XML: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "line" {
			bars++
		}
	}
	if want := 2 * (len(b.servers()) - 1); bars != want { // without Postfix
		t.Errorf("%d bars, want %d", bars, want)
	}
	if !strings.Contains(string(drawn), ">Incoming&#39;s engine, discarding<") {
		t.Error("a name is missing, or not escaped")
	}
}

func TestNoBarIsLongerThanTheChart(t *testing.T) {
	t.Parallel()
	c := someTurns(t).chart()
	most := 0.0
	for _, g := range c.groups {
		for _, b := range g.bars {
			most = max(most, c.length(b.high))
		}
	}
	if most != chartWidth-chartLeft-chartRight {
		t.Errorf("the longest bar is %v pixels", most)
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
	for _, args := range [][]string{
		{"-rounds", "0"}, {"-messages", "1"}, {"extra"}, {"-nonsense"}, {"-only", "speed"}, {"-only", "idle", "-write"},
		{"-large", "60000000"}, {"-depth", "0"}, {"-turn", "0s"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestQuickChangesOnlyWhatIsNotGiven(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-quick", "-rounds", "1", "-idle", "200"})
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 1 || o.idle != 200 || o.timeout != 2*time.Minute || o.depth != 50_000 {
		t.Errorf("options are %+v", o)
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

func TestAGuardThatCostsMoreThanAllowedIsMissed(t *testing.T) {
	t.Parallel()
	at := func(rates ...float64) []turn {
		var ts []turn
		for _, r := range rates {
			ts = append(ts, turn{rate: r, own: time.Duration(float64(time.Second) / r)})
		}
		return ts
	}
	turns := map[string][2][]turn{
		engineName:   {at(100, 200, 100), at(95, 190, 96)},
		journal.name: {at(100, 200, 100), at(94, 188, 99)},
	}
	s := guardSection((&bench{}).guards(), turns, time.Second)
	for name, want := range map[string]string{engineName: reached, journal.name: missed, journal.delivering(): notMeasured} {
		if v := find(t, s.verdicts, "messages a second with limits, deadlines and rate limits, against without: "+name); v.word != want || v.wanted != "at least 0.95 times" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if got := s.tables[0].rows[0]; got[1] != "3" || got[2] != "100 (100 to 200)" || got[6] != "0.950 (0.950 to 0.960)" || got[7] != "1.053 (1.042 to 1.053)" {
		t.Errorf("row %q", got)
	}
}
