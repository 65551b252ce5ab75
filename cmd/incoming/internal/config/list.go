package config

import "strings"

// list is a key whose value is tables, such as [[listener]].
type list struct {
	name  string
	intro string // what stands above it in Render
	// needed: there is one at least, with the defaults. Else no key of it has
	// a default.
	needed bool
	// restart: that a table comes or goes wants a restart.
	restart bool
	n       func(*Config) int
	label   func(*Config, int) string
	one     func(*Config) // gives it one table
}

func lists() []list {
	return []list{
		{name: "listener", intro: "One of these for each address to listen on.", needed: true, restart: true,
			n:     func(c *Config) int { return len(c.Listeners) },
			label: func(c *Config, i int) string { return c.Listeners[i].Label() },
			one:   func(c *Config) { c.Listeners = make([]Listener, 1) }},
		{name: "route", intro: "One of these for each route, asked in this order; who goes by none goes to delivery.to.",
			n:     func(c *Config) int { return len(c.Routes) },
			label: func(c *Config, i int) string { return c.Routes[i].Name },
			one:   func(c *Config) { c.Routes = make([]Route, 1) }},
		{name: "milter", intro: "One of these for each milter, asked in this order.",
			n:     func(c *Config) int { return len(c.Milters) },
			label: func(c *Config, i int) string { return c.Milters[i].Name },
			one:   func(c *Config) { c.Milters = make([]Milter, 1) }},
		{name: "dnsbl", intro: "One of these for each DNS blocklist to ask.",
			n:     func(c *Config) int { return len(c.DNSBLs) },
			label: func(c *Config, i int) string { return c.DNSBLs[i].Zone },
			one:   func(c *Config) { c.DNSBLs = make([]DNSBL, 1) }},
	}
}

// listOf is the list that a key is of.
func listOf(k Key) list {
	for _, l := range lists() {
		if l.name == k.list() {
			return l
		}
	}
	return list{n: func(*Config) int { return 0 }} // of a key that is of none
}

func ofListener(at func(*Listener) any) func(*Config, int) any {
	return func(c *Config, i int) any { return at(&c.Listeners[i]) }
}

func ofRoute(at func(*Route) any) func(*Config, int) any {
	return func(c *Config, i int) any { return at(&c.Routes[i]) }
}

func ofDNSBL(at func(*DNSBL) any) func(*Config, int) any {
	return func(c *Config, i int) any { return at(&c.DNSBLs[i]) }
}

// labels is the labels of the list's tables in c.
func (l list) labels(c *Config) string {
	var names []string
	for i := range l.n(c) {
		names = append(names, l.label(c, i))
	}
	return strings.Join(names, ", ")
}
