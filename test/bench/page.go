package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// page is everything that a run has found.
type page struct {
	facts    [][2]string
	note     string   // what a reader should know of this run
	missing  []string // measurements that the run did not come to the end of
	sections []section
	chart    *chart // nil when nothing was measured that it shows
}

// section is one measurement's part of the page.
type section struct {
	title, text string
	tables      []table
	verdicts    []verdict
}

// table may be without a title and a text.
type table struct {
	title, text string
	header      []string
	rows        [][]string
}

// chartFile is written beside the page.
const chartFile = "benchmarks.svg"

const method = `# Benchmarks

Written by ` + "`go -C test/bench run . -write`" + `. Absolute figures move from machine to machine and from run to run: compare only
those of one run.

Every server is a process of its own (Postfix: an instance of its own, with its own configuration, queue and data) that
listens on a loopback port and writes to one file system. Client and server share the processors. Each round gives each
server one turn, and begins with another server than the round before; a turn is a server freshly started and warmed. What
servers are held against is the median over the rounds of the ratio of two turns of one round: a disk on which many files
were just removed makes new ones slow for all ([why](decisions/0011-spread-directories.md)).

Incoming is the daemon as built by ` + "`go build ./cmd/incoming`" + `, with ` + "`limits.connections`" + ` 20000 and ` + "`queue.depth`" + ` 2000000 and
all else as it comes, its log, a line or two a message, in a file. It is measured with its journal and without (directories),
accepting only (` + "`--deliver none`" + `) and delivering every message meanwhile (` + "`--deliver discard`" + `). Its engine alone is
package smtp in a small server that keeps nothing. Postfix has its defaults, its discard transport, and its log in a file;
go-smtp and smtpd are small servers made with these libraries, which keep nothing, or a synced file a message. The engine asks
to be scheduled as batch work, as the daemon does ([why](performance.md#what-the-ratios-depend-on)); peers are as they come. In clear
the engine is measured without too, and go-smtp with it, for the difference is not one of the libraries.

`

// markdown is the page.
func (p *page) markdown() string {
	var out strings.Builder
	out.WriteString(method)
	write := func(t table) {
		if t.title != "" {
			fmt.Fprintf(&out, "### %s\n\n", t.title)
		}
		if t.text != "" {
			fmt.Fprintf(&out, "%s\n\n", t.text)
		}
		row(&out, t.header)
		row(&out, slices.Repeat([]string{"---"}, len(t.header)))
		for _, r := range t.rows {
			// A row may say why it ends early.
			row(&out, append(slices.Clone(r), make([]string, len(t.header)-len(r))...))
		}
		out.WriteString("\n")
	}
	machine := table{header: []string{"", ""}}
	for _, f := range p.facts {
		machine.rows = append(machine.rows, f[:])
	}
	write(machine)
	if p.note != "" {
		fmt.Fprintf(&out, "Of this run: %s\n\n", p.note)
	}
	if p.missing != nil {
		fmt.Fprintf(&out, "The run ended early, without: %s.\n\n", strings.Join(p.missing, ", "))
	}
	if p.chart != nil {
		fmt.Fprintf(&out, "![%s](%s)\n\n", p.chart.title, chartFile)
	}
	if wanted := p.wanted(); len(wanted.rows) > 0 {
		out.WriteString("## What was wanted\n\n")
		write(wanted)
	}
	for _, s := range p.sections {
		fmt.Fprintf(&out, "## %s\n\n%s\n\n", s.title, s.text)
		for _, t := range s.tables {
			write(t)
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func row(out *strings.Builder, cells []string) {
	fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
}

// wanted is the verdicts of all sections.
func (p *page) wanted() table {
	t := table{
		text: "The word is on the figure with the journal; where it makes no difference, there is one figure. " +
			"Median, and the lowest and highest of the rounds.",
		header: []string{"", "wanted", "measured", "with the journal off", ""},
	}
	for _, s := range p.sections {
		for _, v := range s.verdicts {
			t.rows = append(t.rows, []string{v.what, v.wanted, v.on, v.off, v.word})
		}
	}
	return t
}

// write leaves the page and its chart in a directory.
func (p *page) write(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(p.markdown()), 0o644)
	if err != nil || p.chart == nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, chartFile), []byte(p.chart.svg()), 0o644)
}
