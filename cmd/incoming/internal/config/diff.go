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

// Diff is the keys in which b differs from a, in the table's order. Listeners
// are compared by their labels; that one came or went is the change "listener".
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
	if labels(a) != labels(b) {
		changes = append(changes, Change{Key: "listener", Old: labels(a), New: labels(b), Restart: true})
	}
	return changes
}

// shown is the value at p as a log may show it.
func (k Key) shown(p any) string {
	if t, is := p.(*Target); is {
		return quote(t.Redacted())
	}
	if k.Name == "webhook.secrets" {
		return hidden
	}
	return show(p)
}

// pairs is where the key's values are in a and in b, for each listener that
// both have.
func (k Key) pairs(a, b *Config) [][2]any {
	if k.at != nil {
		return [][2]any{{k.at(a), k.at(b)}}
	}
	var ps [][2]any
	for i := range a.Listeners {
		for j := range b.Listeners {
			if a.Listeners[i].Label() == b.Listeners[j].Label() {
				ps = append(ps, [2]any{k.in(&a.Listeners[i]), k.in(&b.Listeners[j])})
			}
		}
	}
	return ps
}

func labels(c *Config) string {
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Label())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
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
