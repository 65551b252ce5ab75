package main

import (
	"fmt"
	"slices"
	"strings"
)

// section is one measurement's part of the page.
type section struct {
	title, text string
	header      []string
	rows        [][]string
	verdicts    []verdict
}

// verdict holds a figure against what was wanted of it.
type verdict struct {
	what, wanted, got string
	ok                bool
}

// page is the Markdown.
type page struct {
	out      strings.Builder
	verdicts []verdict
}

func newPage() *page {
	p := &page{}
	p.out.WriteString("# Benchmarks\n\n" +
		"Written by `go -C test/bench run . -write`. Absolute figures move from machine to machine and from run to run: compare only\n" +
		"those of one run.\n\n" +
		"Every server is a process of its own (Postfix: an instance of its own, with its own configuration, queue and data) that\n" +
		"listens on a loopback port and writes to one file system. Client and server share the processors. Each round gives each\n" +
		"server one turn, and begins with another server than the round before; before a turn is timed, a tenth of its messages\n" +
		"warm the server. What servers are held against is the median over the rounds of the ratio of two turns of one round.\n" +
		"Incoming is the daemon as built by `go build ./cmd/incoming`, with `--deliver discard`, and its log, two lines a message,\n" +
		"written to a file. Postfix has its defaults, its discard transport, and its log in a file.\n\n")
	return p
}

func (p *page) facts(facts [][2]string) {
	p.out.WriteString("| | |\n|---|---|\n")
	for _, f := range facts {
		fmt.Fprintf(&p.out, "| %s | %s |\n", f[0], f[1])
	}
	p.out.WriteString("\n")
}

func (p *page) section(s section) {
	fmt.Fprintf(&p.out, "## %s\n\n%s\n\n", s.title, s.text)
	p.row(s.header)
	p.row(slices.Repeat([]string{"---"}, len(s.header)))
	for _, r := range s.rows {
		p.row(r)
	}
	p.out.WriteString("\n")
	p.verdicts = append(p.verdicts, s.verdicts...)
}

func (p *page) row(cells []string) { fmt.Fprintf(&p.out, "| %s |\n", strings.Join(cells, " | ")) }

// String is the page, the verdicts last.
func (p *page) String() string {
	if len(p.verdicts) > 0 {
		p.out.WriteString("## What was wanted\n\n")
		p.row([]string{"", "wanted", "measured", ""})
		p.row([]string{"---", "---", "---", "---"})
		for _, v := range p.verdicts {
			word := "**missed**"
			if v.ok {
				word = "reached"
			}
			p.row([]string{v.what, v.wanted, v.got, word})
		}
		p.verdicts = nil
	}
	return p.out.String()
}

func each(turns []turn, f func(turn) float64) []float64 {
	all := make([]float64, len(turns))
	for i, t := range turns {
		all[i] = f(t)
	}
	return all
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return 0
	}
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// spread is the median, and the lowest and highest when there are several.
func spread(values []float64, format string) string {
	s := fmt.Sprintf(format, median(values))
	if len(values) < 2 {
		return s
	}
	return s + " (" + fmt.Sprintf(format, slices.Min(values)) + " to " + fmt.Sprintf(format, slices.Max(values)) + ")"
}
