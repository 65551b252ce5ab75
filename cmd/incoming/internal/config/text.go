package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/recipients"
	"github.com/incoming-mx/incoming/policy/resolver"
)

// choose is text, if it is one of the choices.
func choose(what, s string, choices ...string) (string, error) {
	for _, c := range choices {
		if s == c {
			return c, nil
		}
	}
	msg := fmt.Sprintf("%q is no %s; it is one of %s", s, what, strings.Join(choices, ", "))
	if c := nearest(s, choices); c != "" {
		msg += "; did you mean " + c + "?"
	}
	return "", errors.New(msg)
}

// vocabulary is what a Word may be.
type vocabulary interface {
	check(text string) (string, error)
}

// Word is a string of a vocabulary. It is a struct, so that the decoder asks it
// and does not fill in the string itself.
type Word[V vocabulary] struct{ s string }

// UnmarshalText takes a word of the vocabulary.
func (w *Word[V]) UnmarshalText(text []byte) error {
	var v V
	s, err := v.check(string(text))
	if err == nil {
		w.s = s
	}
	return err
}

func (w Word[V]) String() string { return w.s }

type (
	// TLSMode is how a listener uses TLS: disabled, optional, required, implicit.
	TLSMode = Word[tlsModes]
	// Endpoint is an address to listen on: HostPort, unix:/path, or systemd:NAME.
	Endpoint = Word[endpoints]
	// SocketMode is the mode of a socket file, in octal.
	SocketMode = Word[socketModes]
	// Protocol is what a listener speaks: smtp or lmtp.
	Protocol = Word[protocols]
	// ProxyMode is whether PROXY headers are taken: disabled, optional, required.
	ProxyMode = Word[proxyModes]
	// TLSVersion is the oldest TLS version of a listener: 1.0 to 1.3.
	TLSVersion = Word[tlsVersions]
	// Policy is the name of a built-in policy.
	Policy = Word[policies]
	// Newline is what happens to bare line ends: repair or reject.
	Newline = Word[newlines]
	// Format is how a webhook is given a message: multipart, raw, incoming or as a
	// provider does.
	Format = Word[formats]
	// OnFailure is what becomes of mail when a filter fails: tempfail, accept,
	// reject.
	OnFailure = Word[failureActions]
	// AcceptMode is when a sender is answered: durable, sync, hybrid; "" is durable.
	AcceptMode = Word[acceptModes]
	// Temperror is what becomes of mail about which the DNS does not tell: accept,
	// tempfail.
	Temperror = Word[temperrors]
	// Filter is a policy that may be asked behind the queue.
	Filter = Word[filterNames]
	// Stage is when policies are asked: connect to message.
	Stage = Word[stageNames]
	// LogFormat is text or json.
	LogFormat = Word[logFormats]
	// LogLevel is debug, info, warn or error.
	LogLevel = Word[logLevels]
	// LogAddresses is full, hash or none.
	LogAddresses = Word[logAddresses]
	// Domain is a domain that mail is accepted for, or "*".
	Domain = Word[domains]
	// HostPort is an address to listen on; "" is none.
	HostPort = Word[hostPorts]
	// Hostname is what we call ourselves; "" is the machine's name.
	Hostname = Word[hostnames]
	// DNSServer is the address of a recursive resolver, with or without its port.
	DNSServer = Word[dnsServers]
	// DNSBLAction is what a listing leads to: reject, quarantine or fact.
	DNSBLAction = Word[dnsblActions]
	// Delimiters is the characters that begin the tag of an address, or none.
	Delimiters = Word[delimiters]
	// Known is an address that exists, by @ a whole domain, or who knows such:
	// file:PATH or a URL.
	Known = Word[known]
	// Prefix is what metric names begin with.
	Prefix = Word[prefixes]
)

type (
	tlsModes     struct{}
	endpoints    struct{}
	socketModes  struct{}
	protocols    struct{}
	proxyModes   struct{}
	tlsVersions  struct{}
	policies     struct{}
	newlines     struct{}
	formats      struct{}
	acceptModes  struct{}
	temperrors   struct{}
	logFormats   struct{}
	logLevels    struct{}
	logAddresses struct{}
	domains      struct{}
	hostPorts    struct{}
	hostnames    struct{}
	dnsServers   struct{}
	dnsblActions struct{}
	delimiters   struct{}
	known        struct{}
	prefixes     struct{}
)

func (tlsModes) check(s string) (string, error) {
	return choose("TLS mode", s, "disabled", "optional", "required", "implicit")
}

// longestSocket is how long a path the system takes for a socket.
const longestSocket = 107

func (endpoints) check(s string) (string, error) {
	if name, is := strings.CutPrefix(s, "systemd:"); is {
		if name == "" || strings.ContainsAny(name, ": \t") {
			return "", fmt.Errorf("%q names no socket; write systemd:NAME, with the FileDescriptorName of the socket's unit", s)
		}
		return s, nil
	}
	path, is := strings.CutPrefix(s, "unix:")
	switch {
	case !is:
		return hostPorts{}.check(s)
	case path == "":
		return "", errors.New("unix: has no path; write unix:/run/incoming/mx.sock")
	case len(path) > longestSocket:
		return "", fmt.Errorf("%q is too long for a socket; %d octets of path are the most", path, longestSocket)
	}
	return s, nil
}

func (socketModes) check(s string) (string, error) {
	if _, err := strconv.ParseUint(s, 8, 9); s != "" && (err != nil || len(s) < 3) {
		return "", fmt.Errorf("%q is no mode; write it in octal, such as 0660", s)
	}
	return s, nil
}

// Unix reports whether the listener is on a unix socket.
func (l Listener) Unix() bool { return strings.HasPrefix(l.Address.String(), "unix:") }

func (protocols) check(s string) (string, error) { return choose("protocol", s, "smtp", "lmtp") }

func (proxyModes) check(s string) (string, error) {
	return choose("PROXY mode", s, "disabled", "optional", "required")
}

func (tlsVersions) check(s string) (string, error) {
	return choose("TLS version", s, "1.0", "1.1", "1.2", "1.3")
}

// PolicyNames is the built-in policies, in the order they are asked when the
// configuration sets one up without naming it.
func PolicyNames() []string {
	return []string{"access_list", "rate_limit", "require_tls", "require_hello", "max_size", "max_recipients", "dnsbl", "minted", "recipients", "mailauth", "rspamd", "http_policy", "milter"}
}

func (policies) check(s string) (string, error) { return choose("policy", s, PolicyNames()...) }

func (acceptModes) check(s string) (string, error) {
	return choose("way to accept", s, "durable", "sync", "hybrid")
}

func (temperrors) check(s string) (string, error) {
	return choose("answer to trouble with the DNS", s, "accept", "tempfail")
}

func (newlines) check(s string) (string, error) {
	return choose("treatment of bare line ends", s, "repair", "reject")
}

func (formats) check(s string) (string, error) {
	return choose("webhook format", s, "multipart", "raw", "incoming", "sendgrid", "mailgun", "postmark", "ses")
}

func (logFormats) check(s string) (string, error) { return choose("log format", s, "text", "json") }

func (logLevels) check(s string) (string, error) {
	return choose("log level", s, "debug", "info", "warn", "error")
}

func (logAddresses) check(s string) (string, error) {
	return choose("form of addresses", s, "full", "hash", "none")
}

func (domains) check(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	switch {
	case s == "":
		return "", errors.New("an empty domain; write example.org, or * for any")
	case strings.Contains(s, "@"):
		return "", fmt.Errorf("%q is an address; write its domain, %s", s, s[strings.LastIndexByte(s, '@')+1:])
	}
	// The policy is asked, so that there is one opinion of what a domain is.
	if _, err := policy.AcceptDomains(s); err != nil || s != "*" && strings.Contains(s, "*") {
		return "", fmt.Errorf("%q is no domain; write one domain an entry, example.org, or * alone for any", s)
	}
	return s, nil
}

func (hostnames) check(s string) (string, error) {
	if ascii, err := mailbox.Domain(s); err == nil && !mailbox.IsASCII(s) {
		return "", fmt.Errorf("%q is not in ASCII, and SMTP has no other names in a banner; write %s", s, ascii)
	}
	if s != "" && !regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]{1,255}$`).MatchString(s) {
		return "", fmt.Errorf("%q is no host name; write mx.example.org", s)
	}
	return s, nil
}

func (dnsServers) check(s string) (string, error) {
	_, err := resolver.ServerAddress(s)
	return s, err
}

func (dnsblActions) check(s string) (string, error) {
	return choose("action", s, "reject", "quarantine", "fact")
}

func (delimiters) check(s string) (string, error) {
	if isNone(s) {
		return "none", nil
	}
	if strings.Trim(s, "+-_=.#&~^!|") != "" {
		return "", fmt.Errorf("%q is no list of delimiters; write +, or such as +-, or none", s)
	}
	return s, nil
}

func (known) check(s string) (string, error) {
	kind, source := sourceOf(s)
	switch kind {
	case "file":
		if source == "" {
			return "", errors.New("file: has no path; write file:/etc/incoming/recipients")
		}
		return s, nil
	case "url":
		_, err := recipients.OpenURL(source, nil)
		return s, err
	}
	_, err := recipients.NewList(s)
	return s, err
}

// sourceOf is what an entry of recipients is, "file", "url" or "address", and its
// path, URL or address.
func sourceOf(s string) (kind, source string) {
	if path, is := strings.CutPrefix(s, "file:"); is {
		return "file", path
	}
	if strings.HasPrefix(s, "http:") || strings.HasPrefix(s, "https:") {
		return "url", s
	}
	return "address", s
}

// KnownSources is the recipients by what they are: nil addresses when no list is
// given, and also when it names files and URLs only.
func (c *Config) KnownSources() (addresses, files, urls []string) {
	for _, r := range c.Recipients {
		switch kind, source := sourceOf(r.String()); kind {
		case "file":
			files = append(files, source)
		case "url":
			urls = append(urls, source)
		default:
			addresses = append(addresses, source)
		}
	}
	return addresses, files, urls
}

func (prefixes) check(s string) (string, error) {
	if s != "" && !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(s) {
		return "", fmt.Errorf("%q cannot begin a metric's name; use letters, digits and underscores, the first no digit", s)
	}
	return s, nil
}

func (hostPorts) check(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, e := strconv.ParseUint(s, 10, 16); e == nil {
			return "", fmt.Errorf("%q is a port alone; write 127.0.0.1:%s, or :%s for every address", s, s, s)
		}
		return "", fmt.Errorf("%q is no address to listen on; write 127.0.0.1:2525, [::1]:2525, or :25 for every address", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is no port; it is a number from 0 to 65535", port)
	}
	return s, nil
}

// UnmarshalText takes CERT:KEY, as --set does; a file has a table.
func (c *Certificate) UnmarshalText(text []byte) error {
	cert, key, ok := strings.Cut(string(text), ":")
	if !ok || cert == "" || key == "" {
		return fmt.Errorf("%q is no certificate with its key; write cert.pem:key.pem", text)
	}
	*c = Certificate{Cert: cert, Key: key}
	return nil
}

func (c Certificate) String() string { return c.Cert + ":" + c.Key }

// loopback reports whether only this machine can reach the address.
func loopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Network is an address or a network of addresses.
type Network struct{ netip.Prefix }

// UnmarshalText takes 192.0.2.0/24, 2001:db8::/32 or a single address.
func (n *Network) UnmarshalText(text []byte) error {
	s := string(text)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		n.Prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is no network; write 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1", s)
	}
	n.Prefix = p.Masked()
	return nil
}

// TargetKind is where messages are delivered to.
type TargetKind string

const (
	ToMaildir TargetKind = "maildir"
	ToWebhook TargetKind = "webhook"
	ToCommand TargetKind = "command"
	ToDiscard TargetKind = "discard"
	ToNone    TargetKind = "none" // kept in the queue
	ToSMTP    TargetKind = "smtp"
	ToLMTP    TargetKind = "lmtp"
	ToS3      TargetKind = "s3"
)

// Target is where messages are delivered to, as in --deliver.
type Target struct {
	Kind TargetKind
	Dir  string   // of a Maildir
	URL  string   // of a webhook
	Argv []string // of a command; empty: command.argv holds it
	Addr string   // of a mail server: host:port or unix:/path
	// Bucket and Key are of an object store; Key is a template, "" the default.
	Bucket, Key string
	text        string
}

// places is how a Target is written.
const places = "maildir:DIR, https://…, http://…, command:PROG ARGS, lmtp:HOST:PORT, lmtp:unix:/PATH, smtp:HOST:PORT, s3:BUCKET, discard or none"

// UnmarshalText takes any of places.
func (t *Target) UnmarshalText(text []byte) error {
	s := string(text)
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "":
		*t = Target{}
	case kind == "maildir":
		if rest == "" {
			return errors.New("maildir: has no directory; write maildir:DIR")
		}
		*t = Target{Kind: ToMaildir, Dir: rest, text: s}
	case kind == "http", kind == "https":
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return fmt.Errorf("%q is no URL; write https://app.example/mail", s)
		}
		*t = Target{Kind: ToWebhook, URL: s, text: s}
	case kind == "command":
		argv, err := splitArgs(rest)
		if err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
		*t = Target{Kind: ToCommand, Argv: argv, text: s}
	case kind == "smtp", kind == "lmtp":
		host, port, err := net.SplitHostPort(rest)
		if path, unix := strings.CutPrefix(rest, "unix:"); unix && path != "" || !unix && err == nil && host != "" && port != "" {
			*t = Target{Kind: TargetKind(kind), Addr: rest, text: s}
			break
		}
		return fmt.Errorf("%q names no server; write %s:HOST:PORT or %s:unix:/PATH", s, kind, kind)
	case kind == "s3":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" || key != "" && !strings.Contains(key, "{id}") {
			return fmt.Errorf("%q: write s3:BUCKET, or s3:BUCKET/KEY with {id} and perhaps {date} in KEY", s)
		}
		*t = Target{Kind: ToS3, Bucket: bucket, Key: key, text: s}
	case s == "discard", s == "none":
		*t = Target{Kind: TargetKind(s), text: s}
	default:
		msg := fmt.Sprintf("%q is no place to deliver to; write "+places, s)
		if c := nearest(kind, []string{"maildir", "https", "http", "command", "lmtp", "smtp", "s3", "discard", "none"}); c != "" {
			msg += "; did you mean " + c + "?"
		}
		return errors.New(msg)
	}
	return nil
}

func (t Target) String() string { return t.text }

// Redacted is t without what may be secret in it: a URL's password and query.
func (t Target) Redacted() string {
	if t.Kind != ToWebhook {
		return t.text
	}
	return Redacted(t.URL)
}

// Redacted is a URL without its password and query.
func Redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(a URL)"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}

// IsZero reports whether the default is meant.
func (t Target) IsZero() bool { return t.text == "" }

// splitArgs takes a command line apart at white space. Quotes of both kinds
// keep it together; nothing is expanded, for there is no shell.
func splitArgs(s string) ([]string, error) {
	var args []string
	var arg strings.Builder
	var quote rune
	in := false
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			arg.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				args = append(args, arg.String())
				arg.Reset()
				in = false
			}
		default:
			arg.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if in {
		args = append(args, arg.String())
	}
	return args, nil
}
