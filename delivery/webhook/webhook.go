// Package webhook delivers messages to an application over HTTP.
//
// Each message is one POST: multipart/form-data with the parts envelope (JSON,
// see [Envelope]) and message (message/rfc822, as received), the message alone,
// what it says as JSON (see [Parsed]), or the shape in which a provider sends it,
// so that a handler for that needs no change: see [Format]. It is streamed from
// the queue, its length told beforehand, and signed
// in the form of Standard Webhooks (https://www.standardwebhooks.com), which
// [Verify] checks.
//
// The verdict is the answer's. With the header field Incoming-Verdict: reject
// the message is rejected, whatever the status. Without it a status of 2xx is
// done, and everything else is tried again, with a warning that names the
// status: no status that a proxy or a framework sends by itself may lose mail.
// Mailgun's format alone takes 406 for a rejection, as Mailgun does.
// Retry-After is honoured. No redirect is followed.
//
// The same message may come more than once (see delivery.Adapter): its ID, in
// the header fields Idempotency-Key and webhook-id, tells.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/internal/sign"
	"github.com/incoming-mx/incoming/queue"
)

// Config is where messages go. Only URL is required.
type Config struct {
	// URL is http or https. A user and password in it are sent as Basic
	// authorization; these and its query are never shown in errors or logs.
	URL string

	// Format is Multipart when "".
	Format Format

	// Secrets sign each request; nil leaves it unsigned, which Mailgun's format
	// cannot be. With several there
	// are as many signatures, so that a receiver that knows any one of them
	// verifies: that is how a secret is changed. "whsec_" and base64 is the
	// key in the form of Standard Webhooks; anything else is the key itself,
	// and should have at least 24 octets.
	Secrets []string

	// Header is further fields of each request, such as Authorization. It may
	// not name one that this package sets.
	Header http.Header

	// Client makes the requests; nil is one that keeps connections for reuse,
	// takes at most 10 s to connect and 10 s for the TLS handshake, wants TLS
	// 1.2 and heeds no proxy of the environment. The time for the whole is the
	// deadline of the delivery. CheckRedirect is not used: no redirect is
	// followed.
	Client *http.Client

	// PublicOnly connects to addresses of the public Internet only, whatever
	// the URL's host resolves to: for URLs that others than the operator may
	// set. The connections are then this package's: Client may have no
	// Transport.
	PublicOnly bool

	// Logger takes the warnings; nil is slog.Default().
	Logger *slog.Logger
}

// Adapter posts messages to one URL. It is safe for use by many goroutines.
type Adapter struct {
	url     url.URL // without user and password
	user    *url.Userinfo
	format  Format
	keys    [][]byte
	header  http.Header
	client  *http.Client
	log     *slog.Logger
	now     func() time.Time
	token   func() string
	drainIn time.Duration // for reading the rest of a response
}

var _ delivery.Adapter = (*Adapter)(nil)

// New returns an Adapter. It connects to nothing.
func New(cfg Config) (*Adapter, error) {
	a := &Adapter{format: cfg.Format, log: cfg.Logger, now: time.Now, token: newToken, drainIn: 5 * time.Second}
	if a.format == "" {
		a.format = Multipart
	}
	if !slices.Contains(Formats(), a.format) {
		return nil, fmt.Errorf("webhook: format %q: use one of %q", cfg.Format, Formats())
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	a.user, u.User = u.User, nil
	a.url = *u
	for i, s := range cfg.Secrets {
		key, err := sign.Key(s)
		if err != nil {
			return nil, fmt.Errorf("webhook: secret %d of %d: %w", i+1, len(cfg.Secrets), err)
		}
		a.keys = append(a.keys, key)
	}
	if a.format == Mailgun && len(a.keys) == 0 {
		return nil, errors.New("webhook: format mailgun without a secret: give one, with which its signature is made")
	}
	if a.header, err = checkHeader(cfg.Header, a.user != nil); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if cfg.PublicOnly && cfg.Client != nil && cfg.Client.Transport != nil {
		return nil, errors.New("webhook: PublicOnly, and a Client with its own Transport: give one of them")
	}
	a.client = newClient(cfg.Client, cfg.PublicOnly)
	return a, nil
}

// parseURL never repeats the URL in its errors: it may hold a password.
func parseURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("no URL: give one such as https://app.example/mail")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("the URL cannot be parsed: write it as https://host/path, " +
			"with special characters of a user or password as %XX")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("a URL of scheme %q: use https:// or http://", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("a URL without a host: write it as %s://host/path", u.Scheme)
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment (#…), which is never sent: leave it out")
	}
	return u, nil
}

// ours is the header fields that a Config may not set.
func ours() []string {
	return []string{"Content-Length", "Content-Type", "Host", "Idempotency-Key", headerEnvelope, headerFingerprint,
		"Transfer-Encoding", "Trailer", "Connection", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}
}

func checkHeader(h http.Header, haveUser bool) (http.Header, error) {
	out := make(http.Header, len(h)+4)
	for name, values := range h {
		key := http.CanonicalHeaderKey(name)
		for _, o := range ours() {
			if key == o {
				return nil, fmt.Errorf("header field %s is set by the webhook itself: leave it out", key)
			}
		}
		if key == "Authorization" && haveUser {
			return nil, errors.New("header field Authorization, and a user in the URL: give one of them")
		}
		if !isToken(name) {
			return nil, fmt.Errorf("%q is no name for a header field", name)
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, fmt.Errorf("header field %s has a control character in its value: take it out", key)
			}
		}
		out[key] = append(out[key], values...)
	}
	if out.Get("User-Agent") == "" {
		out.Set("User-Agent", "Incoming")
	}
	return out, nil
}

// isToken is RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func newClient(given *http.Client, publicOnly bool) *http.Client {
	var c http.Client
	if given != nil {
		c = *given
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:           dialer(publicOnly).DialContext,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          64,
			MaxIdleConnsPerHost:   64, // as many as there may be workers
			IdleConnTimeout:       90 * time.Second,
			DisableCompression:    true,
			ExpectContinueTimeout: time.Second,
		}
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Deliver posts m, and returns the receiver's verdict. See delivery.Adapter.
func (a *Adapter) Deliver(ctx context.Context, m *queue.Message) error {
	j, err := a.job(m)
	if err != nil {
		return a.named(err)
	}
	if !a.format.single() {
		return a.named(a.post(ctx, j))
	}
	return delivery.Each(func(ctx context.Context, m *queue.Message, rcpt string) error {
		return a.named(a.post(ctx, j.to(rcpt)))
	}).Deliver(ctx, m)
}

func (a *Adapter) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("webhook: POST %s: %w", show(&a.url), err)
}

func (a *Adapter) post(ctx context.Context, j job) error {
	p, err := a.payload(j)
	if err != nil {
		return err
	}
	return a.send(ctx, j.Message, p)
}

// send is one request about m, and the verdict of its answer.
func (a *Adapter) send(ctx context.Context, m *queue.Message, p *payload) error {
	// The end of ctx also ends the reading of the response.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer p.close() // no reader of m may outlive this call
	req, err := a.request(ctx, p)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	ans := answer{
		resp:    resp,
		format:  a.format,
		now:     a.now(),
		snippet: readSome(resp, a.drainIn, cancel),
		request: len(req.Header.Get(headerEnvelope)),
		size:    p.size,
	}
	a.warn(ctx, m, ans)
	if fault := p.err(); fault != nil && ans.done() {
		return fault // it said yes to what it did not get
	}
	return ans.verdict()
}

// request is the POST of p, with all its header fields.
func (a *Adapter) request(ctx context.Context, p *payload) (*http.Request, error) {
	body, err := p.open()
	if err != nil {
		return nil, err
	}
	u := a.url
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = p.size
	// A kept connection may be found closed by the other side; with GetBody
	// the client sends the request on another.
	req.GetBody = p.open
	req.Header = a.header.Clone()
	if a.user != nil {
		password, _ := a.user.Password() // none is the empty one
		req.SetBasicAuth(a.user.Username(), password)
	}
	req.Header.Set("Content-Type", p.contentType)
	maps.Copy(req.Header, p.header)
	stamp := a.now().Unix()
	req.Header.Set("Idempotency-Key", p.id)
	req.Header.Set(sign.HeaderID, p.id)
	req.Header.Set(headerFingerprint, p.fingerprint)
	req.Header.Set(sign.HeaderTimestamp, fmt.Sprint(stamp))
	if len(a.keys) > 0 {
		sig, err := p.sign(a.keys, p.id, stamp)
		if err != nil {
			return nil, err
		}
		req.Header.Set(sign.HeaderSignature, sig)
	}
	return req, nil
}

// cause is why a request had no answer, without the URL that net/http puts in
// front.
func cause(ctx context.Context, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if end := context.Cause(ctx); end != nil && !errors.Is(err, end) {
		return fmt.Errorf("%w (%w)", end, err)
	}
	return err
}

// show is a URL as it may be read by anyone: without user, password and query,
// any of which may be a secret.
func show(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// headerID is id as a header field holds it: any octet that is not printable
// ASCII, and %, as %XX. IDs that we make have none.
func headerID(id queue.ID) string {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
