// Package httppolicy asks an application of the operator's over HTTP whether mail
// may go on: one POST of JSON a stage, and an action back, with facts and header
// fields for the message. It is asked at the stages that it is made for, and no
// others; the text of a message is not sent.
package httppolicy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/incoming-mx/incoming/internal/ask"
	"github.com/incoming-mx/incoming/internal/sign"
	"github.com/incoming-mx/incoming/policy"
)

// DefaultTimeout is how long the application has for one answer.
const DefaultTimeout = 5 * time.Second

// MaxAnswer is the most octets of an answer.
const MaxAnswer = 64 << 10

// Options is how the application is asked. URL and Stages are required.
type Options struct {
	// URL is http or https. A user and password in it are sent as Basic
	// authorization.
	URL string
	// Stages is when it is asked.
	Stages []policy.Stage
	// Secrets sign each request, as those of the webhook do: nil leaves it
	// unsigned, and with several there are as many signatures.
	Secrets []string
	// Timeout is for one answer; 0 is DefaultTimeout, negative none. It should
	// end before the policies' own deadline does, so that OnFailure is what is
	// done.
	Timeout time.Duration
	// OnFailure is what becomes of mail when the application cannot be reached,
	// is late, or makes no sense.
	OnFailure policy.FailureAction
}

// Policy asks the application. It is used by many sessions at once.
type Policy struct {
	filter  policy.External
	program *ask.Program
	stages  []policy.Stage
	keys    [][]byte
}

var _ policy.Policy = (*Policy)(nil)

// New makes the policy. Nothing is connected by it.
func New(o Options) (*Policy, error) {
	program, err := ask.New(o.URL, MaxAnswer)
	if err != nil {
		return nil, fmt.Errorf("http_policy: %w", err)
	}
	if len(o.Stages) == 0 {
		return nil, errors.New("http_policy: no stages: name those at which the application is to be asked")
	}
	p := &Policy{program: program, stages: slices.Clone(o.Stages),
		filter: policy.External{Name: "http_policy " + program.Host(), Timeout: cmp.Or(o.Timeout, DefaultTimeout), OnFailure: o.OnFailure}}
	for i, secret := range o.Secrets {
		key, err := sign.Key(secret)
		if err != nil {
			return nil, fmt.Errorf("http_policy: secret %d of %d: %w", i+1, len(o.Secrets), err)
		}
		p.keys = append(p.keys, key)
	}
	return p, nil
}

// Name is "http_policy".
func (p *Policy) Name() string { return "http_policy" }

// Asks implements policy.Asker.
func (p *Policy) Asks(stage policy.Stage) bool { return slices.Contains(p.stages, stage) }

// Check asks the application at the stages it is made for.
func (p *Policy) Check(ctx context.Context, stage policy.Stage, t *policy.Transaction) error {
	if !p.Asks(stage) {
		return nil
	}
	question, err := json.Marshal(questionAt(stage, t))
	if err != nil {
		return fmt.Errorf("http_policy: the question: %w", err)
	}
	return p.filter.Ask(ctx, func(ctx context.Context) (error, error) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(question)), nil }
		text, err := p.program.Post(ctx, p.header(question), int64(len(question)), open)
		if err != nil {
			return nil, err
		}
		a, err := parse(text)
		if err != nil {
			return nil, err
		}
		return a.act(stage, t)
	})
}

// header is the request's, signed.
func (p *Policy) header(question []byte) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"incoming"}}
	if len(p.keys) > 0 {
		id, stamp := rand.Text(), time.Now().Unix()
		s := sign.New(p.keys, id, stamp)
		_, _ = s.Write(question) // a hash never fails
		h.Set(sign.HeaderID, id)
		h.Set(sign.HeaderTimestamp, strconv.FormatInt(stamp, 10))
		h.Set(sign.HeaderSignature, s.Signatures())
	}
	return h
}
