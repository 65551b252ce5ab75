// Package config is the daemon's configuration: one table of keys (see [Keys])
// from which come the parser of files, the --set flag, the printed default, the
// manual's table and what a reload reports. It knows what a value looks like
// and which values fit together, and nothing of what they are used for.
//
// A limit or timeout of zero is its default, a negative one, or "none", is no
// limit. A list that is not given is its default, an empty one is empty.
package config

// Config is a whole configuration, defaults filled in. Each leaf has a [Key].
type Config struct {
	Hostname    Hostname   `toml:"hostname"`
	Domains     []Domain   `toml:"domains"`
	Recipients  []Known    `toml:"recipients"`
	Policies    []Policy   `toml:"policies"`
	Observe     []Policy   `toml:"observe"`
	BareNewline Newline    `toml:"bare_newline"`
	BareFrom    []Network  `toml:"bare_newline_networks"`
	Lenient     []Network  `toml:"lenient_networks"`
	DNSBLExempt []Network  `toml:"dnsbl_exempt_networks"`
	Listeners   []Listener `toml:"listener"`
	Routes      []Route    `toml:"route"`
	Milters     []Milter   `toml:"milter"`
	DNSBLs      []DNSBL    `toml:"dnsbl"`

	Limits        Limits        `toml:"limits"`
	Timeouts      Timeouts      `toml:"timeouts"`
	Queue         Queue         `toml:"queue"`
	Delivery      Delivery      `toml:"delivery"`
	Webhook       Webhook       `toml:"webhook"`
	Command       Command       `toml:"command"`
	Relay         Relay         `toml:"relay"`
	Minted        Minted        `toml:"minted"`
	S3            S3            `toml:"s3"`
	DNS           DNS           `toml:"dns"`
	MailAuth      MailAuth      `toml:"mailauth"`
	Lookup        Lookup        `toml:"recipient_lookup"`
	RateLimit     RateLimit     `toml:"rate_limit"`
	AccessList    AccessList    `toml:"access_list"`
	MaxSize       MaxSize       `toml:"max_size"`
	MaxRecipients MaxRecipients `toml:"max_recipients"`
	Rspamd        Rspamd        `toml:"rspamd"`
	HTTPPolicy    HTTPPolicy    `toml:"http_policy"`
	HTTP          HTTP          `toml:"http"`
	Metrics       Metrics       `toml:"metrics"`
	Log           Log           `toml:"log"`
}

// Listener is one [[listener]].
type Listener struct {
	Name       string     `toml:"name"`
	Address    Endpoint   `toml:"address"`
	SocketMode SocketMode `toml:"socket_mode"`
	Protocol   Protocol   `toml:"protocol"`
	TLS        TLSMode    `toml:"tls"`
	Cert       string     `toml:"cert"`
	Key        string     `toml:"key"`

	Proxy         ProxyMode `toml:"proxy"`
	ProxyNetworks []Network `toml:"proxy_networks"`

	Certificates   []Certificate `toml:"certificate"`
	TLSMin         TLSVersion    `toml:"tls_min"`
	SessionTickets bool          `toml:"session_tickets"`
}

// Certificate is one [[listener.certificate]].
type Certificate struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// Label is how the listener is called: its name, else its address.
func (l Listener) Label() string {
	if l.Name != "" {
		return l.Name
	}
	return l.Address.String()
}

// Limits is [limits].
type Limits struct {
	Connections       Count     `toml:"connections"`
	ConnectionsPerIP  Count     `toml:"connections_per_ip"`
	Exempt            []Network `toml:"exempt"`
	MessageSize       Size      `toml:"message_size"`
	Recipients        Count     `toml:"recipients"`
	Commands          Count     `toml:"commands"`
	Errors            Count     `toml:"errors"`
	RefusedRecipients Count     `toml:"refused_recipients"`
	SessionSize       Size      `toml:"session_size"`
	CommandLine       Count     `toml:"command_line"`
	Header            Size      `toml:"header"`
	HeaderFields      Count     `toml:"header_fields"`
	Received          Count     `toml:"received"`
	Handshakes        Count     `toml:"handshakes"`
	Buffers           Size      `toml:"buffers"`
}

// Timeouts is [timeouts].
type Timeouts struct {
	Command Duration `toml:"command"`
	TLS     Duration `toml:"tls"`
	Proxy   Duration `toml:"proxy"`
	Data    Duration `toml:"data"`
	Write   Duration `toml:"write"`
	Session Duration `toml:"session"`
	Policy  Duration `toml:"policy"`
	Drain   Duration `toml:"drain"`
}

// Queue is [queue].
type Queue struct {
	Path          string   `toml:"path"`
	Fsync         bool     `toml:"fsync"`
	Journal       bool     `toml:"journal"`
	Depth         Count    `toml:"depth"`
	DeadAge       Duration `toml:"dead_age"`
	DeadSpentAge  Duration `toml:"dead_spent_age"`
	DeadSweep     Duration `toml:"dead_sweep"`
	DeadSweepMost Count    `toml:"dead_sweep_most"`
}

// Delivery is [delivery].
type Delivery struct {
	To          Target   `toml:"to"`
	Workers     Count    `toml:"workers"`
	Deadline    Duration `toml:"deadline"`
	Backoff     Duration `toml:"backoff"`
	BackoffCap  Duration `toml:"backoff_cap"`
	GiveUp      Duration `toml:"give_up"`
	MaxAttempts Count    `toml:"max_attempts"`
	Filters     []Filter `toml:"filters"`

	Accept       AcceptMode `toml:"accept"`
	AcceptWithin Duration   `toml:"accept_within"`
	AcceptKeep   bool       `toml:"accept_keep"`
}

// Webhook is [webhook].
type Webhook struct {
	Format     Format   `toml:"format"`
	Secrets    []string `toml:"secrets"`
	SecretFile string   `toml:"secret_file"`
	PublicOnly bool     `toml:"public_only"`
}

// Command is [command].
type Command struct {
	Argv []string `toml:"argv"`
}

// MailAuth is [mailauth].
type MailAuth struct {
	Enforce          bool      `toml:"enforce"`
	Temperror        Temperror `toml:"temperror"`
	AuthservID       Hostname  `toml:"authserv_id"`
	Forwarders       []Network `toml:"forwarders"`
	ForwarderDomains []Domain  `toml:"forwarder_domains"`
	Budget           Duration  `toml:"budget"`
}

// Set reports whether any of it is set to what is no default.
func (m MailAuth) Set() bool {
	return m.Enforce || m.Temperror.String() == "tempfail" || m.AuthservID.String() != "" || m.Forwarders != nil || m.ForwarderDomains != nil ||
		m.Budget.D != Default().MailAuth.Budget.D
}

// DNS is [dns].
type DNS struct {
	Servers []DNSServer `toml:"servers"`
}

// Lookup is [recipient_lookup].
type Lookup struct {
	Delimiters Delimiters `toml:"delimiters"`
	Timeout    Duration   `toml:"timeout"`
	KnownFor   Duration   `toml:"known_for"`
	UnknownFor Duration   `toml:"unknown_for"`
}

// Relay is [relay].
type Relay struct {
	TLS       TLSMode `toml:"tls"`
	TLSCA     string  `toml:"tls_ca"`
	TLSVerify bool    `toml:"tls_verify"`
}

// Minted is [minted].
type Minted struct {
	KeyFile string   `toml:"key_file"`
	Routes  []string `toml:"routes"`
}

// S3 is [s3].
type S3 struct {
	Endpoint      string `toml:"endpoint"`
	Region        string `toml:"region"`
	AccessKey     string `toml:"access_key"`
	SecretKeyFile string `toml:"secret_key_file"`
	Notify        string `toml:"notify"`
}

// RateLimit is [rate_limit].
type RateLimit struct {
	Count          Count    `toml:"count"`
	SenderCount    Count    `toml:"sender_count"`
	RecipientCount Count    `toml:"recipient_count"`
	Window         Duration `toml:"window"`
	Entries        Count    `toml:"entries"`
}

// Limits reports whether any of its counts is set.
func (r RateLimit) Limits() bool {
	return r.Count.N > 0 || r.SenderCount.N > 0 || r.RecipientCount.N > 0
}

// AccessList is [access_list].
type AccessList struct {
	File string `toml:"file"`
}

// MaxSize is [max_size].
type MaxSize struct {
	Size Size `toml:"size"`
}

// MaxRecipients is [max_recipients].
type MaxRecipients struct {
	Count Count `toml:"count"`
}

// HTTP is [http].
type HTTP struct {
	Address HostPort `toml:"address"`
}

// Metrics is [metrics].
type Metrics struct {
	Prefix Prefix `toml:"prefix"`
}

// Log is [log].
type Log struct {
	Format    LogFormat    `toml:"format"`
	Level     LogLevel     `toml:"level"`
	Addresses LogAddresses `toml:"addresses"`
}
