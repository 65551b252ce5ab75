package main

import (
	"fmt"
	"slices"
)

// verdict holds a figure against what was wanted of it.
type verdict struct {
	what, wanted string
	on, off      string // with the journal on, and off; off is empty where it is no matter
	word         string
}

// What a verdict's word may be.
const (
	reached     = "reached"
	missed      = "**missed**"
	notMeasured = "not measured"
)

// bound is what a figure has to keep to.
type bound struct {
	value        float64
	most         bool   // else least
	format, unit string // of a figure
}

func atLeast(v float64, format, unit string) bound { return bound{v, false, format, unit} }
func atMost(v float64, format, unit string) bound  { return bound{v, true, format, unit} }

func (b bound) String() string {
	word := "at least "
	if b.most {
		word = "at most "
	}
	return word + fmt.Sprint(b.value) + b.unit
}

func (b bound) kept(v float64) bool {
	if b.most {
		return v <= b.value
	}
	return v >= b.value
}

// hold holds the median of the figures with the journal against a bound, and
// shows those without beside them. No figures are a server that was not there.
func hold(what string, b bound, on, off []float64) verdict {
	v := verdict{what: what, wanted: b.String(), on: notMeasured, word: notMeasured}
	show := func(values []float64) string { return spread(values, b.format) + b.unit }
	if len(on) > 0 {
		v.on, v.word = show(on), missed
		if b.kept(median(on)) {
			v.word = reached
		}
	}
	if len(off) > 0 {
		v.off = show(off)
	}
	return v
}

// rotated is all, beginning with the by-th, and with the first again after the last:
// in each round another one comes first.
func rotated[T any](all []T, by int) []T {
	by %= len(all)
	return slices.Concat(all[by:], all[:by])
}

func each[T any](turns []T, f func(T) float64) []float64 {
	all := make([]float64, len(turns))
	for i, t := range turns {
		all[i] = f(t)
	}
	return all
}

// divide is a[i]/b[i]; nothing when one of the two was not measured.
func divide(a, b []float64) []float64 {
	if len(a) != len(b) {
		return nil
	}
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return all
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile is the value below which the fraction q of the values lies; the mean
// of two when it falls between them.
func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return 0
	}
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return v[i]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// spread is the median, and the lowest and highest when there are several.
func spread(values []float64, format string) string {
	s := fmt.Sprintf(format, median(values))
	if len(values) < 2 {
		return s
	}
	return s + " (" + fmt.Sprintf(format, slices.Min(values)) + " to " + fmt.Sprintf(format, slices.Max(values)) + ")"
}
