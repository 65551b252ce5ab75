package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/queue"
)

// endOfText is the step whose replies say that a message was taken.
const endOfText = "end of text"

// transaction is one message on one connection.
type transaction struct {
	conn    *connection
	msg     *queue.Message
	results map[string]error // the verdicts so far

	begun bool // the other server has answered something
	clean bool // the connection can be used again
}

// run is MAIL, RCPT for each, DATA, and the replies. Its error is what broke it off,
// for all recipients without a verdict.
func (t *transaction) run(ctx context.Context) error {
	n := int64(len(t.msg.Envelope.RcptTo))
	t.conn.wire.allow(64<<10 + n*4<<10) // two replies each, and some
	defer t.conn.wire.endWith(ctx)()
	to, opts, err := t.prepare()
	if err != nil || len(to) == 0 {
		t.clean = errors.As(err, new(*delivery.RejectError)) || err == nil
		return err
	}
	if err := t.conn.client.Mail(t.from(), opts); err != nil {
		return t.refused("MAIL", err)
	}
	t.begun = true
	accepted, err := t.rcpt(to)
	if err != nil {
		return err
	}
	if len(accepted) == 0 {
		t.clean = t.conn.reset()
		return nil
	}
	text, err := t.conn.client.Data()
	if err != nil {
		return t.refused("DATA", err)
	}
	// Nothing is said from here on but the whole text and the dot behind it. On
	// any error the connection is dropped by the caller.
	if err := t.send(ctx, text); err != nil {
		return err
	}
	return t.end(text, accepted)
}

// recipient is how one is said to the other server.
type recipient struct {
	queue.Recipient
	said string
}

// prepare is the recipients that can be said, and the parameters of MAIL. Those that
// cannot be said have their verdict.
func (t *transaction) prepare() ([]recipient, *smtp.MailOptions, error) {
	env := t.msg.Envelope
	offers := func(name string) bool { ok, _ := t.conn.client.Extension(name); return ok }
	opts := &smtp.MailOptions{Size: t.msg.Size, UTF8: env.SMTPUTF8}
	if most, ok := t.conn.client.MaxMessageSize(); ok && most > 0 && t.msg.Size > int64(most) {
		return nil, nil, rejectf("the message has %d octets, and the other server takes %d", t.msg.Size, most)
	}
	if !sayable(env.MailFrom) {
		return nil, nil, rejectf("the sender %q cannot be said in SMTP", env.MailFrom)
	}
	utf8 := offers("SMTPUTF8")
	if !utf8 {
		if err := t.needsUTF8(); err != nil {
			return nil, nil, err
		}
	}
	if !offers("8BITMIME") {
		if is, err := t.eightBit(); err != nil {
			return nil, nil, err
		} else if is {
			return nil, nil, rejectf("the text is of 8 bits, and the other server does not offer 8BITMIME")
		}
	}
	var to []recipient
	for _, r := range env.RcptTo {
		said := r.Address
		if !utf8 {
			said = inASCII(said)
		}
		switch {
		case said == "" || !sayable(said):
			t.results[r.Address] = rejectf("the address cannot be said in SMTP")
		case !utf8 && !mailbox.IsASCII(said):
			t.results[r.Address] = rejectf("the address is not ASCII, and the other server does not offer SMTPUTF8")
		default:
			opts.UTF8 = opts.UTF8 || !mailbox.IsASCII(said)
			to = append(to, recipient{r, said})
		}
	}
	opts.UTF8 = utf8 && (opts.UTF8 || !mailbox.IsASCII(env.MailFrom))
	if env.Ret == "FULL" || env.Ret == "HDRS" {
		opts.Return = smtp.DSNReturn(env.Ret)
	}
	if printable(env.EnvID) {
		opts.EnvelopeID = env.EnvID
	}
	return to, opts, nil
}

// from is the reverse-path as it is said.
func (t *transaction) from() string {
	if ok, _ := t.conn.client.Extension("SMTPUTF8"); ok {
		return t.msg.Envelope.MailFrom
	}
	return inASCII(t.msg.Envelope.MailFrom)
}

// needsUTF8 is why a message cannot go to a server without SMTPUTF8; nil when it
// can: many a client asks for it without need. A recipient's address is looked at by
// itself.
func (t *transaction) needsUTF8() error {
	if !mailbox.IsASCII(inASCII(t.msg.Envelope.MailFrom)) {
		return rejectf("the sender's address is not ASCII, and the other server does not offer SMTPUTF8")
	}
	if !t.msg.Envelope.SMTPUTF8 {
		return nil
	}
	h, err := t.msg.Header()
	if err != nil {
		return err
	}
	for f := range h.Fields() {
		if !mailbox.IsASCII(string(f.Raw)) {
			return rejectf("the field %s is not ASCII, and the other server does not offer SMTPUTF8", f.Name)
		}
	}
	return nil
}

// eightBit reads the text for an octet that is not ASCII, which is only asked when
// the other server does not offer 8BITMIME (RFC 6152 §3).
func (t *transaction) eightBit() (is bool, err error) {
	text, err := t.msg.Open()
	if err != nil {
		return false, err
	}
	defer text.Close() // it was only read
	buf := make([]byte, 32<<10)
	for {
		n, err := text.Read(buf)
		for _, c := range buf[:n] {
			if c >= 0x80 {
				return true, nil
			}
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// rcpt says each recipient, and returns those that the other server takes.
func (t *transaction) rcpt(to []recipient) (accepted []recipient, err error) {
	for _, r := range to {
		opts := &smtp.RcptOptions{}
		for n := range strings.SplitSeq(r.Notify, ",") {
			switch smtp.DSNNotify(n) {
			case smtp.DSNNotifyNever, smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed:
				opts.Notify = append(opts.Notify, smtp.DSNNotify(n))
			}
		}
		if kind, address, ok := strings.Cut(r.ORcpt, ";"); ok && strings.EqualFold(kind, "rfc822") && printable(address) {
			opts.OriginalRecipientType, opts.OriginalRecipient = smtp.DSNAddressTypeRFC822, address
		}
		switch err := t.conn.client.Rcpt(r.said, opts); {
		case err == nil:
			accepted = append(accepted, r)
		case closing(err) || reply(err) == nil:
			return nil, t.refused("RCPT", err)
		default:
			t.results[r.Address] = verdict("RCPT", err)
		}
	}
	return accepted, nil
}

// send sends the text, and not the dot behind it.
func (t *transaction) send(ctx context.Context, to io.Writer) error {
	text, err := t.msg.Open()
	if err != nil {
		return err
	}
	defer text.Close() // it was only read
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{newLines(text)}, make([]byte, 32<<10)); err != nil {
		return fmt.Errorf("text: %w", err)
	}
	return context.Cause(ctx) // past it this attempt may have been overtaken
}

// end sends the dot and reads the replies.
func (t *transaction) end(text *smtp.DataCommand, accepted []recipient) error {
	if !t.conn.lmtp {
		if _, err := text.CloseWithResponse(); err != nil {
			return t.refused(endOfText, err)
		}
		for _, r := range accepted {
			t.results[r.Address] = nil
		}
		t.clean = true
		return nil
	}
	taken, err := text.CloseWithLMTPResponse()
	var refused smtp.LMTPDataError
	errors.As(err, &refused)
	missing := 0
	for _, r := range accepted {
		why, no := refused[r.said]
		switch _, yes := taken[r.said]; {
		case yes && !no:
			t.results[r.Address] = nil
		case no:
			t.results[r.Address] = verdict(endOfText, why)
			if closing(why) {
				err = errors.New("it is closing")
			}
		default:
			missing++
		}
	}
	t.clean = missing == 0 && (err == nil || reply(err) != nil)
	if missing > 0 {
		return fmt.Errorf(endOfText+": %d of %d replies are missing: %w", missing, len(accepted), err)
	}
	return nil
}

// refused is what an error of a step says of all recipients without a verdict.
func (t *transaction) refused(step string, err error) error {
	if reply(err) == nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	if closing(err) {
		return mended(step, err) // to MAIL it may have been said before, of a kept connection
	}
	t.begun = true
	// Who refuses DATA may read on for a text all the same.
	t.clean = step != "DATA" && reply(err).Code >= 400
	v := verdict(step, err)
	for _, rcpt := range t.msg.Envelope.Addresses() {
		if _, told := t.results[rcpt]; !told {
			t.results[rcpt] = v
		}
	}
	return nil
}

// reply is what the other server said; nil when an error is something else.
func reply(err error) *smtp.SMTPError {
	var r *smtp.SMTPError
	if !errors.As(err, &r) {
		return nil
	}
	return r
}

// closing: the other server says that it ends the connection (RFC 5321 §3.8).
func closing(err error) bool {
	r := reply(err)
	return r != nil && r.Code == 421
}

// verdict is what a reply says of a recipient. Some of 5yz are about how we speak,
// or who we are, which an operator can mend: they are tried again.
func verdict(step string, err error) error {
	r := reply(err)
	if r == nil {
		return err
	}
	switch code := r.Code; {
	case code/100 == 2 && step == endOfText:
		return nil
	case code == 500, code == 502, code == 503, code == 530, code == 534, code == 535, code == 538:
		return mended(step, err)
	case code/100 == 5:
		return delivery.Reject(mended(step, err))
	case code/100 != 4:
		return mended(step, err) // it speaks out of turn
	}
	// The other server answers: it is this recipient that has to wait, and nobody
	// else.
	return &delivery.RetryError{Err: mended(step, err), Contained: true}
}

func rejectf(format string, args ...any) error { return delivery.Reject(fmt.Errorf(format, args...)) }

// sayable: it can stand between angle brackets in a command (RFC 5321 §4.1.2).
func sayable(address string) bool {
	return len(address) <= 1000 && !strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// printable is what the client takes for a DSN parameter.
func printable(s string) bool {
	return s != "" && len(s) <= 500 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// inASCII is an address with its domain in A-labels.
func inASCII(address string) string {
	local, domain, found := mailbox.Split(address)
	if !found || mailbox.IsASCII(domain) {
		return address
	}
	return local + "@" + mailbox.Fold(domain)
}
