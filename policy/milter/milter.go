// Package milter asks mail filters that speak the milter protocol, version 6 and
// older: rspamd, OpenDKIM, clamav-milter and their like. Each filter is one
// [policy.Policy]; several are several policies, asked in their order, and each
// is shown the header as those before it have left it.
//
// The conversation about a message is held when its text is in, over a connection
// to the filter of its own: connect, hello, sender, recipients, header, body, end.
// The body streams from the draft. A filter may refuse, defer, discard and
// quarantine, and add, change and remove header fields: these changes are made
// when the message is committed, the text itself stays as it came. Changes of
// body, sender and recipients are not offered; a filter that makes one all the
// same has failed.
package milter

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/policy"
)

// DefaultTimeout is how long a filter has for one conversation.
const DefaultTimeout = 10 * time.Second

// Options is a filter. The zero value of all but Address is the default.
type Options struct {
	// Address is where the filter listens: "inet:host:port" or "unix:/path".
	Address string
	// Timeout is for a whole conversation, connecting included; 0 is
	// DefaultTimeout, negative none. It should end before the policies' own
	// deadline does, so that OnFailure is what is done.
	Timeout time.Duration
	// OnFailure is what becomes of mail when the filter cannot be reached, is
	// late, or makes no sense.
	OnFailure policy.FailureAction
	// Early asks the filter about each recipient too, in a conversation that
	// ends there, so that what it refuses of a client, a sender or a recipient is
	// refused at RCPT, and of several recipients that one alone. Without it a
	// filter that refuses one of the recipients refuses the message.
	Early bool
}

// Milter is the policy of one filter. It is used by many sessions at once.
type Milter struct {
	filter           policy.External
	network, address string
	early            bool
}

var _ policy.Policy = (*Milter)(nil)

// New makes the policy of a filter. Nothing is connected by it; the error is of an
// address that is none.
func New(o Options) (*Milter, error) {
	network, address, err := parseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	filter := policy.External{Name: "milter " + o.Address, Timeout: cmp.Or(o.Timeout, DefaultTimeout), OnFailure: o.OnFailure}
	return &Milter{filter: filter, network: network, address: address, early: o.Early}, nil
}

// parseAddress takes an address as Options.Address says.
func parseAddress(s string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "unix":
		if rest != "" {
			return "unix", rest, nil
		}
	case "inet":
		host, port, err := net.SplitHostPort(rest)
		if err == nil && host != "" && port != "" && !strings.Contains(port, "@") {
			return "tcp", rest, nil
		}
	}
	return "", "", fmt.Errorf("milter: %q is no address of a filter; write inet:127.0.0.1:11332 or unix:/run/filter.sock", s)
}

// Name is "milter".
func (m *Milter) Name() string { return "milter" }

// Asks implements policy.Asker: it is true of StageMessage, and with Options.Early of StageRcpt.
func (m *Milter) Asks(stage policy.Stage) bool {
	return stage == policy.StageMessage || stage == policy.StageRcpt && m.early
}

// Check holds a conversation: at StageMessage about the message, at StageRcpt,
// with Options.Early, about the recipient in question.
func (m *Milter) Check(ctx context.Context, stage policy.Stage, t *policy.Transaction) error {
	if !m.Asks(stage) {
		return nil
	}
	return m.filter.Ask(ctx, func(ctx context.Context) (error, error) {
		c := &conversation{t: t, macros: macrosOf(t), at: "connect"}
		if err := m.hold(ctx, c, stage); err != nil {
			return nil, fmt.Errorf("%s: %w", c.at, err)
		}
		return c.verdict(), nil
	})
}

// hold connects and talks; the session is closed when ctx ends, and after it.
func (m *Milter) hold(ctx context.Context, c *conversation, stage policy.Stage) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, m.network, m.address)
	if err != nil {
		return err
	}
	defer nc.Close() // what it says of a session that is over is nobody's concern
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c.s, err = open(nc, c.macros)
	if err != nil {
		return err
	}
	if err := c.talk(stage); err != nil {
		return err
	}
	_ = c.s.Close() // it has answered; how it takes our leave changes nothing
	return nil
}
