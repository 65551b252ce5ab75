package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/incoming-mx/incoming/queue"
)

// Format is how a message is sent.
type Format string

const (
	// Multipart sends multipart/form-data: the parts envelope and message.
	Multipart Format = "multipart"
	// Raw sends the message alone, as message/rfc822, and the envelope, the
	// same JSON in ASCII, in the header field Incoming-Envelope. The signature
	// does not cover that field, and receivers bound header fields, often to
	// 8 KiB.
	Raw Format = "raw"
	// Incoming sends all that the message says as JSON, see Parsed.
	Incoming Format = "incoming"

	// The others are what a provider's webhook for incoming mail sends. What
	// there is no such thing for here is left out, as docs/webhooks says.

	// SendGrid is Twilio SendGrid's Inbound Parse, not raw.
	SendGrid Format = "sendgrid"
	// Mailgun is Mailgun's forward() of a route, fully parsed: one request a
	// recipient, signed by the first of Config.Secrets.
	Mailgun Format = "mailgun"
	// Postmark is Postmark's inbound webhook: one request a recipient.
	Postmark Format = "postmark"
	// SES is the notification of an SNS action of Amazon SES, over HTTP, but for
	// Amazon's signature.
	SES Format = "ses"
)

// Formats is all there are.
func Formats() []Format {
	return []Format{Multipart, Raw, Incoming, SendGrid, Mailgun, Postmark, SES}
}

// parses: what the message says is sent, and not the message alone.
func (f Format) parses() bool { return f != Multipart && f != Raw }

// single: a request is for one recipient.
func (f Format) single() bool { return f == Mailgun || f == Postmark }

// to is j for one of its recipients.
func (j job) to(rcpt string) job {
	for _, r := range j.Envelope.RcptTo {
		if r.Address == rcpt {
			j.Message = j.Narrow([]queue.Recipient{r})
			break
		}
	}
	return j
}

// rcpt is the recipient of a job for one.
func (j job) rcpt() string {
	if len(j.Envelope.RcptTo) == 0 {
		return "" // a message that a foreign spool gave no recipients
	}
	return j.Envelope.RcptTo[0].Address
}

// digest is the same each time for a message and a recipient.
func (j job) digest(what string) [sha256.Size]byte {
	return sha256.Sum256([]byte("incoming " + what + "\x00" + string(j.ID) + "\x00" + j.rcpt()))
}

// single makes the ID of a request that is for one recipient another than that of
// the message: a receiver that keeps only the first of one ID would lose the rest.
func (p *payload) single(j job) {
	sum := j.digest("recipient")
	p.id += "." + hex.EncodeToString(sum[:8])
}

// uuid is an identifier in the form of RFC 9562 §5.8, the same each time for a
// message and a recipient.
func (j job) uuid(what string) string {
	b := j.digest(what)
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
