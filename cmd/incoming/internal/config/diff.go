package config

import (
	"slices"
	"strings"
)

// Change is one key that two configurations differ in.
type Change struct {
	Key     string `json:"key"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Restart bool   `json:"restart"` // a reload cannot change it
}

// hidden stands for the values of secrets, which are reported as changed only.
const hidden = "(not shown)"

// Diff is the keys in which b differs from a, in the table's order. The tables of
// a list are compared by their labels; that one came or went, or another order
// where that counts, is a change of the list, such as "listener".
func Diff(a, b *Config) []Change {
	var changes []Change
	for _, k := range Keys() {
		for _, p := range k.pairs(a, b) {
			before, after := show(p[0]), show(p[1])
			if before == after && unset(p[0]) == unset(p[1]) {
				continue
			}
			changes = append(changes, Change{Key: k.Name, Old: k.shown(p[0]), New: k.shown(p[1]), Restart: k.Restart})
		}
	}
	for _, l := range lists() {
		if before, after := l.labels(a), l.labels(b); before != after {
			changes = append(changes, Change{Key: l.name, Old: before, New: after, Restart: l.restart})
		}
	}
	return changes
}

// shown is the value at p as a log may show it.
func (k Key) shown(p any) string {
	switch t := p.(type) {
	case *Target:
		return quote(t.Redacted())
	case *[]Target:
		var shown []string
		for _, to := range *t {
			shown = append(shown, quote(to.Redacted()))
		}
		return "[" + strings.Join(shown, ", ") + "]"
	case *[]Known:
		var shown []string
		for _, r := range *t {
			text := r.String()
			if kind, url := sourceOf(text); kind == "url" {
				text = Redacted(url)
			}
			shown = append(shown, quote(text))
		}
		return "[" + strings.Join(shown, ", ") + "]"
	}
	switch k.Name {
	case "webhook.secrets", "http_policy.secrets", "rspamd.password":
		return hidden
	case "rspamd.url", "http_policy.url":
		return quote(Redacted(*p.(*string)))
	}
	return show(p)
}

// pairs is where the key's values are in a and in b, for each table that
// both have.
func (k Key) pairs(a, b *Config) [][2]any {
	if k.at != nil {
		return [][2]any{{k.at(a), k.at(b)}}
	}
	var ps [][2]any
	l := listOf(k)
	for i := range l.n(a) {
		for j := range l.n(b) {
			if l.label(a, i) == l.label(b, j) {
				ps = append(ps, [2]any{k.in(a, i), k.in(b, j)})
			}
		}
	}
	return ps
}

// Reloaded is what runs after a reload from running to wanted: wanted, with
// those keys that need a restart, and the listeners but for their certificates
// and PROXY networks, left as they are.
func Reloaded(running, wanted *Config) *Config {
	c := wanted.Clone()
	c.Listeners = slices.Clone(running.Listeners)
	for _, k := range Keys() {
		if k.Restart && k.at != nil {
			copyValue(k.at(c), k.at(running))
		}
	}
	for i := range c.Listeners {
		for _, l := range wanted.Listeners {
			if l.Label() != c.Listeners[i].Label() {
				continue
			}
			c.Listeners[i].Proxy, c.Listeners[i].ProxyNetworks = l.Proxy, l.ProxyNetworks
			// A certificate belongs to the TLS mode that it was given for.
			if to := &c.Listeners[i]; l.TLS == to.TLS {
				to.Cert, to.Key, to.Certificates = l.Cert, l.Key, l.Certificates
				to.TLSMin, to.SessionTickets = l.TLSMin, l.SessionTickets
			}
		}
	}
	return c
}
