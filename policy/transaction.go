package policy

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/smtp"
)

// MaxFacts is the most octets of facts, keys and values together, that one
// message may carry.
const MaxFacts = 16 << 10

// Transaction is what is known so far. A policy reads its fields and changes it
// by its methods only. Between the transactions of one connection all but the
// connection's part is empty.
type Transaction struct {
	// The connection's part, known at StageConnect.
	Session  string         // the session's ID, as in the log
	Listener string         // the listener's name
	Hostname string         // ours
	Peer     netip.AddrPort // invalid for a peer without an IP address
	// TLS is nil in clear.
	TLS *tls.ConnectionState
	// Hello is the name in EHLO or HELO; at StageHello the one in question.
	Hello string
	// MaxMessageSize and MaxRecipients are the engine's limits; negative
	// means none.
	MaxMessageSize int64
	MaxRecipients  int

	// The envelope, from StageMail on. InMail is set from then until the
	// transaction is over, for From may be the null path.
	InMail     bool
	From       smtp.Path
	FromParams smtp.MailParams
	// To is the recipients accepted; at StageRcpt the one in question is
	// the last.
	To []Recipient

	// ID is the message's, from StageHeader on: as in the receipt, the log, and
	// Message.ID.
	ID string
	// Header is the message's header, from StageHeader on.
	Header header.Header
	// Size is the octets of the text so far: at StageMessage, all.
	Size int64

	// OpenText reads the text as it came, from StageHeader on as far as it
	// has come. It is set by the server; policies call Open.
	OpenText func() (io.ReadCloser, error)

	connFacts, txFacts map[string]json.RawMessage
	atConnect          map[string]json.RawMessage // connFacts after StageConnect: never written
	factsSize          int
	sharedFacts        bool // another Transaction reads the maps: copy, then write
	prepend            []byte
	removed            []header.Field

	discardedBy string
	quarantined string
	tapped      io.Writer

	// Of a fork: the texts it has open, and whether it was forked itself for
	// a policy that was given up.
	texts  *texts
	gaveUp bool
}

// Recipient is one RCPT.
type Recipient struct {
	Path   smtp.Path
	Params smtp.RcptParams
}

// Rcpt is the recipient in question at StageRcpt; the zero Recipient when there
// is none.
func (t *Transaction) Rcpt() Recipient {
	if len(t.To) == 0 {
		return Recipient{}
	}
	return t.To[len(t.To)-1]
}

// Open reads the message text as it came. It is for StageHeader, where it ends
// where the text has come to, and StageMessage. The caller closes it before
// Check returns.
func (t *Transaction) Open() (io.ReadCloser, error) {
	if t.OpenText == nil {
		return nil, errors.New("policy: no text to open at this stage")
	}
	return t.OpenText()
}

// SetFact keeps what a policy learned, by the key "policy.name"; v is marshalled
// to JSON. A fact set before MAIL lasts the connection, but those since
// StageConnect no longer than to STARTTLS; another lasts the transaction.
// Setting a key again replaces it. It is an error when v cannot be marshalled or
// all facts together would pass MaxFacts, and when the key begins with "smtp.":
// those are what the server itself found.
func (t *Transaction) SetFact(key string, v any) error {
	if strings.HasPrefix(key, serverFacts) {
		return fmt.Errorf("policy: fact %s: %s is for what the server found", key, serverFacts)
	}
	return t.setFact(key, v)
}

// Found is for the server: it keeps what the server found as the fact "smtp.name".
func (t *Transaction) Found(name string, v any) error { return t.setFact(serverFacts+name, v) }

// serverFacts is what the keys of the server's own facts begin with.
const serverFacts = "smtp."

func (t *Transaction) setFact(key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("policy: fact %s: %w", key, err)
	}
	if t.sharedFacts {
		t.connFacts, t.txFacts = maps.Clone(t.connFacts), maps.Clone(t.txFacts)
		t.sharedFacts = false
	}
	in := t.txFacts
	if !t.InMail {
		in = t.connFacts
	}
	size := t.factsSize + len(key) + len(raw)
	if old, ok := in[key]; ok {
		size -= len(key) + len(old)
	}
	if size > MaxFacts {
		return fmt.Errorf("policy: fact %s: all facts together would pass %d octets", key, MaxFacts)
	}
	t.factsSize = size
	if in == nil {
		in = make(map[string]json.RawMessage)
		if t.InMail {
			t.txFacts = in
		} else {
			t.connFacts = in
		}
	}
	in[key] = raw
	return nil
}

// Fact is the value of one fact; nil when it was not set.
func (t *Transaction) Fact(key string) json.RawMessage {
	if v, ok := t.txFacts[key]; ok {
		return v
	}
	return t.connFacts[key]
}

// Facts is a copy of all facts, those of the transaction over those of the
// connection; nil when there are none.
func (t *Transaction) Facts() map[string]json.RawMessage {
	if len(t.connFacts)+len(t.txFacts) == 0 {
		return nil
	}
	all := make(map[string]json.RawMessage, len(t.connFacts)+len(t.txFacts))
	maps.Copy(all, t.connFacts)
	maps.Copy(all, t.txFacts)
	return all
}

// Prepend puts a header field on top of the message, above those prepended
// before. value is folded already where it is long, without the last line end.
// It is an error when name is no field name or when value has a line end that
// is not a fold or any control character.
func (t *Transaction) Prepend(name, value string) error {
	field, err := formatField(name, value)
	if err != nil {
		return err
	}
	t.prepend = append(field, t.prepend...)
	return nil
}

// Withdraw takes a field out again that was prepended: one of
// header.Parse(t.Prepended()).
func (t *Transaction) Withdraw(f header.Field) {
	end := f.Offset + int64(len(f.Raw))
	if f.Offset < 0 || end > int64(len(t.prepend)) {
		return
	}
	t.prepend = slices.Concat(t.prepend[:f.Offset], t.prepend[end:])
}

// Remove takes a field of Header out of the message: it stays in the stored
// text and is left out when the message is read. A field removed twice is
// removed once.
func (t *Transaction) Remove(f header.Field) {
	for _, r := range t.removed {
		if r.Offset == f.Offset {
			return
		}
	}
	t.removed = append(t.removed, f)
}

// Prepended is the fields prepended, topmost first, each with its line end. It is
// not to be written to.
func (t *Transaction) Prepended() []byte { return t.prepend }

// Removed is the fields removed, in no order.
func (t *Transaction) Removed() []header.Field { return t.removed }

// Discarded is the name of the policy by which the message is to be told 250 and
// forgotten; "" when it is not.
func (t *Transaction) Discarded() string { return t.discardedBy }

// Quarantined is why the message is marked, several reasons joined by "; "; ""
// when it is not.
func (t *Transaction) Quarantined() string { return t.quarantined }

// quarantine adds a reason, once, as far as maxReason goes.
func (t *Transaction) quarantine(reason string) {
	switch {
	case t.quarantined == "":
		t.quarantined = bounded(reason)
	case !slices.Contains(strings.Split(t.quarantined, "; "), reason):
		t.quarantined = bounded(t.quarantined + "; " + reason)
	}
}

// Tapped is, at StageHeader and StageMessage, the writer that this policy's Tap returned; nil
// when there is none.
func (t *Transaction) Tapped() io.Writer { return t.tapped }

// Connected is for the server: StageConnect is over.
func (t *Transaction) Connected() { t.atConnect, t.sharedFacts = t.connFacts, true }

// Secured is for the server: TLS has begun on a connection in clear. What the
// client said before counts no more (RFC 3207 §4.2): its hello, and the facts
// learned since StageConnect.
func (t *Transaction) Secured(state *tls.ConnectionState) {
	t.Hello, t.TLS = "", state
	t.connFacts, t.sharedFacts = t.atConnect, true
	t.Reset()
}

// Begin is for the server: a transaction begins with an accepted syntax of MAIL.
func (t *Transaction) Begin(from smtp.Path, p smtp.MailParams) {
	t.Reset()
	t.InMail, t.From, t.FromParams = true, from, p
}

// Reset is for the server: the transaction is over, the connection's part stays.
func (t *Transaction) Reset() {
	t.InMail, t.From, t.FromParams, t.To = false, smtp.Path{}, smtp.MailParams{}, nil
	t.ID, t.Header, t.Size, t.OpenText = "", header.Header{}, 0, nil
	t.txFacts, t.prepend, t.removed = nil, nil, nil
	t.discardedBy, t.quarantined, t.tapped = "", "", nil
	t.factsSize = 0
	for k, v := range t.connFacts {
		t.factsSize += len(k) + len(v)
	}
}

func formatField(name, value string) ([]byte, error) {
	if name == "" {
		return nil, errors.New("policy: prepend: empty field name")
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return nil, fmt.Errorf("policy: prepend: %q is no field name", name)
		}
	}
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\r':
			if i+2 >= len(value) || value[i+1] != '\n' || (value[i+2] != ' ' && value[i+2] != '\t') {
				return nil, fmt.Errorf("policy: prepend %s: a CR that does not begin a fold", name)
			}
		case c == '\n':
			if i == 0 || value[i-1] != '\r' {
				return nil, fmt.Errorf("policy: prepend %s: a bare LF", name)
			}
		case c < ' ' && c != '\t', c == 0x7f:
			return nil, fmt.Errorf("policy: prepend %s: a control character", name)
		}
	}
	return []byte(name + ": " + value + "\r\n"), nil
}
