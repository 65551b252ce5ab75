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
// are compared by their place in the list; one that came or went is the change
// "listener".
func Diff(a, b *Config) []Change {
	var changes []Change
	for _, k := range Keys() {
		ps, qs := k.places(a), k.places(b)
		for i := range min(len(ps), len(qs)) {
			before, after := show(ps[i]), show(qs[i])
			if before == after && unset(ps[i]) == unset(qs[i]) {
				continue
			}
			if strings.HasPrefix(k.Name, "webhook.secrets") {
				before, after = hidden, hidden
			}
			changes = append(changes, Change{Key: k.Name, Old: before, New: after, Restart: k.Restart})
		}
	}
	if len(a.Listeners) != len(b.Listeners) {
		changes = append(changes, Change{Key: "listener", Old: labels(a), New: labels(b), Restart: true})
	}
	return changes
}

func labels(c *Config) string {
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Label())
	}
	return strings.Join(names, ", ")
}

// Reloaded is what runs after a reload from running to wanted: wanted, with
// those keys that need a restart left as they are.
func Reloaded(running, wanted *Config) *Config {
	c := wanted.Clone()
	old := running.Clone()
	c.Listeners = slices.Clone(old.Listeners)
	for _, k := range Keys() {
		if k.Restart && k.at != nil {
			copyValue(k.at(c), k.at(old))
		}
	}
	return c
}
