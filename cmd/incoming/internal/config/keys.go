package config

import "strings"

// Key is one option: all that files, --set, the printed default, the manual and
// reload know about it comes from here.
type Key struct {
	// Name is as in a file: "limits.connections".
	Name string
	// Default is its value as --set takes it; "" leaves the zero value.
	Default string
	// Example is shown in the printed default in place of an empty Default.
	Example string
	// Doc says what it does and what happens past it, in one or two
	// sentences without the last full stop.
	Doc string
	// Restart says that a reload cannot change it.
	Restart bool

	at func(*Config) any
	in func(c *Config, i int) any // for the keys of a list's tables
}

// list is the name of the list that the key is of; "" of none.
func (k Key) list() string {
	if k.in == nil {
		return ""
	}
	name, _, _ := strings.Cut(k.Name, ".")
	return name
}

// Keys is the table, in the order in which it is printed. The keys of a list's
// tables, such as [[listener]], are named "listener.…".
func Keys() []Key {
	keys := generalKeys()
	keys = append(keys, listenerKeys()...)
	keys = append(keys, limitKeys()...)
	keys = append(keys, timeoutKeys()...)
	keys = append(keys, queueKeys()...)
	keys = append(keys, deliveryKeys()...)
	keys = append(keys, routeKeys()...)
	keys = append(keys, policyKeys()...)
	keys = append(keys, dnsblKeys()...)
	keys = append(keys, filterKeys()...)
	return append(keys, outputKeys()...)
}

func generalKeys() []Key {
	return []Key{
		{Name: "hostname", Example: `"mx.example.org"`, at: func(c *Config) any { return &c.Hostname },
			Doc: "Our name in the banner and in Received, in ASCII: of a name with other letters its A-labels. Default: the machine's name"},
		{Name: "domains", Example: `["example.org", "lists.example.org"]`, at: func(c *Config) any { return &c.Domains },
			Doc: `The domains mail is accepted for; another's gets 550 5.7.1 at RCPT. "*" accepts any, an empty list none but <postmaster>. Write bücher.example or its A-labels: they are one. Must be given when a listener is not on loopback. Default: any`},
		{Name: "recipients", Example: `["support@example.org", "@lists.example.org", "file:/etc/incoming/recipients"]`, at: func(c *Config) any { return &c.Recipients },
			Doc: "Who exists, for the policy recipients; another gets 550 5.1.1 at RCPT. Each is an address, or by @ a whole domain, in one of our domains; file:PATH, a file of such, one a line; or http://… or https://…, an application that is asked. Case and quotes do not count, domains are compared by A-label. <postmaster> always exists. Default: any of our domains"},
		{Name: "policies", Example: `["require_hello", "rate_limit"]`, at: func(c *Config) any { return &c.Policies },
			Doc: "The policies to ask, in order: access_list, rate_limit, require_tls, require_hello, max_size, max_recipients, dnsbl, minted, recipients, mailauth, rspamd, http_policy, milter (all of them). A policy whose own keys are set is asked too, after those named here. Default: none"},
		{Name: "observe", Example: `["rate_limit"]`, at: func(c *Config) any { return &c.Observe },
			Doc: "Of the policies, those that are only to say, in the log and in metrics, what they would have done, and to do nothing. Default: none"},
		{Name: "bare_newline", Default: "repair", at: func(c *Config) any { return &c.BareNewline },
			Doc: "What to do with a message sent by DATA that has a bare LF or CR: repair stores a bare LF as CRLF; reject answers 554 5.6.0 to the clients of bare_newline_networks"},
		{Name: "bare_newline_networks", Default: "0.0.0.0/0,::/0", at: func(c *Config) any { return &c.BareFrom },
			Doc: "The clients that bare_newline = \"reject\" is for"},
		{Name: "lenient_networks", Example: `["192.0.2.0/28"]`, at: func(c *Config) any { return &c.Lenient },
			Doc: "Clients that are forgiven what old devices get wrong: addresses of MAIL and RCPT without angle brackets, and a hello of more than a name, of which the first word is taken. Default: nobody"},
		{Name: "dnsbl_exempt_networks", Example: `["192.0.2.0/28"]`, at: func(c *Config) any { return &c.DNSBLExempt },
			Doc: "Clients that no [[dnsbl]] is asked about; about private, loopback and link-local addresses none ever is. Default: no others"},
	}
}

func listenerKeys() []Key {
	return []Key{
		{Name: "listener.name", Example: `"mx"`, Restart: true, in: ofListener(func(l *Listener) any { return &l.Name }),
			Doc: "What logs and metrics call it. Default: its address"},
		{Name: "listener.address", Default: "127.0.0.1:2525", Restart: true, in: ofListener(func(l *Listener) any { return &l.Address }),
			Doc: "Where to listen, host:port, or unix:/path for a socket, or systemd:NAME for one that systemd hands over by that FileDescriptorName. An address that is not on loopback wants domains"},
		{Name: "listener.socket_mode", Default: "0660", Restart: true, in: ofListener(func(l *Listener) any { return &l.SocketMode }),
			Doc: "The mode of a unix socket, in octal: who may connect to it"},
		{Name: "listener.protocol", Default: "smtp", Restart: true, in: ofListener(func(l *Listener) any { return &l.Protocol }),
			Doc: "smtp, or lmtp (RFC 2033: LHLO, and after the text a reply for each recipient, all alike), which must not be on port 25"},
		{Name: "listener.tls", Default: "disabled", Restart: true, in: ofListener(func(l *Listener) any { return &l.TLS }),
			Doc: "disabled, optional (STARTTLS is offered), required (530 5.7.0 before STARTTLS), implicit (TLS from the first octet)"},
		{Name: "listener.cert", Example: `"/etc/incoming/cert.pem"`, in: ofListener(func(l *Listener) any { return &l.Cert }),
			Doc: "The certificate and its chain, PEM, for all clients that ask for no name of another. Read again when it changes and at a reload"},
		{Name: "listener.key", Example: `"/etc/incoming/key.pem"`, in: ofListener(func(l *Listener) any { return &l.Key }),
			Doc: "Its private key, PEM"},
		{Name: "listener.proxy", Default: "disabled", in: ofListener(func(l *Listener) any { return &l.Proxy }),
			Doc: "Whether balancers tell by a PROXY header, version 1 or 2, who the client is: disabled; required (who is not of proxy_networks, or sends no header, is closed without a reply); optional (who sends none is served as who he is, from proxy_networks after timeouts.proxy)"},
		{Name: "listener.proxy_networks", Example: `["10.0.0.0/24", "2001:db8:7::/64"]`, in: ofListener(func(l *Listener) any { return &l.ProxyNetworks }),
			Doc: "Where the balancers connect from. A PROXY header from anywhere else closes the connection"},
		{Name: "listener.certificate", Example: `["/etc/incoming/b.pem:/etc/incoming/b.key"]`, in: ofListener(func(l *Listener) any { return &l.Certificates }),
			Doc: "Further certificates with their keys, each CERT:KEY, or in a table [[listener.certificate]] with cert and key, for clients that ask for one of their DNS names; a wildcard is for one label. Of several for one name a client is shown the first whose kind of key it can use. Without cert and key the first is the default"},
		{Name: "listener.tls_min", Default: "1.2", in: ofListener(func(l *Listener) any { return &l.TLSMin }),
			Doc: "The oldest TLS version spoken: 1.0, 1.1, 1.2 or 1.3. Below 1.2 it takes ciphers with an RSA key exchange too: for old devices, on a listener of their own"},
		{Name: "listener.session_tickets", Default: "false", in: ofListener(func(l *Listener) any { return &l.SessionTickets }),
			Doc: "Whether TLS sessions can be resumed by tickets. A large provider's senders give up on a server that sends them"},
	}
}

func limitKeys() []Key {
	return []Key{
		{Name: "limits.connections", Default: "1000", at: func(c *Config) any { return &c.Limits.Connections },
			Doc: "Connections open at once. Past it: 421 4.3.2"},
		{Name: "limits.connections_per_ip", Default: "50", at: func(c *Config) any { return &c.Limits.ConnectionsPerIP },
			Doc: "Of one address, IPv6 by /64. Past it: 421 4.7.0"},
		{Name: "limits.exempt", Default: "127.0.0.0/8,::1/128", at: func(c *Config) any { return &c.Limits.Exempt },
			Doc: "Networks that connections_per_ip is not for"},
		{Name: "limits.message_size", Default: "50MiB", at: func(c *Config) any { return &c.Limits.MessageSize },
			Doc: "Octets of a message. Past it: 552 5.3.4, at MAIL when declared, else after the text; past twice as much the connection is closed"},
		{Name: "limits.recipients", Default: "1000", at: func(c *Config) any { return &c.Limits.Recipients },
			Doc: "Recipients of a message. Past it: 452 4.5.3, the earlier ones stay"},
		{Name: "limits.commands", Default: "1000", at: func(c *Config) any { return &c.Limits.Commands },
			Doc: "Commands since the last accepted message. Past it: 421"},
		{Name: "limits.errors", Default: "10", at: func(c *Config) any { return &c.Limits.Errors },
			Doc: "Replies 500 to 504 and 555 since the last accepted message. Past it: 421"},
		{Name: "limits.refused_recipients", Default: "100", at: func(c *Config) any { return &c.Limits.RefusedRecipients },
			Doc: "Refused recipients without an accepted one. Past it: 421 4.7.0"},
		{Name: "limits.session_size", Default: "4GiB", at: func(c *Config) any { return &c.Limits.SessionSize },
			Doc: "Octets a client may send in one session, looked at between messages. Past it: 421 4.7.0"},
		{Name: "limits.command_line", Default: "4096", at: func(c *Config) any { return &c.Limits.CommandLine },
			Doc: "Octets of a command line. Past it: 500 5.5.2, the third time the connection is closed"},
		{Name: "limits.header", Default: "256KiB", at: func(c *Config) any { return &c.Limits.Header },
			Doc: "Octets of a message's header. Past it: 554 5.6.0"},
		{Name: "limits.header_fields", Default: "1000", at: func(c *Config) any { return &c.Limits.HeaderFields },
			Doc: "Header fields. Past it: 554 5.6.0"},
		{Name: "limits.received", Default: "100", at: func(c *Config) any { return &c.Limits.Received },
			Doc: "Received fields. Past it: 554 5.4.6, a loop"},
		{Name: "limits.handshakes", Example: "4", at: func(c *Config) any { return &c.Limits.Handshakes },
			Doc: "TLS handshakes that compute at once; one that waits for its client is not counted. Past it each waits for its turn, and is closed when that has not come in timeouts.tls. Default: as many as there are processors"},
		{Name: "limits.buffers", Default: "32MiB", Restart: true, at: func(c *Config) any { return &c.Limits.Buffers },
			Doc: "Memory for all messages being received together. Past it they go to files at once"},
	}
}

func timeoutKeys() []Key {
	return []Key{
		{Name: "timeouts.command", Default: "5m", at: func(c *Config) any { return &c.Timeouts.Command },
			Doc: "For a command to come; 30 s while over 80 % of limits.connections are open. Past it: 421 4.4.2"},
		{Name: "timeouts.tls", Default: "30s", at: func(c *Config) any { return &c.Timeouts.TLS },
			Doc: "For a TLS handshake. Past it: closed without a reply"},
		{Name: "timeouts.proxy", Default: "5s", at: func(c *Config) any { return &c.Timeouts.Proxy },
			Doc: "For a balancer's PROXY header. Past it: closed without a reply, where the header is optional served without it"},
		{Name: "timeouts.data", Default: "3m", at: func(c *Config) any { return &c.Timeouts.Data },
			Doc: "Between two reads of a message's text, which after that time must average 500 octets a second. Past it: 421 4.4.2"},
		{Name: "timeouts.write", Default: "5m", at: func(c *Config) any { return &c.Timeouts.Write },
			Doc: "For a reply to be taken. Past it: closed"},
		{Name: "timeouts.session", Default: "1h", at: func(c *Config) any { return &c.Timeouts.Session },
			Doc: "For a session, looked at between messages. Past it: 421 4.4.2"},
		{Name: "timeouts.policy", Default: "30s", at: func(c *Config) any { return &c.Timeouts.Policy },
			Doc: "For one policy, and for all together after the text. Past it: 451 4.3.0, the session goes on"},
		{Name: "timeouts.drain", Default: "25s", at: func(c *Config) any { return &c.Timeouts.Drain },
			Doc: "From SIGTERM until what is still open is closed by force"},
	}
}

func queueKeys() []Key {
	return []Key{
		{Name: "queue.path", Default: "incoming-data/spool", Restart: true, at: func(c *Config) any { return &c.Queue.Path },
			Doc: "The spool's directory; relative to where the daemon is started"},
		{Name: "queue.fsync", Default: "true", Restart: true, at: func(c *Config) any { return &c.Queue.Fsync },
			Doc: "Whether a message is synced to the disk before it is accepted. false loses accepted mail at a power cut"},
		{Name: "queue.journal", Default: "true", Restart: true, at: func(c *Config) any { return &c.Queue.Journal },
			Doc: "Whether messages of up to 128 KiB are kept in a journal, which is several times as fast as a directory for each. The spool opens either way"},
		{Name: "queue.depth", Default: "100000", Restart: true, at: func(c *Config) any { return &c.Queue.Depth },
			Doc: "Messages held, dead letters not counted. Past it: 421 4.3.2"},
		{Name: "queue.dead_age", Default: "168h", Restart: true, at: func(c *Config) any { return &c.Queue.DeadAge },
			Doc: "After which a dead letter that the application rejected is removed, with a line in the log"},
		{Name: "queue.dead_spent_age", Default: "none", Restart: true, at: func(c *Config) any { return &c.Queue.DeadSpentAge },
			Doc: "The same for every other kind of dead letter"},
		{Name: "queue.dead_sweep", Default: "60s", Restart: true, at: func(c *Config) any { return &c.Queue.DeadSweep },
			Doc: "How often dead letters are looked at"},
		{Name: "queue.dead_sweep_most", Default: "1000", Restart: true, at: func(c *Config) any { return &c.Queue.DeadSweepMost },
			Doc: "The most that are removed at a time"},
	}
}

func deliveryKeys() []Key {
	return []Key{
		{Name: "delivery.to", Default: "maildir:incoming-data/mail", at: func(c *Config) any { return &c.Delivery.To },
			Doc: "Where messages go: maildir:DIR ({rcpt} and {domain} in DIR make one Maildir a recipient), https://… or http://…, command:PROG ARGS (no shell), lmtp:HOST:PORT, lmtp:unix:/PATH or smtp:HOST:PORT (another mail server), s3:BUCKET or s3:BUCKET/KEY (an object store), discard, none (they stay in the queue)"},
		{Name: "delivery.workers", Default: "16", Restart: true, at: func(c *Config) any { return &c.Delivery.Workers },
			Doc: "Deliveries at once"},
		{Name: "delivery.deadline", Default: "1m", Restart: true, at: func(c *Config) any { return &c.Delivery.Deadline },
			Doc: "For one delivery. Past it: tried again"},
		{Name: "delivery.backoff", Default: "1s", Restart: true, at: func(c *Config) any { return &c.Delivery.Backoff },
			Doc: "Wait after the first failure; it doubles each time, with jitter"},
		{Name: "delivery.backoff_cap", Default: "10m", Restart: true, at: func(c *Config) any { return &c.Delivery.BackoffCap },
			Doc: "The longest wait"},
		{Name: "delivery.give_up", Default: "168h", Restart: true, at: func(c *Config) any { return &c.Delivery.GiveUp },
			Doc: "Age, since received or requeued, at which a message that cannot be delivered becomes a dead letter"},
		{Name: "delivery.max_attempts", Default: "none", Restart: true, at: func(c *Config) any { return &c.Delivery.MaxAttempts },
			Doc: "Failed attempts after which it becomes one"},
		{Name: "delivery.accept", Default: "durable", at: func(c *Config) any { return &c.Delivery.Accept },
			Doc: "When a sender is answered whose mail goes by no route. durable: once the message is in the queue. sync: once it is delivered; a no is the sender's, 5xx or 4xx, and so is no verdict in time, 451 4.3.0. hybrid: as sync, but without a verdict in time it is 250, and the queue goes on"},
		{Name: "delivery.accept_within", Default: "20s", at: func(c *Config) any { return &c.Delivery.AcceptWithin },
			Doc: "How long a sender waits for the verdict, with sync and hybrid"},
		{Name: "delivery.accept_keep", Default: "false", at: func(c *Config) any { return &c.Delivery.AcceptKeep },
			Doc: "Whether a message whose sender was told no becomes a dead letter; else it is gone"},
		{Name: "delivery.filters", Example: `["rspamd"]`, at: func(c *Config) any { return &c.Delivery.Filters },
			Doc: "The filters that are asked when a message is in the queue, before it is delivered, in place of while its sender waits: rspamd, http_policy, milter (all of them). There they let pass, have it tried again (4xx, or the filter fails) or reject (a dead letter), and change nothing. Default: none"},
		{Name: "webhook.format", Default: "multipart", at: func(c *Config) any { return &c.Webhook.Format },
			Doc: "multipart sends the parts envelope (JSON) and message (message/rfc822); raw the message alone; incoming all it says as JSON; " +
				"sendgrid, mailgun, postmark and ses what that provider would send"},
		{Name: "webhook.secrets", Example: `["whsec_…"]`, at: func(c *Config) any { return &c.Webhook.Secrets },
			Doc: "Secrets to sign requests with (Standard Webhooks); with two, either may be used to verify. Default: unsigned, " +
				"which mailgun cannot be: the first makes its signature"},
		{Name: "webhook.secret_file", Example: `"/etc/incoming/webhook.secret"`, at: func(c *Config) any { return &c.Webhook.SecretFile },
			Doc: "A file with one secret a line, in place of webhook.secrets; read again at a reload"},
		{Name: "webhook.public_only", Default: "false", at: func(c *Config) any { return &c.Webhook.PublicOnly },
			Doc: "Whether to connect to addresses of the public Internet only, whatever the URL's host resolves to: for a URL that others may set"},
		{Name: "command.argv", Example: `["/usr/local/bin/ingest", "--queue", "support desk"]`, at: func(c *Config) any { return &c.Command.Argv },
			Doc: `The program and its arguments for delivery.to = "command"`},
		{Name: "relay.tls", Default: "optional", at: func(c *Config) any { return &c.Relay.TLS },
			Doc: "For lmtp: and smtp: optional (STARTTLS where it is offered, with whatever certificate), disabled, required (STARTTLS, and a certificate for the server's name), implicit (the same, from the first octet)"},
		{Name: "relay.tls_ca", Example: `"/etc/incoming/inner-ca.pem"`, at: func(c *Config) any { return &c.Relay.TLSCA },
			Doc: "Who may have signed that certificate, PEM. Default: the system's authorities"},
		{Name: "relay.tls_verify", Default: "true", at: func(c *Config) any { return &c.Relay.TLSVerify },
			Doc: "Whether required and implicit look at the certificate at all"},
		{Name: "s3.endpoint", Example: `"https://s3.eu-central-1.amazonaws.com"`, at: func(c *Config) any { return &c.S3.Endpoint },
			Doc: "For s3: the object store's URL"},
		{Name: "s3.region", Example: `"eu-central-1"`, at: func(c *Config) any { return &c.S3.Region },
			Doc: "Its region. Default: it is asked"},
		{Name: "s3.access_key", Example: `"AKIA…"`, at: func(c *Config) any { return &c.S3.AccessKey },
			Doc: "Who signs requests. Default: the machine's role, by its metadata service"},
		{Name: "s3.secret_key_file", Example: `"/etc/incoming/s3.secret"`, at: func(c *Config) any { return &c.S3.SecretKeyFile },
			Doc: "A file with the secret key; read again at a reload"},
		{Name: "s3.notify", Example: `"https://app.example/stored"`, at: func(c *Config) any { return &c.S3.Notify },
			Doc: "Where it is posted, signed by webhook.secrets, that an object is there: the envelope as JSON, with a key object. Default: nowhere"},
	}
}

func policyKeys() []Key {
	return []Key{
		{Name: "dns.servers", Example: `["127.0.0.1", "[2001:db8::53]:5353"]`, at: func(c *Config) any { return &c.DNS.Servers },
			Doc: "The recursive resolvers that policies ask, the first first, each for at most 2 s; what they say is remembered for as long as it says. Lists that refuse large public resolvers want one of your own. Default: those of /etc/resolv.conf"},
		{Name: "minted.key_file", Example: `"/etc/incoming/minted.keys"`, at: func(c *Config) any { return &c.Minted.KeyFile },
			Doc: "For the policy minted and incoming address: the keys, one a line, each of 16 octets or more. The first signs, each verifies. Read again at a reload"},
		{Name: "minted.routes", Example: `["tickets"]`, at: func(c *Config) any { return &c.Minted.Routes },
			Doc: "For the policy minted: local parts that only minted addresses may begin with (tickets+…@). Any other of theirs: 550 5.1.1; past its time: 550 5.1.6"},
		{Name: "access_list.file", Example: `"/etc/incoming/access"`, at: func(c *Config) any { return &c.AccessList.File },
			Doc: "For the policy access_list: rules to allow and deny by network, hello name, sender, recipient. Read again when it changes and at a reload"},
		{Name: "recipient_lookup.delimiters", Default: "+", at: func(c *Config) any { return &c.Lookup.Delimiters },
			Doc: "The characters of which the first in an address begins its tag: user+tag@example.org exists if user@example.org does. none: no tags"},
		{Name: "recipient_lookup.timeout", Default: "5s", at: func(c *Config) any { return &c.Lookup.Timeout },
			Doc: "For all that is asked about one recipient. Past it: 451 4.3.0"},
		{Name: "recipient_lookup.known_for", Default: "5m", at: func(c *Config) any { return &c.Lookup.KnownFor },
			Doc: "How long it is remembered that the application knows an address; a reload forgets it"},
		{Name: "recipient_lookup.unknown_for", Default: "30s", at: func(c *Config) any { return &c.Lookup.UnknownFor },
			Doc: "The same, that it does not"},
		{Name: "mailauth.enforce", Default: "false", at: func(c *Config) any { return &c.MailAuth.Enforce },
			Doc: "For the policy mailauth: whether mail that fails DMARC is marked or refused, as the domain in From asks. false only notes what SPF, DKIM, DMARC and iprev say"},
		{Name: "mailauth.temperror", Default: "accept", at: func(c *Config) any { return &c.MailAuth.Temperror },
			Doc: "What becomes of mail for whose domain in From nothing vouches, while the DNS does not tell of something that might, or what that domain asks for: accept, with the fact, or tempfail, 451 4.4.3"},
		{Name: "mailauth.authserv_id", Example: `"mx.example.org"`, at: func(c *Config) any { return &c.MailAuth.AuthservID },
			Doc: "The name in the Authentication-Results field; fields of others that use it are removed. Default: hostname"},
		{Name: "mailauth.forwarders", Example: `["192.0.2.0/24"]`, at: func(c *Config) any { return &c.MailAuth.Forwarders },
			Doc: "Networks of hosts that forward mail of others to you: theirs is marked, never refused, when it fails DMARC. Default: none"},
		{Name: "mailauth.forwarder_domains", Example: `["forwarder.example"]`, at: func(c *Config) any { return &c.MailAuth.ForwarderDomains },
			Doc: "The same by the names of these hosts, at or under a domain, where the name leads back to the address. Default: none"},
		{Name: "mailauth.budget", Default: "8s", at: func(c *Config) any { return &c.MailAuth.Budget },
			Doc: "How long one message waits for the DNS in all. What is not known by then is a temperror"},
		{Name: "rate_limit.count", Default: "", Example: "5", at: func(c *Config) any { return &c.RateLimit.Count },
			Doc: "For the policy rate_limit: MAIL commands of one client address, IPv6 by /64, in the window. Past it: 450 4.7.1. Default: 5 when policies names rate_limit, else off"},
		{Name: "rate_limit.sender_count", Default: "", Example: "100", at: func(c *Config) any { return &c.RateLimit.SenderCount },
			Doc: "MAIL commands with one sender's domain in the window, of all clients; bounces have none. Past it: 450 4.7.1. Default: off"},
		{Name: "rate_limit.recipient_count", Default: "", Example: "100", at: func(c *Config) any { return &c.RateLimit.RecipientCount },
			Doc: "RCPT commands for one recipient in the window, of all clients. Past it: 450 4.2.1. Default: off"},
		{Name: "rate_limit.window", Default: "60s", at: func(c *Config) any { return &c.RateLimit.Window },
			Doc: "The window, which slides"},
		{Name: "rate_limit.entries", Default: "100000", at: func(c *Config) any { return &c.RateLimit.Entries },
			Doc: "Clients, domains and recipients remembered, of each; a full table forgets its idlest"},
		{Name: "max_size.size", Example: `"10MiB"`, at: func(c *Config) any { return &c.MaxSize.Size },
			Doc: "For the policy max_size: octets of a message, below limits.message_size. Default: off"},
		{Name: "max_recipients.count", Example: "100", at: func(c *Config) any { return &c.MaxRecipients.Count },
			Doc: "For the policy max_recipients: recipients of a message, below limits.recipients. Default: off"},
	}
}

func outputKeys() []Key {
	return []Key{
		{Name: "http.address", Example: `"127.0.0.1:9025"`, Restart: true, at: func(c *Config) any { return &c.HTTP.Address },
			Doc: "Where /metrics, /healthz and /readyz are served. Default: off"},
		{Name: "metrics.prefix", Default: "incoming", Restart: true, at: func(c *Config) any { return &c.Metrics.Prefix },
			Doc: "What metric names begin with"},
		{Name: "log.format", Default: "text", Restart: true, at: func(c *Config) any { return &c.Log.Format },
			Doc: "text or json, one line an event, on stderr"},
		{Name: "log.level", Default: "info", at: func(c *Config) any { return &c.Log.Level },
			Doc: "debug (with the dialogue, if it is so at the start), info, warn or error"},
		{Name: "log.addresses", Default: "full", Restart: true, at: func(c *Config) any { return &c.Log.Addresses },
			Doc: "How mail addresses are logged: full, hash or none"},
	}
}
