// Package metrics turns telemetry into Prometheus metrics. docs/metrics.md lists
// them; a test holds it against the code.
//
// A metric is named by its fact: prefix, dots as underscores, and _total,
// _seconds or _bytes. No label carries an address, a domain or text, and each
// has few values: past a bound further ones are counted as "other".
package metrics

import (
	"fmt"
	"net/http"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/incoming-mx/incoming/telemetry"
)

// Options may be nil: the defaults.
type Options struct {
	// Prefix is what metric names begin with, without the underscore behind
	// it; "" is "incoming".
	Prefix string
}

// Exporter keeps the metrics of one server. It is a prometheus.Collector, for
// those who have a registry of their own.
type Exporter struct {
	prefix   string
	facts    facts
	all      []metric
	registry *prometheus.Registry
}

// New makes an Exporter with a registry of its own, which also has the metrics
// of the process and of Go, by their usual names. It is an error when the prefix
// is none.
func New(o *Options) (*Exporter, error) {
	e := &Exporter{prefix: "incoming", registry: prometheus.NewRegistry()}
	if o != nil && o.Prefix != "" {
		e.prefix = o.Prefix
	}
	if !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(e.prefix) {
		return nil, fmt.Errorf("metrics: %q cannot begin a metric's name: use letters, digits and underscores", e.prefix)
	}
	e.facts = newFacts(e)
	e.registry.MustRegister(e, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return e, nil
}

// Handler serves the metrics of the Exporter's own registry.
func (e *Exporter) Handler() http.Handler {
	return promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (e *Exporter) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range e.all {
		m.collector.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	for _, m := range e.all {
		m.collector.Collect(ch)
	}
}

var _ prometheus.Collector = (*Exporter)(nil)

// Hooks is the funcs that count. The dialogue is not counted.
func (e *Exporter) Hooks() telemetry.Hooks { return e.facts.hooks() }

// metric is one metric as it is documented.
type metric struct {
	name, kind, help string
	labels           []string
	collector        prometheus.Collector
}

func (e *Exporter) add(kind, name, help string, labels []string, c prometheus.Collector) {
	e.all = append(e.all, metric{name: name, kind: kind, help: help, labels: labels, collector: c})
}

func (e *Exporter) counter(name, help string, labels ...string) *counter {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: e.prefix + "_" + name, Help: help}, labels)
	e.add("counter", name, help, labels, v)
	if len(labels) == 0 {
		v.WithLabelValues() // there from the start, as 0
	}
	return &counter{v, newBounds(labels)}
}

func (e *Exporter) gauge(name, help string, labels ...string) *gauge {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: e.prefix + "_" + name, Help: help}, labels)
	e.add("gauge", name, help, labels, v)
	if len(labels) == 0 {
		v.WithLabelValues() // there from the start, as 0
	}
	return &gauge{v, newBounds(labels)}
}

func (e *Exporter) histogram(buckets []float64, name, help string, labels ...string) *histogram {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: e.prefix + "_" + name, Help: help, Buckets: buckets}, labels)
	e.add("histogram", name, help, labels, v)
	if len(labels) == 0 {
		v.WithLabelValues() // there from the start, as 0
	}
	return &histogram{v, newBounds(labels)}
}

type counter struct {
	vec    *prometheus.CounterVec
	bounds bounds
}

func (c *counter) inc(labels ...string) { c.add(1, labels...) }
func (c *counter) add(n float64, labels ...string) {
	c.vec.WithLabelValues(c.bounds.keep(labels)...).Add(max(n, 0))
}

type gauge struct {
	vec    *prometheus.GaugeVec
	bounds bounds
}

func (g *gauge) set(v float64, labels ...string) {
	g.vec.WithLabelValues(g.bounds.keep(labels)...).Set(v)
}
func (g *gauge) remove(labels ...string) { g.vec.DeleteLabelValues(g.bounds.keep(labels)...) }
func (g *gauge) add(v float64, labels ...string) {
	g.vec.WithLabelValues(g.bounds.keep(labels)...).Add(v)
}

type histogram struct {
	vec    *prometheus.HistogramVec
	bounds bounds
}

func (h *histogram) observe(v float64, labels ...string) {
	h.vec.WithLabelValues(h.bounds.keep(labels)...).Observe(v)
}
