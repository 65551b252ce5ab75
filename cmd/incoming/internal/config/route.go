package config

import (
	"fmt"
	"regexp"
	"slices"
)

// Route is one [[route]]: all that is given must be met.
type Route struct {
	Name        string             `toml:"name"`
	Domain      []string           `toml:"domain"`
	Address     []string           `toml:"address"`
	Plus        Pattern            `toml:"plus"`
	Recipient   Pattern            `toml:"recipient"`
	Sender      Pattern            `toml:"sender"`
	Header      map[string]Pattern `toml:"header"`
	Fact        map[string]any     `toml:"fact"`
	Minted      []string           `toml:"minted"`
	Quarantined bool               `toml:"quarantined"`
	To          []Target           `toml:"to"`
	AtOnce      Count              `toml:"at_once"`
	Backoff     Duration           `toml:"backoff"`
	BackoffCap  Duration           `toml:"backoff_cap"`
	GiveUp      Duration           `toml:"give_up"`
	MaxAttempts Count              `toml:"max_attempts"`
	DeadAge     Duration           `toml:"dead_age"`

	Accept       AcceptMode `toml:"accept"`
	AcceptWithin Duration   `toml:"accept_within"`
	AcceptKeep   bool       `toml:"accept_keep"`
}

// Pattern is a regular expression (RE2); nil is none.
type Pattern struct{ *regexp.Regexp }

// UnmarshalText compiles text; "" is none.
func (p *Pattern) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		p.Regexp = nil
		return nil
	}
	re, err := regexp.Compile(string(text))
	if err != nil {
		return fmt.Errorf("%q is no regular expression: %w", text, err)
	}
	p.Regexp = re
	return nil
}

func (p Pattern) String() string {
	if p.Regexp == nil {
		return ""
	}
	return p.Regexp.String()
}

// FactValue is v as facts hold it; false when no fact can.
func FactValue(v any) (any, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case string, bool, float64:
		return v, true
	}
	return nil, false
}

func routeKeys() []Key {
	return []Key{
		{Name: "route.name", Example: `"support"`, in: ofRoute(func(r *Route) any { return &r.Name }),
			Doc: "What the log and incoming route test call it. Required, and not \"rest\": that is where delivery.to is meant"},
		{Name: "route.domain", Example: `["support.example.org", "*.tickets.example.org"]`, in: ofRoute(func(r *Route) any { return &r.Domain }),
			Doc: "The recipient's domain is one of these, or by *. is under it; compared by A-label"},
		{Name: "route.address", Example: `["help@example.org"]`, in: ofRoute(func(r *Route) any { return &r.Address }),
			Doc: "The recipient is one of these, or one of these with a plus-part; compared without case and by A-label"},
		{Name: "route.plus", Example: `"ticket-[0-9]+"`, in: ofRoute(func(r *Route) any { return &r.Plus }),
			Doc: "The recipient has a plus-part (help+ticket-7@example.org), and this regular expression matches all of it, in lower case"},
		{Name: "route.recipient", Example: `"^sales[^@]*@"`, in: ofRoute(func(r *Route) any { return &r.Recipient }),
			Doc: "This regular expression matches in the recipient's address, in lower case and with its domain in A-labels"},
		{Name: "route.sender", Example: `"@example[.]net$"`, in: ofRoute(func(r *Route) any { return &r.Sender }),
			Doc: "This one matches in the reverse-path, likewise; ^$ is the null sender"},
		{Name: "route.header", Example: `{Subject = "(?i)invoice"}`, in: ofRoute(func(r *Route) any { return &r.Header }),
			Doc: "The message has each of these fields, and the regular expression matches in its decoded value; an empty one matches any"},
		{Name: "route.fact", Example: `{"customers.number" = 4711}`, in: ofRoute(func(r *Route) any { return &r.Fact }),
			Doc: "The message has each of these facts with that string, number or truth value; behind a / the key may go on with the way to a part of it (RFC 6901)"},
		{Name: "route.minted", Example: `["tickets"]`, in: ofRoute(func(r *Route) any { return &r.Minted }),
			Doc: "The recipient is an address that was minted for one of these (minted.routes), and not forged"},
		{Name: "route.quarantined", Example: "true", in: ofRoute(func(r *Route) any { return &r.Quarantined }),
			Doc: "For messages that a policy has marked only. Default: for all"},
		{Name: "route.to", Example: `["https://app.example/mail", "maildir:archive"]`, in: ofRoute(func(r *Route) any { return &r.To }),
			Doc: "Where it leads, each as in delivery.to. A recipient is done when all have taken it. Required"},
		{Name: "route.at_once", Example: "4", in: ofRoute(func(r *Route) any { return &r.AtOnce }),
			Doc: "Deliveries in hand at once, to each of its places. Past it a message waits a second, which costs no attempt. Default: delivery.workers"},
		{Name: "route.backoff", Example: `"10s"`, in: ofRoute(func(r *Route) any { return &r.Backoff }),
			Doc: "As delivery.backoff, for this route. Default: that"},
		{Name: "route.backoff_cap", Example: `"1h"`, in: ofRoute(func(r *Route) any { return &r.BackoffCap }),
			Doc: "As delivery.backoff_cap, where route.backoff is given. Default: 10 minutes"},
		{Name: "route.give_up", Example: `"24h"`, in: ofRoute(func(r *Route) any { return &r.GiveUp }),
			Doc: "As delivery.give_up, which holds all the same. Default: none of its own"},
		{Name: "route.max_attempts", Example: "20", in: ofRoute(func(r *Route) any { return &r.MaxAttempts }),
			Doc: "As delivery.max_attempts, which holds all the same; attempts for other recipients of the message count too. Default: none of its own"},
		{Name: "route.dead_age", Example: `"24h"`, in: ofRoute(func(r *Route) any { return &r.DeadAge }),
			Doc: "How long its dead letters are kept, whatever their kind; none: for ever. One of several routes is kept as long as any of them wants. Default: queue.dead_age and queue.dead_spent_age"},
		{Name: "route.accept", Example: `"sync"`, in: ofRoute(func(r *Route) any { return &r.Accept }),
			Doc: "As delivery.accept, for this route. A message whose recipients take several goes by the one that binds its sender least: durable before hybrid before sync. Default: durable"},
		{Name: "route.accept_within", Example: `"10s"`, in: ofRoute(func(r *Route) any { return &r.AcceptWithin }),
			Doc: "As delivery.accept_within. Default: 20 seconds"},
		{Name: "route.accept_keep", Example: "true", in: ofRoute(func(r *Route) any { return &r.AcceptKeep }),
			Doc: "As delivery.accept_keep. Default: false"},
	}
}

// Rest is what the route is called that delivery.to makes.
const Rest = "rest"

func (c *Config) checkRoute(r Route, before []Route) *conflict {
	none := func(t Target) bool { return t.Kind == ToNone }
	switch {
	case r.Name == "":
		return at("route.to").says("route: one has no name; give each a name")
	case r.Name == Rest:
		return at("route.name").says("route %s: that is what delivery.to is called; take another name", r.Name)
	case slices.ContainsFunc(before, func(o Route) bool { return o.Name == r.Name }):
		return at("route.name").says("route %s: there are two by that name; give each a name of its own", r.Name)
	case len(r.To) == 0:
		return at("route.name").says(`route %s: it leads nowhere; set to, such as ["maildir:mail/%s"]`, r.Name, r.Name)
	case slices.ContainsFunc(r.To, none):
		return at("route.to").says("route %s: none is no place for a route; for what is to be forgotten write discard", r.Name)
	case none(c.Delivery.To):
		return at("delivery.to", "route.name").says("delivery.to: none keeps all messages in the queue, and there are routes; set it to where those go that no route is for")
	case r.AtOnce.N < 0:
		return at("route.at_once").says("route %s: at_once is below 1", r.Name)
	case !r.conditional():
		return at("route.name").says("route %s: it has no condition; delivery.to is where those go that no route is for", r.Name)
	}
	for _, name := range r.Minted {
		if !slices.Contains(c.Minted.Routes, name) {
			return at("route.minted", "route.name").says("route %s: nothing is minted for %s, so that it would never be met; add it to minted.routes", r.Name, name)
		}
	}
	for key, v := range r.Fact {
		if _, ok := FactValue(v); !ok {
			return at("route.fact").says("route %s: fact %s: it is neither a string, a number nor a truth value", r.Name, key)
		}
	}
	for i, t := range r.To {
		if err := c.checkTarget("route.to", t); err != nil {
			err.text = "route " + r.Name + ": " + err.text
			return err
		}
		if slices.ContainsFunc(r.To[:i], func(o Target) bool { return o.text == t.text }) {
			return at("route.to").says("route %s: %s is given twice", r.Name, t.Redacted())
		}
	}
	return nil
}

func (r Route) conditional() bool {
	return len(r.Domain) > 0 || len(r.Address) > 0 || r.Plus.Regexp != nil || r.Recipient.Regexp != nil || r.Sender.Regexp != nil ||
		len(r.Header) > 0 || len(r.Fact) > 0 || len(r.Minted) > 0 || r.Quarantined
}
