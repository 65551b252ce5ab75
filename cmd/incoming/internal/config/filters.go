package config

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/httppolicy"
	"github.com/incoming-mx/incoming/policy/milter"
	"github.com/incoming-mx/incoming/policy/rspamd"
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

// Rspamd is [rspamd].
type Rspamd struct {
	URL       string    `toml:"url"`
	Password  string    `toml:"password"`
	Timeout   Duration  `toml:"timeout"`
	OnFailure OnFailure `toml:"on_failure"`
	MaxSize   Size      `toml:"max_size"`
}

// HTTPPolicy is [http_policy].
type HTTPPolicy struct {
	URL        string    `toml:"url"`
	Stages     []Stage   `toml:"stages"`
	Secrets    []string  `toml:"secrets"`
	SecretFile string    `toml:"secret_file"`
	Timeout    Duration  `toml:"timeout"`
	OnFailure  OnFailure `toml:"on_failure"`
}

// StageNames is the stages by the names that policies have for them, in order.
func StageNames() (names []string) {
	for s := policy.StageConnect; s <= policy.StageMessage; s++ {
		names = append(names, s.String())
	}
	return names
}

// filterNames is a policy that is a program of its own.
type filterNames struct{}

func (filterNames) check(s string) (string, error) {
	return choose("filter", s, "rspamd", "http_policy", "milter")
}

// Behind reports whether the filter of that name is asked behind the queue.
func (c *Config) Behind(name string) bool {
	return slices.ContainsFunc(c.Delivery.Filters, func(f Filter) bool { return f.String() == name })
}

// checkBehind finds filters behind the queue that are not there.
func (c *Config) checkBehind() error {
	set := map[string]bool{"rspamd": c.Rspamd.URL != "", "http_policy": c.HTTPPolicy.URL != "", "milter": len(c.Milters) > 0}
	for i, f := range c.Delivery.Filters {
		name := f.String()
		switch {
		case !set[name]:
			return at("delivery.filters").says("delivery.filters: %s is named, but not set up; set its keys", name)
		case slices.Contains(c.Delivery.Filters[:i], f):
			return at("delivery.filters").says("delivery.filters: %s is named twice", name)
		case name == "http_policy" && !slices.ContainsFunc(c.HTTPPolicy.Stages, func(s Stage) bool { return s.String() == policy.StageMessage.String() }):
			return at("http_policy.stages", "delivery.filters").says("http_policy.stages: behind the queue it would be asked at message, which is not among them; add it")
		}
	}
	return nil
}

// stageNames is a stage.
type stageNames struct{}

func (stageNames) check(s string) (string, error) { return choose("stage", s, StageNames()...) }

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

func filterKeys() []Key {
	return append(milterKeys(), []Key{
		{Name: "rspamd.url", Example: `"http://127.0.0.1:11333"`, at: func(c *Config) any { return &c.Rspamd.URL },
			Doc: "For the policy rspamd: the URL of its normal worker, which is asked about each message. Default: off"},
		{Name: "rspamd.password", Example: `"…"`, at: func(c *Config) any { return &c.Rspamd.Password },
			Doc: "The password that the worker wants. Default: none"},
		{Name: "rspamd.timeout", Default: "10s", at: func(c *Config) any { return &c.Rspamd.Timeout },
			Doc: "For one message. Past it: on_failure. Those of all filters together must be below timeouts.policy"},
		{Name: "rspamd.on_failure", Default: "tempfail", at: func(c *Config) any { return &c.Rspamd.OnFailure },
			Doc: "What becomes of mail when rspamd cannot be reached, is late or makes no sense: tempfail (451 4.3.0), accept (it goes on unfiltered), reject (554 5.3.0); each is logged and counted"},
		{Name: "rspamd.max_size", Example: `"20MiB"`, at: func(c *Config) any { return &c.Rspamd.MaxSize },
			Doc: `Octets of a message past which rspamd is not asked about it: it passes, with the fact rspamd.action "skipped". Default: no limit of ours`},
		{Name: "http_policy.url", Example: `"https://app.example/policy"`, at: func(c *Config) any { return &c.HTTPPolicy.URL },
			Doc: "For the policy http_policy: the application that is asked, by JSON. Default: off"},
		{Name: "http_policy.stages", Example: `["rcpt", "message"]`, at: func(c *Config) any { return &c.HTTPPolicy.Stages },
			Doc: "When it is asked: connect, hello, mail, rcpt, data, header, message. Required with the url"},
		{Name: "http_policy.secrets", Example: `["whsec_…"]`, at: func(c *Config) any { return &c.HTTPPolicy.Secrets },
			Doc: "Secrets to sign requests with, as webhook.secrets. Default: unsigned"},
		{Name: "http_policy.secret_file", Example: `"/etc/incoming/policy.secret"`, at: func(c *Config) any { return &c.HTTPPolicy.SecretFile },
			Doc: "A file with one secret a line, in place of http_policy.secrets; read again at a reload"},
		{Name: "http_policy.timeout", Default: "5s", at: func(c *Config) any { return &c.HTTPPolicy.Timeout },
			Doc: "For one answer. Past it: on_failure. Those of all filters together must be below timeouts.policy"},
		{Name: "http_policy.on_failure", Default: "tempfail", at: func(c *Config) any { return &c.HTTPPolicy.OnFailure },
			Doc: "What becomes of mail when the application cannot be reached, is late or makes no sense, as rspamd.on_failure"},
	}...)
}

func ofMilter(at func(*Milter) any) func(*Config, int) any {
	return func(c *Config, i int) any { return at(&c.Milters[i]) }
}

// Spell is how long it may take.
func (m Milter) Spell() time.Duration { return cmp.Or(m.Timeout.D, milter.DefaultTimeout) }

var policyName = regexp.MustCompile(`^[A-Za-z0-9_]{1,40}$`)

func (c *Config) checkFilters() error {
	if err := each(c.Milters, c.checkMilter); err != nil {
		return err
	}
	if err := c.checkAsked(); err != nil {
		return err
	}
	if err := c.checkBehind(); err != nil {
		return err
	}
	return c.checkSpells()
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

// checkAsked finds what is wrong with rspamd and http_policy.
func (c *Config) checkAsked() error {
	r, h := c.Rspamd, c.HTTPPolicy
	switch {
	case r.URL == "" && c.names("rspamd"):
		return at("rspamd.url", "policies").says(`rspamd.url: not set, but the policy rspamd is named; set it, such as "http://127.0.0.1:11333"`)
	case h.URL == "" && c.names("http_policy"):
		return at("http_policy.url", "policies").says("http_policy.url: not set, but the policy http_policy is named; set it to the application's URL")
	case h.URL != "" && len(h.Stages) == 0:
		return at("http_policy.stages", "http_policy.url").says(`http_policy.stages: not set; name the stages at which the application is to be asked, such as ["rcpt"]`)
	case len(h.Secrets) > 0 && h.SecretFile != "":
		return at("http_policy.secret_file").says("http_policy.secret_file: http_policy.secrets is set too; keep one")
	}
	if r.URL != "" {
		if _, err := rspamd.New(rspamd.Options{URL: r.URL}); err != nil {
			return at("rspamd.url").says("rspamd.url: %s", strings.TrimPrefix(err.Error(), "rspamd: "))
		}
	}
	if h.URL != "" {
		if _, err := httppolicy.New(httppolicy.Options{URL: h.URL, Stages: []policy.Stage{policy.StageRcpt}}); err != nil {
			return at("http_policy.url").says("http_policy.url: %s", strings.TrimPrefix(err.Error(), "http_policy: "))
		}
	}
	return nil
}

// spell is how long a filter may take.
type spell struct {
	who, key string
	takes    time.Duration
}

func (c *Config) spells() (all []spell) {
	for _, m := range c.Milters {
		all = append(all, spell{"milter " + m.Name, "milter.timeout", m.Spell()})
	}
	if c.Rspamd.URL != "" {
		all = append(all, spell{"rspamd", "rspamd.timeout", c.Rspamd.Timeout.D})
	}
	if c.HTTPPolicy.URL != "" {
		all = append(all, spell{"http_policy", "http_policy.timeout", c.HTTPPolicy.Timeout.D})
	}
	return all
}

// checkSpells finds filters that together may take longer than the policies have,
// so that what is configured for their failure could not be done any more.
func (c *Config) checkSpells() error {
	if c.Timeouts.Policy.D < 0 {
		return nil
	}
	var all time.Duration
	var keys []string
	for _, s := range c.spells() {
		if s.takes < 0 {
			return at(s.key).says("%s: without a timeout its on_failure would never be done; set one below timeouts.policy", s.who)
		}
		all += s.takes
		keys = append(keys, s.key)
	}
	if all >= c.Timeouts.Policy.D {
		return at(append(keys, "milter.name", "timeouts.policy")...).says("timeouts.policy: the filters may take %v together, and all policies have %v; raise it above, or lower their timeouts",
			all, c.Timeouts.Policy.D)
	}
	return nil
}
