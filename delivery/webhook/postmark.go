package webhook

import (
	"net/mail"
	"slices"
	"strings"

	"github.com/incoming-mx/incoming/mailparse"
)

// postmarkMail is what Postmark's inbound webhook sends, but for Attachments:
// https://postmarkapp.com/developer/webhooks/inbound-webhook
type postmarkMail struct {
	FromName          string
	MessageStream     string
	From              string
	FromFull          postmarkAddress
	To                string
	ToFull            []postmarkAddress
	Cc                string
	CcFull            []postmarkAddress
	Bcc               string
	BccFull           []postmarkAddress
	OriginalRecipient string
	Subject           string
	MessageID         string
	ReplyTo           string
	MailboxHash       string
	Date              string
	TextBody          string
	HtmlBody          string //nolint:revive // Postmark's name
	StrippedTextReply string
	Tag               string
	Headers           []postmarkHeader
}

type postmarkAddress struct{ Email, Name, MailboxHash string }

type postmarkHeader struct{ Name, Value string }

type postmarkFile struct {
	Name          string
	ContentType   string
	ContentLength int64
	ContentID     string `json:",omitempty"` // handlers take one that is there for a picture in the text
}

// postmark is the body for one recipient.
func (p *payload) postmark(j job) error {
	p.single(j)
	m, rcpt := j.mail, j.rcpt()
	var from mail.Address
	if len(m.From) > 0 {
		from = m.From[0]
	}
	_, hash := mailparse.SplitPlus(rcpt)
	out := postmarkMail{
		FromName: from.Name, From: from.Address, FromFull: postmarkAddressOf(from), MessageStream: "inbound",
		To: writtenList(m.To), ToFull: postmarkAddresses(m.To), Cc: writtenList(m.Cc), CcFull: postmarkAddresses(m.Cc),
		BccFull: []postmarkAddress{}, OriginalRecipient: rcpt, Subject: m.Subject, MessageID: j.uuid("postmark"),
		ReplyTo: writtenList(m.ReplyTo), MailboxHash: hash, Date: mailparse.Decode(m.Header.Get("Date")),
		TextBody: plain(m), HtmlBody: m.HTML, StrippedTextReply: postmarkReply(m), Headers: postmarkHeaders(j),
	}
	if !slices.ContainsFunc(slices.Concat(m.To, m.Cc), func(a mail.Address) bool { return strings.EqualFold(a.Address, rcpt) }) {
		out.Bcc, out.BccFull = rcpt, append(out.BccFull, postmarkAddressOf(mail.Address{Address: rcpt}))
	}
	files := make([]file, len(m.Attachments))
	for i, a := range m.Attachments {
		files[i] = file{a, postmarkFile{Name: fileName(a, "attachment"), ContentType: a.Type, ContentLength: a.Size, ContentID: a.ContentID}}
	}
	p.contentType = "application/json"
	var err error
	p.segments, err = withFiles(out, "Attachments", "Content", files)
	return err
}

func postmarkAddressOf(a mail.Address) postmarkAddress {
	_, hash := mailparse.SplitPlus(a.Address)
	return postmarkAddress{Email: a.Address, Name: a.Name, MailboxHash: hash}
}

func postmarkAddresses(list []mail.Address) []postmarkAddress {
	out := make([]postmarkAddress, len(list))
	for i, a := range list {
		out[i] = postmarkAddressOf(a)
	}
	return out
}

// postmarkReply is the reply of a message that is one.
func postmarkReply(m *mailparse.Mail) string {
	reply := m.Reply()
	if len(m.InReplyTo) == 0 && len(m.References) == 0 && reply == strings.TrimSpace(m.Text) {
		return ""
	}
	return reply
}

// postmarkHeaders is the fields that have no name of their own above, below those
// that Postmark adds.
func postmarkHeaders(j job) []postmarkHeader {
	out := []postmarkHeader{{"Return-Path", "<" + j.Envelope.MailFrom + ">"}}
	if auth := readAuthentication(j.Facts); auth.looked() {
		out = append(out, postmarkHeader{"Received-SPF", title(auth.SPF)})
	}
	for f := range j.mail.Header.Fields() {
		switch strings.ToLower(f.Name) {
		case "from", "to", "cc", "bcc", "subject", "reply-to", "date", "return-path":
			continue
		}
		out = append(out, postmarkHeader{f.Name, mailparse.Decode(f.Value())})
	}
	return out
}
