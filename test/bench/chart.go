package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// chart is bars in groups, drawn lying.
type chart struct {
	title  string
	series []string // one colour each
	groups []group
}

// group is one server's bars, one for each of the series.
type group struct {
	name string
	bars []bar
}

// bar is a median with the lowest and highest round.
type bar struct{ value, low, high float64 }

// chart is what was accepted a second; nil when that was not measured.
func (b *bench) chart() *chart {
	c := &chart{
		title:  "Messages accepted a second, 4 KB, plain: median, lowest and highest round",
		series: []string{"20 connections", "100 connections"},
	}
	for _, s := range b.servers() {
		g := group{name: s.name}
		for _, at := range []cell{main20, main100} {
			if rates := b.turns.rates(at, s.name); len(rates) > 0 {
				g.bars = append(g.bars, bar{median(rates), slices.Min(rates), slices.Max(rates)})
			}
		}
		if len(g.bars) == len(c.series) {
			c.groups = append(c.groups, g)
		}
	}
	if len(c.groups) == 0 {
		return nil
	}
	return c
}

// Measures of the drawing, in pixels.
const (
	chartWidth  = 860
	chartLeft   = 250 // names end here
	chartRight  = 90  // for the figure behind the longest bar
	barHeight   = 13
	groupHeight = 40
	chartTop    = 64
)

var chartColours = []string{"#8fb3d9", "#2f6ba8"}

// svg draws the chart, on white, so that it can be read on any page.
func (c *chart) svg() string {
	height := chartTop + groupHeight*len(c.groups) + 12
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="12">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&out, "<title>%s</title>\n", html.EscapeString(c.title))
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	text(&out, 12, 22, "start", c.title, ` font-weight="bold" font-size="14"`)
	for i, s := range c.series {
		x := chartLeft + 150*i
		fmt.Fprintf(&out, `<rect x="%d" y="36" width="12" height="12" fill="%s"/>`+"\n", x, chartColours[i])
		text(&out, x+18, 46, "start", s, "")
	}
	for i, g := range c.groups {
		c.draw(&out, g, chartTop+groupHeight*i)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// draw is one group, from y down.
func (c *chart) draw(out *strings.Builder, g group, y int) {
	text(out, chartLeft-10, y+barHeight+5, "end", g.name, "")
	for i, b := range g.bars {
		top := y + i*(barHeight+2)
		middle := float64(top) + barHeight/2.0
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", chartLeft, top, c.length(b.value), barHeight, chartColours[i])
		fmt.Fprintf(out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222222"/>`+"\n",
			chartLeft+c.length(b.low), middle, chartLeft+c.length(b.high), middle)
		text(out, chartLeft+int(c.length(b.high))+6, top+barHeight-2, "start", fmt.Sprintf("%.0f", b.value), ` font-size="11"`)
	}
}

// length is a value's in pixels.
func (c *chart) length(v float64) float64 {
	var most float64
	for _, g := range c.groups {
		for _, b := range g.bars {
			most = max(most, b.high)
		}
	}
	return v / most * (chartWidth - chartLeft - chartRight)
}

func text(out *strings.Builder, x, y int, anchor, s, more string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="%s" fill="#222222"%s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(s))
}
