// Package rspamd asks rspamd about each message over HTTP, when its text is in: one
// request to its normal worker, the text streamed from the draft. What rspamd
// decides is done: its reject and soft reject are replies, the header fields that
// it wants are prepended, and its score, action and symbols are facts.
package rspamd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/ask"
	"github.com/incoming-mx/incoming/policy"
)

// DefaultTimeout is how long rspamd has for one message.
const DefaultTimeout = 10 * time.Second

// mostAnswer is the most octets of an answer.
const mostAnswer = 1 << 20

// Options is how rspamd is asked. The zero value of all but URL is the default.
type Options struct {
	// URL is that of its normal worker: "http://127.0.0.1:11333". A path but "/"
	// is asked in the place of /checkv2.
	URL string
	// Password is what the worker wants in the header field Password; "" is
	// none.
	Password string
	// Timeout is for one message; 0 is DefaultTimeout, negative none. It should
	// end before the policies' own deadline does, so that OnFailure is what is
	// done.
	Timeout time.Duration
	// OnFailure is what becomes of mail when rspamd cannot be reached, is late,
	// or makes no sense.
	OnFailure policy.FailureAction
	// MaxSize is the most octets of a message that rspamd is asked about; 0 and
	// negative are no limit. A larger one is let pass with the fact
	// rspamd.action "skipped": the worker refuses what is past its own limit,
	// and that is a failure.
	MaxSize int64
}

// Rspamd is the policy. It is used by many sessions at once.
type Rspamd struct {
	filter   policy.External
	program  *ask.Program
	password string
	maxSize  int64
}

var _ policy.Policy = (*Rspamd)(nil)

// New makes the policy. Nothing is connected by it.
func New(o Options) (*Rspamd, error) {
	at := o.URL
	if scheme, rest, ok := strings.Cut(at, "://"); ok && !strings.Contains(strings.TrimSuffix(rest, "/"), "/") {
		at = scheme + "://" + strings.TrimSuffix(rest, "/") + "/checkv2"
	}
	program, err := ask.New(at, mostAnswer)
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	return &Rspamd{program: program, password: o.Password, maxSize: o.MaxSize,
		filter: policy.External{Name: "rspamd " + program.Host(), Timeout: cmp.Or(o.Timeout, DefaultTimeout), OnFailure: o.OnFailure}}, nil
}

// Name is "rspamd".
func (r *Rspamd) Name() string { return "rspamd" }

// Asks implements policy.Asker: it is true of StageMessage.
func (r *Rspamd) Asks(stage policy.Stage) bool { return stage == policy.StageMessage }

// Check asks rspamd about the message at StageMessage.
func (r *Rspamd) Check(ctx context.Context, stage policy.Stage, t *policy.Transaction) error {
	switch {
	case !r.Asks(stage):
		return nil
	case r.maxSize > 0 && t.Size > r.maxSize:
		return t.SetFact("rspamd.action", "skipped")
	}
	return r.filter.Ask(ctx, func(ctx context.Context) (error, error) {
		text, err := r.program.Post(ctx, r.header(t), t.Size, func() (io.ReadCloser, error) { return t.Open() })
		if err != nil {
			return nil, err
		}
		a, err := parse(text)
		if err != nil {
			return nil, err
		}
		return a.act(t)
	})
}

// header is what rspamd is told of the message, in its header fields.
func (r *Rspamd) header(t *policy.Transaction) http.Header {
	h := http.Header{}
	set := func(name string, values ...string) {
		for _, v := range values {
			// Addresses may have what a field of HTTP has not.
			v = strings.Map(func(c rune) rune {
				if c < ' ' || c == 0x7f {
					return -1
				}
				return c
			}, v)
			if v != "" {
				h.Add(name, v)
			}
		}
	}
	if addr := t.Peer.Addr().Unmap(); addr.IsValid() {
		set("IP", addr.String())
	}
	set("Helo", t.Hello)
	set("From", cmp.Or(t.From.String(), "<>"))
	for _, to := range t.To {
		set("Rcpt", to.Path.String())
	}
	set("Queue-Id", t.ID)
	set("MTA-Name", t.Hostname)
	set("MTA-Tag", t.Listener)
	if t.TLS != nil {
		set("TLS-Version", strings.Replace(tls.VersionName(t.TLS.Version), " ", "v", 1))
		set("TLS-Cipher", tls.CipherSuiteName(t.TLS.CipherSuite))
	}
	set("Password", r.password)
	set("User-Agent", "incoming")
	return h
}
