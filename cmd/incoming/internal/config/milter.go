package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/policy/milter"
)

// Milter is one [[milter]].
type Milter struct {
	Name      string    `toml:"name"`
	Address   string    `toml:"address"`
	Timeout   Duration  `toml:"timeout"`
	OnFailure OnFailure `toml:"on_failure"`
	Early     bool      `toml:"early"`
	Observe   bool      `toml:"observe"`
}

// failureActions is what may be done when a filter fails; "" is tempfail.
type failureActions struct{}

func (failureActions) check(s string) (string, error) {
	return choose("failure action", s, "tempfail", "accept", "reject")
}

func milterKeys() []Key {
	return []Key{
		{Name: "milter.name", Example: `"rspamd"`, in: ofMilter(func(m *Milter) any { return &m.Name }),
			Doc: "What the log and metrics call it, behind milter_: letters, digits and underscores. Required"},
		{Name: "milter.address", Example: `"inet:127.0.0.1:11332"`, in: ofMilter(func(m *Milter) any { return &m.Address }),
			Doc: "Where the milter listens: inet:HOST:PORT or unix:/path. Required"},
		{Name: "milter.timeout", Example: `"20s"`, in: ofMilter(func(m *Milter) any { return &m.Timeout }),
			Doc: "For all that is said to it about one message. Past it: on_failure. Those of all filters together must be below timeouts.policy. Default: 10 seconds"},
		{Name: "milter.on_failure", Example: `"accept"`, in: ofMilter(func(m *Milter) any { return &m.OnFailure }),
			Doc: "What becomes of mail when it cannot be reached, is late or makes no sense: tempfail (451 4.3.0), accept (it goes on unfiltered), reject (554 5.3.0); each is logged and counted. Default: tempfail"},
		{Name: "milter.early", Example: "true", in: ofMilter(func(m *Milter) any { return &m.Early }),
			Doc: "Whether to ask it at each RCPT too, for a milter that judges clients, senders or recipients: what it refuses is then refused there, of several recipients that one alone. Default: after the text only"},
		{Name: "milter.observe", Example: "true", in: ofMilter(func(m *Milter) any { return &m.Observe }),
			Doc: "Whether it is only to say what it would do, as by observe. Default: no"},
	}
}

func ofMilter(at func(*Milter) any) func(*Config, int) any {
	return func(c *Config, i int) any { return at(&c.Milters[i]) }
}

// Spell is how long it may take.
func (m Milter) Spell() time.Duration {
	if m.Timeout.D == 0 {
		return milter.DefaultTimeout
	}
	return m.Timeout.D
}

var policyName = regexp.MustCompile(`^[A-Za-z0-9_]{1,40}$`)

func (c *Config) checkMilters() error {
	for i, m := range c.Milters {
		if err := c.checkMilter(m, c.Milters[:i]); err != nil {
			err.nth = i
			return err
		}
	}
	return nil
}

func (c *Config) checkMilter(m Milter, before []Milter) *conflict {
	switch {
	case m.Name == "":
		return at("milter.address").says("milter: one has no name; give each a name")
	case !policyName.MatchString(m.Name):
		return at("milter.name").says("milter %s: metrics are called by that; use letters, digits and underscores, 40 at most", m.Name)
	case slices.ContainsFunc(before, func(o Milter) bool { return o.Name == m.Name }):
		return at("milter.name").says("milter %s: there are two by that name; give each a name of its own", m.Name)
	}
	if _, err := milter.New(milter.Options{Address: m.Address}); err != nil {
		return at("milter.address", "milter.name").says("milter %s: %s", m.Name, strings.TrimPrefix(err.Error(), "milter: "))
	}
	return nil
}

// checkSpells finds filters that together may take longer than the policies have,
// so that what is configured for their failure could not be done any more.
func (c *Config) checkSpells() error {
	if c.Timeouts.Policy.D < 0 {
		return nil
	}
	var all time.Duration
	var keys []string
	for _, m := range c.Milters {
		if m.Spell() < 0 {
			return at("milter.timeout").says("milter %s: without a timeout its on_failure would never be done; set one below timeouts.policy", m.Name)
		}
		all += m.Spell()
		keys = append(keys, "milter.timeout", "milter.name")
	}
	if all >= c.Timeouts.Policy.D {
		return at(append(keys, "timeouts.policy")...).says("timeouts.policy: the filters may take %v together, and all policies have %v; raise it above, or lower their timeouts",
			all, c.Timeouts.Policy.D)
	}
	return nil
}
